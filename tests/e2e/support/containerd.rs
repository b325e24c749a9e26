//! containerd on directories and a socket of its own, and `ctr` to talk to it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::built::Built;
use super::client::{Client, Login};
use super::process::Process;
use super::way::{Wanted, Way};
use super::work::Work;
use super::{hosts_toml, tools};

/// A containerd, and the `ctr` of its version.
#[derive(Clone, Copy)]
pub(crate) struct ContainerdVersion {
    daemon: &'static str,
    ctr: &'static str,
}

/// The distribution's package.
pub(crate) const PACKAGED: ContainerdVersion =
    ContainerdVersion { daemon: "containerd", ctr: "ctr" };

/// The one of `tests/tools/newest`.
pub(crate) const NEWEST: ContainerdVersion =
    ContainerdVersion { daemon: "newest/containerd", ctr: "newest/ctr" };

/// A running containerd.
pub(crate) struct Containerd {
    version: ContainerdVersion,
    pub(crate) socket: PathBuf,
    hosts: PathBuf,
    /// The login that each pull is given; containerd itself keeps none.
    login: Cell<Option<Login>>,
    /// The port of the egress proxy by which it goes, if there is one.
    proxy: Option<u16>,
    _process: Process,
}

impl Containerd {
    pub(crate) fn start(work: &Work) -> Self {
        Self::of_version(work, PACKAGED)
    }

    pub(crate) fn of_version(work: &Work, version: ContainerdVersion) -> Self {
        let socket = work.sockets().join("containerd.sock");
        let ttrpc = work.sockets().join("containerd.ttrpc");
        let config = format!(
            "version = 2\n\
             root = \"{}\"\n\
             state = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n\
             [ttrpc]\naddress = \"{}\"\n\
             {UNPACK}",
            work.new_dir("containerd").display(),
            work.sockets().join("containerd").display(),
            socket.display(),
            ttrpc.display(),
        );
        let config = work.file("containerd.toml", &config);

        let mut command = tools::command(version.daemon);
        command.arg("--config").arg(&config);
        let mut process = Process::spawn("containerd", &command, &work.log("containerd.log"));
        process.wait_until_ready(|| {
            ctr(version, &socket).args(["version"]).output().is_ok_and(|out| out.status.success())
        });
        let (hosts, login) = (work.new_dir("hosts"), Cell::new(None));
        Self { version, socket, hosts, login, proxy: None, _process: process }
    }

    /// Has `ctr` go by the proxy at this port.
    pub(crate) fn behind(self, proxy: u16) -> Self {
        Self { proxy: Some(proxy), ..self }
    }

    /// `ctr` for what leads to a registry.
    fn ctr_outwards(&self) -> Command {
        let mut command = ctr(self.version, &self.socket);
        if let Some(port) = self.proxy {
            tools::send_by(&mut command, port);
        }
        command
    }

    /// `ctr`, told which daemon to talk to.
    pub(crate) fn ctr(&self) -> Command {
        let mut command = ctr(self.version, &self.socket);
        // Its plain copies work on any file system; overlayfs does not.
        command.env("CONTAINERD_SNAPSHOTTER", "native");
        command
    }

    fn content(&self) -> Result<String, String> {
        tools::run(ctr(self.version, &self.socket).args(["content", "ls", "-q"]))
    }
}

impl Client for Containerd {
    /// Unpacks it, too; containerd checks digests itself.
    fn pull(&self, way: &Way<'_>, wanted: &Wanted<'_>) -> Result<(), String> {
        let name = wanted.at(&hosts_toml::write(&self.hosts, way));
        let mut pull = self.ctr_outwards();
        // Its plain copies work on any file system; overlayfs does not.
        pull.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]).arg(&self.hosts);
        if let Some(login) = self.login.get() {
            pull.args(["--user", &login.to_string()]);
        }
        tools::run(pull.args(["--platform", &wanted.image.platform, &name]))?;
        let content = self.content()?;
        for digest in wanted.image.digests() {
            assert!(content.contains(digest), "{digest} is not in {content}");
        }

        tools::run(ctr(self.version, &self.socket).args(["images", "rm", "--sync", &name]))?;
        assert_eq!(self.content()?.trim(), "", "so that the next pull has to fetch it again");
        Ok(())
    }

    fn log_in(&self, _: &Way<'_>, login: Login) -> Result<(), String> {
        self.login.set(Some(login));
        Ok(())
    }

    fn push(&self, way: &Way<'_>, built: &Built, repository: &str) -> Result<(), String> {
        let place = hosts_toml::write(&self.hosts, way);
        let name = format!("{place}/{repository}:{}", built.tag);
        let ctr = || ctr(self.version, &self.socket);
        tools::run(ctr().args(["images", "import", "--no-unpack"]).arg(&built.archive))?;
        // It completes the names that it loads as docker does.
        let loaded = format!("docker.io/library/{}", built.name());
        tools::run(ctr().args(["images", "tag", "--force", &loaded, &name]))?;
        let mut push = self.ctr_outwards();
        push.args(["images", "push", "--hosts-dir"]).arg(&self.hosts);
        if let Some(login) = self.login.get() {
            push.args(["--user", &login.to_string()]);
        }
        tools::run(push.arg(&name)).map(drop)
    }
}

fn ctr(version: ContainerdVersion, socket: &Path) -> Command {
    let mut command = tools::command(version.ctr);
    command.arg("-a").arg(socket);
    command
}

/// The snapshotter of version 2: plain copies work on any file system; overlayfs does not.
const UNPACK: &str = "[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n\
                      platform = \"linux\"\n\
                      snapshotter = \"native\"\n";
