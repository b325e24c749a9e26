//! dockerd with a registry mirror, on directories and sockets of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::containerd::Containerd;
use super::image::Image;
use super::process::Process;
use super::tools;
use super::work::Work;

/// A running dockerd.
pub(crate) struct Dockerd {
    socket: PathBuf,
    /// Ends before the containerd that it uses.
    _process: Process,
    _containerd: Containerd,
}

impl Dockerd {
    /// Touches neither the machine's network nor a dockerd or containerd that runs already.
    pub(crate) fn mirrored_by(work: &Work, mirror: &str) -> Self {
        tools::print_version("dockerd", "--version");
        tools::print_version("docker", "--version");
        let containerd = Containerd::start(work);
        let socket = work.sockets().join("docker.sock");

        let mut command = tools::command("dockerd");
        // No file of this machine's own daemon.
        command.arg("--config-file").arg(work.file("daemon.json", "{}"));
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        command.arg("--registry-mirror").arg(format!("http://{mirror}"));
        command.arg("--containerd").arg(&containerd.socket);
        command.arg("--data-root").arg(work.dir("docker"));
        command.arg("--exec-root").arg(work.sockets().join("docker"));
        command.arg("--pidfile").arg(work.sockets().join("docker.pid"));
        command.arg("-H").arg(format!("unix://{}", socket.display()));
        let mut process = Process::spawn("dockerd", &command, &work.log("dockerd.log"));
        process.wait_until_ready(|| {
            docker(&socket).arg("info").output().is_ok_and(|output| output.status.success())
        });
        Self { socket, _process: process, _containerd: containerd }
    }

    /// Pulls it by its short name; dockerd checks digests itself.
    pub(crate) fn pull(&self, image: &Image) -> Result<(), String> {
        let name = named(image);
        tools::run(docker(&self.socket).args(["pull", &name]))?;
        let format = "--format={{.RepoDigests}}";
        let digests = tools::run(docker(&self.socket).args(["image", "inspect", format, &name]))?;
        assert!(digests.contains(&image.index), "{digests}");
        Ok(())
    }

    /// Runs a command in a container without a network; what it printed.
    pub(crate) fn run(&self, image: &Image, arguments: &[&str]) -> Result<String, String> {
        let mut run = docker(&self.socket);
        run.args(["run", "--rm", "--network=none", "--pull=never", &named(image)]);
        tools::run(run.args(arguments))
    }

    pub(crate) fn forget(&self, image: &Image) -> Result<(), String> {
        tools::run(docker(&self.socket).args(["rmi", "--force", &named(image)]))?;
        let left = tools::run(docker(&self.socket).args(["images", "--all", "--quiet"]))?;
        assert_eq!(left.trim(), "", "the image was removed, so a pull has to fetch it again");
        Ok(())
    }
}

fn docker(socket: &Path) -> Command {
    let mut command = tools::command("docker");
    // An empty directory: nobody's log-ins, proxies or contexts.
    command.arg("--config").arg(socket.with_extension("config"));
    command.arg("-H").arg(format!("unix://{}", socket.display()));
    command
}

/// `debian:bookworm`, as people type it.
fn named(image: &Image) -> String {
    format!("{}:{}", image.repository.trim_start_matches("library/"), image.tag)
}
