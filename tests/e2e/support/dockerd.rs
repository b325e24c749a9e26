//! dockerd with a registry mirror, on directories and sockets of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::built::Built;
use super::client::{Client, Login};
use super::containerd::Containerd;
use super::process::Process;
use super::tools;
use super::way::{Door, Wanted, Way};
use super::work::Work;

/// A running dockerd.
pub(crate) struct Dockerd {
    socket: PathBuf,
    /// Ends before the containerd that it uses.
    _process: Process,
    _containerd: Containerd,
}

impl Dockerd {
    /// With a mirror, if the way is by one.
    ///
    /// Touches neither the machine's network nor a dockerd or containerd that runs already.
    pub(crate) fn start(work: &Work, way: &Way<'_>) -> Self {
        // No file of this machine's own daemon.
        let config = work.file("daemon.json", "{}");
        Self::configured(work, &config, |command| {
            if way.door == Door::Mirror {
                command.arg("--registry-mirror").arg(way.url());
            }
            if let Some(tls) = way.tls {
                command.env("SSL_CERT_FILE", &tls.ca);
            }
        })
    }

    /// With a `daemon.json`, and more arguments.
    pub(crate) fn configured(work: &Work, config: &Path, more: impl FnOnce(&mut Command)) -> Self {
        let containerd = Containerd::start(work);
        let socket = work.sockets().join("docker.sock");

        let mut command = tools::command("dockerd");
        command.arg("--config-file").arg(config);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
        more(&mut command);
        command.arg("--containerd").arg(&containerd.socket);
        command.arg("--data-root").arg(work.new_dir("docker"));
        command.arg("--exec-root").arg(work.sockets().join("docker"));
        command.arg("--pidfile").arg(work.sockets().join("docker.pid"));
        command.arg("-H").arg(format!("unix://{}", socket.display()));
        let mut process = Process::spawn("dockerd", &command, &work.log("dockerd.log"));
        process.wait_until_ready(|| {
            docker(&socket).arg("info").output().is_ok_and(|output| output.status.success())
        });
        Self { socket, _process: process, _containerd: containerd }
    }

    /// The client, told which daemon to talk to.
    pub(crate) fn client(&self) -> Command {
        docker(&self.socket)
    }

    /// Has the daemon given Docker Hub's password with each pull from there. (A `docker login`
    /// would ask Docker Hub.)
    pub(crate) fn log_in_at_docker_hub(&self, login: Login) {
        let auth = STANDARD.encode(login.to_string());
        let text =
            format!(r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{auth}"}}}}}}"#);
        let dir = config(&self.socket);
        fs::create_dir_all(&dir).expect("the test's directory can be written");
        fs::write(dir.join("config.json"), text).expect("the test's directory can be written");
    }

    /// Runs a command in a container of a pulled image, without a network; what it printed.
    ///
    /// The image is gone after that.
    pub(crate) fn pull_and_run(
        &self,
        way: &Way<'_>,
        wanted: &Wanted<'_>,
        arguments: &[&str],
    ) -> Result<String, String> {
        let name = self.fetch(way, wanted)?;
        let mut run = docker(&self.socket);
        run.args(["run", "--rm", "--network=none", "--pull=never", &name]);
        let said = tools::run(run.args(arguments))?;
        self.forget(&name)?;
        Ok(said)
    }

    /// dockerd checks digests itself.
    fn fetch(&self, way: &Way<'_>, wanted: &Wanted<'_>) -> Result<String, String> {
        let image = wanted.image;
        let name = match way.door {
            // `debian:bookworm`, as people type it.
            Door::Mirror => wanted.at("").trim_start_matches("/library/").to_owned(),
            _ => wanted.at(&way.place()),
        };
        let mut pull = docker(&self.socket);
        tools::run(pull.args(["pull", "--quiet", "--platform", &image.platform, &name]))?;

        let format = "--format={{.Id}} {{.Os}}/{{.Architecture}} {{.RepoDigests}}";
        let said = tools::run(docker(&self.socket).args(["image", "inspect", format, &name]))?;
        let begin = format!("{} {} ", image.config, image.platform);
        assert!(said.starts_with(&begin) && said.contains(&image.index), "{said}");
        Ok(name)
    }

    fn forget(&self, name: &str) -> Result<(), String> {
        tools::run(docker(&self.socket).args(["rmi", "--force", name]))?;
        let left = tools::run(docker(&self.socket).args(["images", "--all", "--quiet"]))?;
        assert_eq!(left.trim(), "", "so that the next pull has to fetch it again");
        Ok(())
    }
}

impl Client for Dockerd {
    fn pull(&self, way: &Way<'_>, wanted: &Wanted<'_>) -> Result<(), String> {
        let name = self.fetch(way, wanted)?;
        self.forget(&name)
    }

    fn log_in(&self, way: &Way<'_>, login: Login) -> Result<(), String> {
        let mut command = docker(&self.socket);
        command.arg("login").args(login.arguments());
        tools::run(command.arg(way.authority())).map(drop)
    }

    fn push(&self, way: &Way<'_>, built: &Built, repository: &str) -> Result<(), String> {
        tools::run(docker(&self.socket).args(["load", "--quiet", "--input"]).arg(&built.archive))?;
        let name = format!("{}/{repository}:{}", way.place(), built.tag);
        tools::run(docker(&self.socket).args(["tag", &built.name(), &name]))?;
        tools::run(docker(&self.socket).args(["push", &name])).map(drop)
    }
}

/// docker's own directory.
fn config(socket: &Path) -> PathBuf {
    socket.with_extension("config")
}

fn docker(socket: &Path) -> Command {
    let mut command = tools::command("docker");
    // A directory of its own, without log-ins, proxies or contexts.
    command.arg("--config").arg(config(socket));
    command.arg("-H").arg(format!("unix://{}", socket.display()));
    command
}
