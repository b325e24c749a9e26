//! The interface of all clients, and the table of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::buildkit::Buildkit;
use super::built::Built;
use super::containerd::{Containerd, NEWEST};
use super::containers_storage::{BUILDAH, ContainersStorage, PODMAN};
use super::dockerd::Dockerd;
use super::one_shot::{self, OneShot};
use super::tools;
use super::way::{Door, Wanted, Way};
use super::work::Work;

/// A program that pulls and pushes images, with whatever it keeps them in.
pub(crate) trait Client {
    /// Pulls, checks that all of it came, and drops it, so that the next pull has to fetch it
    /// again.
    ///
    /// (dockerd keeps manifests for a while, and asks for them then or not.)
    fn pull(&self, way: &Way<'_>, wanted: &Wanted<'_>) -> Result<(), String>;

    /// Logs in as its users do, in place of an earlier login. Some clients only remember it, and
    /// find out with the next pull what it is worth.
    fn log_in(&self, way: &Way<'_>, login: Login) -> Result<(), String>;

    /// Pushes an image to a repository, under the tag that it has, and keeps what it loaded for
    /// that.
    fn push(&self, way: &Way<'_>, built: &Built, repository: &str) -> Result<(), String>;
}

/// A user and a password.
#[derive(Clone, Copy)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

impl Login {
    /// As arguments of nearly every client's `login`.
    pub(crate) fn arguments(&self) -> [&'static str; 4] {
        ["--username", self.user, "--password", self.password]
    }

    /// As the value of `Authorization`.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(self.to_string()))
    }
}

impl std::fmt::Display for Login {
    /// As Basic has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user, self.password)
    }
}

/// A client that the tests know.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The programs that `requires!` wants for it, its own first.
    pub(crate) tools: &'static [&'static str],
    /// The argument with which that program says its version.
    pub(crate) version: &'static str,
    /// By which it can be sent to a registry, over plain HTTP and over TLS alike.
    pub(crate) doors: &'static [Door],
    /// With nothing in its store, for pulls by one way.
    pub(crate) start: fn(&Work, &Way<'_>) -> Box<dyn Client>,
}

impl Kind {
    /// The program's version, on one line.
    pub(crate) fn version(&self) -> String {
        let said = tools::run(tools::command(self.tools[0]).arg(self.version));
        let said = said.unwrap_or_else(|error| error);
        let first = said.lines().next().unwrap_or("(no version)");
        first.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

pub(crate) const KINDS: [&Kind; 10] = [
    &Kind {
        name: "dockerd",
        tools: &["dockerd", "docker", "containerd", "ctr", "runc", "root"],
        version: "--version",
        doors: NAMED,
        start: |work, way| Box::new(Dockerd::start(work, way)),
    },
    &Kind {
        name: "containerd",
        tools: &["containerd", "ctr", "root"],
        version: "--version",
        doors: ALL,
        start: |work, _| Box::new(Containerd::start(work)),
    },
    &Kind {
        name: "newest-containerd",
        tools: &["newest/containerd", "newest/ctr", "root"],
        version: "--version",
        doors: ALL,
        start: |work, _| Box::new(Containerd::of_version(work, NEWEST)),
    },
    // Stands for the containerd and the Docker of today.
    &Kind {
        name: "containerd-pull",
        tools: &["containerd-pull"],
        version: "--version",
        doors: ALL,
        start: |work, _| {
            let (pull, log_in) = (one_shot::containerd_pull, one_shot::containerd_pull_login);
            let client = OneShot::logging_in(work, pull, log_in);
            Box::new(client.pushing(one_shot::containerd_push))
        },
    },
    &Kind {
        name: "podman",
        tools: &["podman", "root"],
        version: "--version",
        doors: NAMED,
        start: |work, _| Box::new(ContainersStorage::new(work, &PODMAN)),
    },
    &Kind {
        name: "buildah",
        tools: &["buildah", "root"],
        version: "--version",
        doors: NAMED,
        start: |work, _| Box::new(ContainersStorage::new(work, &BUILDAH)),
    },
    &Kind {
        name: "skopeo",
        tools: &["skopeo"],
        version: "--version",
        doors: NAMED,
        start: |work, _| {
            let client = OneShot::logging_in(work, one_shot::skopeo, one_shot::skopeo_login);
            Box::new(client.pushing(one_shot::skopeo_push))
        },
    },
    &Kind {
        name: "crane",
        tools: &["crane"],
        version: "version",
        doors: NAMED,
        start: |work, _| {
            let client = OneShot::logging_in(work, one_shot::crane, one_shot::crane_login);
            Box::new(client.pushing(one_shot::crane_push))
        },
    },
    &Kind {
        name: "regctl",
        tools: &["regctl"],
        version: "version",
        doors: NAMED,
        start: |work, _| {
            let client = OneShot::logging_in(work, one_shot::regctl, one_shot::regctl_login);
            Box::new(client.pushing(one_shot::regctl_push))
        },
    },
    &Kind {
        name: "oras",
        tools: &["oras"],
        version: "version",
        doors: NAMED,
        start: |work, _| {
            let client = OneShot::logging_in(work, one_shot::oras, one_shot::oras_login);
            Box::new(client.pushing(one_shot::oras_push))
        },
    },
];

/// It pulls for its builds, and the tests of pushes and of log-ins are not for it.
pub(crate) const BUILDKIT: &Kind = &Kind {
    name: "buildkit",
    tools: &["buildkitd", "buildctl", "runc", "root"],
    version: "--version",
    doors: &[Door::Ns, Door::Mirror, Door::Prefix, Door::Host],
    start: |work, way| Box::new(Buildkit::start(work, way)),
};

/// The doors for clients that can name a registry only in the name of the image.
const NAMED: &[Door] = &[Door::Mirror, Door::Prefix, Door::Host];

/// The doors for clients that read a hosts.toml.
const ALL: &[Door] = &[Door::Ns, Door::Registry, Door::Mirror, Door::Prefix, Door::Host];
