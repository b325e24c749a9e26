//! buildkitd on a directory and a socket of its own, and `buildctl` to talk to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::built::Built;
use super::client::{Client, Login};
use super::process::Process;
use super::way::{Door, Wanted, Way};
use super::work::Work;
use super::{hash, tools};

/// A running buildkitd.
pub(crate) struct Buildkit {
    socket: PathBuf,
    /// For the Dockerfile and what is built of it.
    dir: PathBuf,
    _process: Process,
}

impl Buildkit {
    pub(crate) fn start(work: &Work, way: &Way<'_>) -> Self {
        let config = work.file("buildkitd.toml", &configuration(way));
        Self::configured(work, &config, &way.port.to_string(), |_| {})
    }

    /// With a `buildkitd.toml`, and more of its command. The name is that of its socket.
    pub(crate) fn configured(
        work: &Work,
        config: &Path,
        name: &str,
        more: impl FnOnce(&mut Command),
    ) -> Self {
        let dir = work.new_dir("buildkit");
        let socket = work.sockets().join(format!("buildkit-{name}.sock"));
        let mut command = tools::command("buildkitd");
        command.arg("--config").arg(config).arg("--root").arg(dir.join("root"));
        command.arg("--addr").arg(format!("unix://{}", socket.display()));
        // Plain copies work on any file system; nothing is run, so there is no network to make.
        command.args(["--containerd-worker=false", "--oci-worker-snapshotter=native"]);
        command.arg("--oci-worker-net=host");
        more(&mut command);
        let mut process = Process::spawn("buildkitd", &command, &work.log("buildkitd.log"));
        process.wait_until_ready(|| {
            let mut workers = buildctl(&socket);
            workers.args(["debug", "workers"]).output().is_ok_and(|out| out.status.success())
        });
        Self { socket, dir, _process: process }
    }

    /// Builds an image of nothing but this base, and writes it in the way that `output` says.
    fn build(&self, place: &str, wanted: &Wanted<'_>, output: &str) -> Result<(), String> {
        let text = format!("FROM {}\n", wanted.at(place));
        fs::write(self.dir.join("Dockerfile"), text).expect("the test's directory can be written");
        let mut build = buildctl(&self.socket);
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        for name in ["context", "dockerfile"] {
            build.arg("--local").arg(format!("{name}={}", self.dir.display()));
        }
        build.arg("--opt").arg(format!("platform={}", wanted.image.platform));
        tools::run(build.args(["--output", output])).map(drop)
    }

    /// Builds an image as an archive of the format `oci` or `docker`.
    pub(crate) fn build_archive(
        &self,
        wanted: &Wanted<'_>,
        format: &str,
        name: &str,
        archive: &Path,
    ) -> Result<(), String> {
        let output = format!("type={format},name={name},dest={}", archive.display());
        self.build("docker.io", wanted, &output)
    }
}

/// The mirror of docker.io where the way is `ns`; else how the named registry is to be spoken to.
fn configuration(way: &Way<'_>) -> String {
    let authority = way.authority();
    let speaks = match way.tls {
        // For the loopback it would be plain HTTP.
        Some(tls) => format!("http = false\nca = [\"{}\"]", tls.ca.display()),
        None => "http = true".to_owned(),
    };
    let mirror = match way.door {
        Door::Ns => format!("[registry.\"docker.io\"]\nmirrors = [\"{authority}\"]\n"),
        _ => String::new(),
    };
    format!("{mirror}[registry.\"{authority}\"]\n{speaks}\n")
}

impl Client for Buildkit {
    /// Builds an image of nothing but this base, and drops it.
    fn pull(&self, way: &Way<'_>, wanted: &Wanted<'_>) -> Result<(), String> {
        let place = if way.door == Door::Ns { "docker.io".to_owned() } else { way.place() };
        let into = self.dir.join("built");
        fs::remove_dir_all(&into).ok();
        let output = format!("type=oci,tar=false,dest={}", into.display());
        self.build(&place, wanted, &output)?;
        // The configuration and the manifest are of a new image; the layers are those of the base.
        for layer in &wanted.image.layers {
            let file = into.join("blobs").join(layer.replace(':', "/"));
            assert_eq!(&hash::of_file_as(layer, &file), layer);
        }
        tools::run(buildctl(&self.socket).args(["prune", "--all"])).map(drop)
    }

    fn log_in(&self, _: &Way<'_>, _: Login) -> Result<(), String> {
        Err("no test logs in with it".to_owned())
    }

    fn push(&self, _: &Way<'_>, _: &Built, _: &str) -> Result<(), String> {
        Err("no test pushes with it".to_owned())
    }
}

fn buildctl(socket: &Path) -> Command {
    let mut command = tools::command("buildctl");
    command.arg("--addr").arg(format!("unix://{}", socket.display()));
    command
}
