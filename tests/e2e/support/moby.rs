//! The newest dockerd. It is talked to by its API: the distribution's `docker` is too old for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::containerd::{Containerd, NEWEST};
use super::process::Process;
use super::tools;
use super::work::Work;

/// The place in which it keeps images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageStore {
    /// The one of dockerd itself, as before version 29.
    Own,
    /// The one of containerd.
    Containerd,
}

/// A running dockerd.
pub(crate) struct Moby {
    socket: PathBuf,
    /// Ends before the containerd that it uses.
    _process: Process,
    _containerd: Containerd,
}

impl ImageStore {
    /// The `daemon.json` for it, on any file system.
    pub(crate) fn options(self) -> Value {
        let (is_containerd, driver) = match self {
            Self::Own => (false, "vfs"),
            Self::Containerd => (true, "native"),
        };
        json!({ "features": { "containerd-snapshotter": is_containerd }, "storage-driver": driver })
    }
}

impl Moby {
    /// With a `daemon.json`, and more arguments.
    ///
    /// Touches neither the machine's network nor a dockerd or containerd that runs already.
    pub(crate) fn start(work: &Work, config: &Path, more: impl FnOnce(&mut Command)) -> Self {
        let containerd = Containerd::of_version(work, NEWEST);
        let socket = work.sockets().join("moby.sock");
        let mut command = tools::command("newest/dockerd");
        command.arg("--config-file").arg(config);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.args(["--userland-proxy=false", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        more(&mut command);
        command.arg("--containerd").arg(&containerd.socket);
        command.arg("--data-root").arg(work.new_dir("moby"));
        command.arg("--exec-root").arg(work.sockets().join("moby"));
        command.arg("--pidfile").arg(work.sockets().join("moby.pid"));
        command.arg("-H").arg(format!("unix://{}", socket.display()));
        let mut process = Process::spawn("dockerd", &command, &work.log("moby.log"));
        process.wait_until_ready(|| tools::run(&mut request(&socket, "GET", "/info")).is_ok());
        Self { socket, _process: process, _containerd: containerd }
    }

    /// Pulls `library/NAME:TAG` for a platform.
    pub(crate) fn pull(&self, name: &str, tag: &str, platform: &str) -> Result<(), String> {
        let path = format!("/images/create?fromImage={name}&tag={tag}&platform={platform}");
        let said = tools::run(&mut request(&self.socket, "POST", &path))?;
        if said.contains("errorDetail") { Err(said) } else { Ok(()) }
    }

    /// Gives an image another name.
    pub(crate) fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), String> {
        let path = format!("/images/{image}/tag?repo={repository}&tag={tag}");
        tools::run(&mut request(&self.socket, "POST", &path)).map(drop)
    }

    /// `docker save` of images.
    pub(crate) fn save(&self, images: &[&str], into: &Path) -> Result<(), String> {
        let names: Vec<_> = images.iter().map(|image| format!("names={image}")).collect();
        let path = format!("/images/get?{}", names.join("&"));
        tools::run(request(&self.socket, "GET", &path).arg("-o").arg(into)).map(drop)
    }
}

fn request(socket: &Path, method: &str, path: &str) -> Command {
    let mut curl = tools::command("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "-X", method, "--unix-socket"]);
    curl.arg(socket).arg(format!("http://dockerd{path}"));
    curl
}
