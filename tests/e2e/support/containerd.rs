//! containerd on directories and a socket of its own, and `ctr` to talk to it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::Image;
use super::process::Process;
use super::tools;
use super::work::Work;

/// A running containerd.
pub(crate) struct Containerd {
    pub(crate) socket: PathBuf,
    /// `<dir>/docker.io/hosts.toml`
    hosts: PathBuf,
    _process: Process,
}

impl Containerd {
    pub(crate) fn start(work: &Work) -> Self {
        tools::print_version("containerd", "--version");
        let socket = work.sockets().join("containerd.sock");
        let ttrpc = work.sockets().join("containerd.ttrpc");
        let config = format!(
            "version = 2\n\
             root = \"{}\"\n\
             state = \"{}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n\
             [ttrpc]\naddress = \"{}\"\n",
            work.dir("containerd").display(),
            work.sockets().join("containerd").display(),
            socket.display(),
            ttrpc.display(),
        );
        let config = work.file("containerd.toml", &config);

        let mut command = tools::command("containerd");
        command.arg("--config").arg(&config);
        let mut process = Process::spawn("containerd", &command, &work.log("containerd.log"));
        process.wait_until_ready(|| {
            ctr(&socket).args(["version"]).output().is_ok_and(|out| out.status.success())
        });
        Self { socket, hosts: work.dir("hosts"), _process: process }
    }

    /// Sends everything for docker.io to `mirror`, its last resort (`server`) included.
    pub(crate) fn mirrored_by(self, mirror: &str) -> Self {
        let dir = self.hosts.join("docker.io");
        let hosts = format!(
            "server = \"http://{mirror}\"\n\n\
             [host.\"http://{mirror}\"]\n\
             capabilities = [\"pull\", \"resolve\"]\n"
        );
        std::fs::create_dir_all(&dir).expect("the test's directory can be written");
        std::fs::write(dir.join("hosts.toml"), hosts).expect("a new file can be written");
        self
    }

    /// Pulls it and unpacks it; containerd checks digests itself.
    pub(crate) fn pull(&self, image: &Image) -> Result<(), String> {
        let mut pull = ctr(&self.socket);
        // Its plain copies work on any file system; overlayfs does not.
        pull.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]).arg(&self.hosts);
        tools::run(pull.arg(named(image)))?;

        let images = tools::run(ctr(&self.socket).args(["images", "ls"]))?;
        assert!(images.contains(&image.index), "{images}");
        Ok(())
    }

    /// Removes it, and waits until its content is gone.
    pub(crate) fn forget(&self, image: &Image) -> Result<(), String> {
        tools::run(ctr(&self.socket).args(["images", "rm", "--sync", &named(image)]))?;
        let content = tools::run(ctr(&self.socket).args(["content", "ls", "-q"]))?;
        assert_eq!(content.trim(), "", "the image was removed, so a pull has to fetch it again");
        Ok(())
    }
}

fn ctr(socket: &Path) -> Command {
    let mut command = tools::command("ctr");
    command.arg("-a").arg(socket);
    command
}

fn named(image: &Image) -> String {
    format!("docker.io/{}:{}", image.repository, image.tag)
}
