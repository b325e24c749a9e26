//! podman and buildah, which keep what they pull in a containers-storage; here in one of their own.

use std::path::PathBuf;
use std::process::Command;

use super::built::Built;
use super::client::{Client, Login};
use super::registries_conf::RegistriesConf;
use super::tools;
use super::way::{Wanted, Way};
use super::work::Work;

/// How one of the two programs is used.
pub(crate) struct Program {
    name: &'static str,
    /// Before the command: no events to a journal, no systemd.
    global: &'static [&'static str],
}

pub(crate) const PODMAN: Program =
    Program { name: "podman", global: &["--events-backend=none", "--cgroup-manager=cgroupfs"] };

pub(crate) const BUILDAH: Program = Program { name: "buildah", global: &[] };

/// A store, and the program that fills it.
pub(crate) struct ContainersStorage {
    program: &'static Program,
    files: RegistriesConf,
    storage: PathBuf,
}

impl ContainersStorage {
    pub(crate) fn new(work: &Work, program: &'static Program) -> Self {
        let dir = work.new_dir(program.name);
        // vfs makes plain copies and so works on any file system; overlayfs does not.
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            dir.join("graph").display(),
            work.sockets().join(program.name).display(),
        );
        Self {
            program,
            files: RegistriesConf::new(dir),
            storage: work.file(&format!("{}-storage.conf", program.name), &storage),
        }
    }

    fn command(&self) -> Command {
        let mut command = tools::command(self.program.name);
        command.env("CONTAINERS_STORAGE_CONF", &self.storage).args(self.program.global);
        self.files.apply(&mut command);
        command
    }

    /// The images in the store, by the digests of their configurations.
    fn images(&self) -> Result<String, String> {
        tools::run(self.command().args(["images", "--quiet", "--no-trunc"]))
    }
}

impl Client for ContainersStorage {
    /// It checks digests itself.
    fn pull(&self, way: &Way<'_>, wanted: &Wanted<'_>) -> Result<(), String> {
        let name = wanted.at(&self.files.write(way));
        let mut pull = self.command();
        pull.args(["pull", "--quiet", "--platform", &wanted.image.platform]);
        pull.arg("--signature-policy").arg(self.files.policy());
        match way.tls {
            Some(_) => pull.arg("--cert-dir").arg(self.files.certificates()),
            None => pull.arg("--tls-verify=false"),
        };
        tools::run(pull.arg(&name))?;
        let images = self.images()?;
        assert_eq!(images.trim(), wanted.image.config, "{name}");

        tools::run(self.command().args(["rmi", "--all", "--force"]))?;
        assert_eq!(self.images()?.trim(), "", "so that the next pull has to fetch it again");
        Ok(())
    }

    fn log_in(&self, way: &Way<'_>, login: Login) -> Result<(), String> {
        self.files.write(way);
        let mut command = self.command();
        command.arg("login").args(login.arguments());
        match way.tls {
            Some(_) => command.arg("--cert-dir").arg(self.files.certificates()),
            None => command.arg("--tls-verify=false"),
        };
        tools::run(command.arg(way.authority())).map(drop)
    }

    fn push(&self, way: &Way<'_>, built: &Built, repository: &str) -> Result<(), String> {
        self.files.write(way);
        let mut load = self.command();
        load.args(["pull", "--quiet", "--signature-policy"]).arg(self.files.policy());
        let said = tools::run(load.arg(format!("docker-archive:{}", built.archive.display())))?;
        let id = said.lines().last().unwrap_or_default().trim();

        let mut push = self.command();
        push.args(["push", "--quiet"]);
        match way.tls {
            Some(_) => push.arg("--cert-dir").arg(self.files.certificates()),
            None => push.arg("--tls-verify=false"),
        };
        // Their files map a name to the place that it is pulled from, and nothing more.
        let name = format!("docker://{}/{repository}:{}", way.place(), built.tag);
        tools::run(push.args([id, &name])).map(drop)
    }
}
