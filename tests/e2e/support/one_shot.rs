//! Clients that fetch an image into a directory of files or push it from one, and know nothing the
//! next time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::built::Built;
use super::client::{Client, Login};
use super::image::Image;
use super::registries_conf::RegistriesConf;
use super::way::{Wanted, Way};
use super::work::Work;
use super::{hash, hosts_toml, tools};

/// One of them; its pulls go into one directory, one at a time.
pub(crate) struct OneShot {
    command: Pull,
    push: Option<Push>,
    /// At the end of each command.
    more: Vec<String>,
    /// For its configuration.
    dir: PathBuf,
    log_in: Option<LogIn>,
    /// Laid out as the OCI image layout is: `blobs/<algorithm>/<hex>`.
    into: PathBuf,
}

/// Makes the command that pulls, with the files that it needs in the directory given first, into
/// the one given last.
type Pull = fn(&Path, &Way<'_>, &Wanted<'_>, &Path) -> Command;

/// Logs in, so that what is pulled with the files in the same directory is pulled as that user.
type LogIn = fn(&Path, &Way<'_>, Login) -> Result<(), String>;

/// Makes the command that pushes to the name given last, with the files that it needs in the
/// directory given first.
type Push = fn(&Path, &Way<'_>, &Built, &str) -> Command;

impl OneShot {
    pub(crate) fn new(work: &Work, command: Pull) -> Self {
        let dir = work.new_dir("one-shot");
        let (push, log_in) = (None, None);
        Self { command, push, log_in, more: Vec::new(), into: dir.join("pulled"), dir }
    }

    /// One that can log in.
    pub(crate) fn logging_in(work: &Work, command: Pull, log_in: LogIn) -> Self {
        Self { log_in: Some(log_in), ..Self::new(work, command) }
    }

    /// One that can push.
    pub(crate) fn pushing(self, push: Push) -> Self {
        Self { push: Some(push), ..self }
    }

    /// Adds to the command line.
    pub(crate) fn with(mut self, argument: String) -> Self {
        self.more.push(argument);
        self
    }
}

impl Client for OneShot {
    fn pull(&self, way: &Way<'_>, wanted: &Wanted<'_>) -> Result<(), String> {
        // A pull that failed may have left something.
        fs::remove_dir_all(&self.into).ok();
        tools::run((self.command)(&self.dir, way, wanted, &self.into).args(&self.more))?;
        holds(&self.into, wanted.image);
        Ok(())
    }

    fn log_in(&self, way: &Way<'_>, login: Login) -> Result<(), String> {
        let by = self.log_in.expect("the test wants a client that can log in");
        by(&self.dir, way, login)
    }

    fn push(&self, way: &Way<'_>, built: &Built, repository: &str) -> Result<(), String> {
        let by = self.push.expect("the test wants a client that pushes");
        let name = format!("{repository}:{}", built.tag);
        tools::run(by(&self.dir, way, built, &name).args(&self.more)).map(drop)
    }
}

/// Panics unless the layout has every file of the image, and each is what its name says.
pub(crate) fn holds(layout: &Path, image: &Image) {
    for digest in image.blobs().chain([image.manifest.as_str()]) {
        let file = layout.join("blobs").join(digest.replace(':', "/"));
        assert_eq!(hash::of_file_as(digest, &file), digest);
    }
}

pub(crate) fn skopeo(dir: &Path, way: &Way<'_>, wanted: &Wanted<'_>, into: &Path) -> Command {
    let files = RegistriesConf::new(dir.to_owned());
    let name = wanted.at(&files.write(way));
    let (os, arch) = platform(wanted.image);
    let mut command = tools::command("skopeo");
    files.apply(&mut command);
    command.arg("--policy").arg(files.policy());
    command.arg("--registries-conf").arg(files.registries());
    command.args(["--override-os", os, "--override-arch", arch]);
    command.args(["copy", "--quiet", "--preserve-digests"]);
    match way.tls {
        Some(_) => command.arg("--src-cert-dir").arg(files.certificates()),
        None => command.arg("--src-tls-verify=false"),
    };
    command.arg(format!("docker://{name}")).arg(format!("oci:{}:it", into.display()));
    command
}

pub(crate) fn skopeo_login(dir: &Path, way: &Way<'_>, login: Login) -> Result<(), String> {
    let files = RegistriesConf::new(dir.to_owned());
    files.write(way);
    let mut command = tools::command("skopeo");
    files.apply(&mut command);
    command.arg("login").args(login.arguments());
    match way.tls {
        Some(_) => command.arg("--cert-dir").arg(files.certificates()),
        None => command.arg("--tls-verify=false"),
    };
    tools::run(command.arg(way.authority())).map(drop)
}

/// Compresses the layers on their way.
pub(crate) fn skopeo_push(dir: &Path, way: &Way<'_>, built: &Built, name: &str) -> Command {
    let files = RegistriesConf::new(dir.to_owned());
    files.write(way);
    let mut command = tools::command("skopeo");
    files.apply(&mut command);
    command.arg("--policy").arg(files.policy());
    command.arg("--registries-conf").arg(files.registries());
    command.args(["copy", "--quiet"]);
    match way.tls {
        Some(_) => command.arg("--dest-cert-dir").arg(files.certificates()),
        None => command.arg("--dest-tls-verify=false"),
    };
    command.arg(format!("oci:{}:{}", built.layout.display(), built.tag));
    command.arg(format!("docker://{}/{name}", way.place()));
    command
}

pub(crate) fn crane(dir: &Path, way: &Way<'_>, wanted: &Wanted<'_>, into: &Path) -> Command {
    let mut command = tools::command("crane");
    command.args(["pull", "--format", "oci", "--platform", &wanted.image.platform]);
    if let Some(tls) = way.tls {
        command.env("SSL_CERT_FILE", &tls.ca);
    }
    // Only the log-ins that are made here.
    command.env("DOCKER_CONFIG", dir);
    command.arg(wanted.at(&way.place())).arg(into);
    command
}

/// It does not check whether they are right.
pub(crate) fn crane_login(dir: &Path, way: &Way<'_>, login: Login) -> Result<(), String> {
    let mut command = tools::command("crane");
    command.env("DOCKER_CONFIG", dir).args(["auth", "login"]).args(login.arguments());
    tools::run(command.arg(way.authority())).map(drop)
}

pub(crate) fn crane_push(dir: &Path, way: &Way<'_>, built: &Built, name: &str) -> Command {
    let mut command = tools::command("crane");
    command.arg("push").env("DOCKER_CONFIG", dir);
    if let Some(tls) = way.tls {
        command.env("SSL_CERT_FILE", &tls.ca);
    }
    command.arg(&built.layout).arg(format!("{}/{name}", way.place()));
    command
}

pub(crate) fn oras(dir: &Path, way: &Way<'_>, wanted: &Wanted<'_>, into: &Path) -> Command {
    let mut command = tools::command("oras");
    command.env("DOCKER_CONFIG", dir);
    command.args(["copy", "--no-tty", "--platform", &wanted.image.platform]);
    match way.tls {
        Some(tls) => command.arg("--from-ca-file").arg(&tls.ca).arg("--from-plain-http=false"),
        None => command.arg("--from-plain-http"),
    };
    command.arg(wanted.at(&way.place())).arg("--to-oci-layout");
    command.arg(format!("{}:it", into.display()));
    command
}

pub(crate) fn oras_login(dir: &Path, way: &Way<'_>, login: Login) -> Result<(), String> {
    let mut command = tools::command("oras");
    command.env("DOCKER_CONFIG", dir).arg("login").args(login.arguments());
    match way.tls {
        Some(tls) => command.arg("--ca-file").arg(&tls.ca),
        None => command.arg("--plain-http"),
    };
    tools::run(command.arg(way.authority())).map(drop)
}

pub(crate) fn oras_push(dir: &Path, way: &Way<'_>, built: &Built, name: &str) -> Command {
    let mut command = tools::command("oras");
    command.env("DOCKER_CONFIG", dir).args(["copy", "--no-tty"]);
    match way.tls {
        Some(tls) => command.arg("--to-ca-file").arg(&tls.ca).arg("--to-plain-http=false"),
        None => command.arg("--to-plain-http"),
    };
    command.arg("--from-oci-layout").arg(format!("{}:{}", built.layout.display(), built.tag));
    command.arg(format!("{}/{name}", way.place()));
    command
}

pub(crate) fn regctl(dir: &Path, way: &Way<'_>, wanted: &Wanted<'_>, into: &Path) -> Command {
    let mut command = regctl_at(dir, way);
    command.args(["image", "copy", "--platform", &wanted.image.platform]);
    command.arg(wanted.at(&way.place())).arg(format!("ocidir://{}:it", into.display()));
    command
}

pub(crate) fn regctl_login(dir: &Path, way: &Way<'_>, login: Login) -> Result<(), String> {
    let mut command = regctl_at(dir, way);
    command.args(["registry", "login", "--user", login.user, "--pass", login.password]);
    tools::run(command.arg(way.authority())).map(drop)
}

pub(crate) fn regctl_push(dir: &Path, way: &Way<'_>, built: &Built, name: &str) -> Command {
    let mut command = regctl_at(dir, way);
    command.args(["image", "copy"]);
    command.arg(format!("ocidir://{}:{}", built.layout.display(), built.tag));
    command.arg(format!("{}/{name}", way.place()));
    command
}

fn regctl_at(dir: &Path, way: &Way<'_>) -> Command {
    let mut command = tools::command("regctl");
    command.env("DOCKER_CONFIG", dir).env("REGCTL_CONFIG", dir.join("regctl.json"));
    match way.tls {
        Some(tls) => command.env("SSL_CERT_FILE", &tls.ca),
        None => command.arg("--host").arg(format!("reg={},tls=disabled", way.authority())),
    };
    command
}

/// In ranges so short that the test images have some of them.
pub(crate) fn containerd_pull(
    dir: &Path,
    way: &Way<'_>,
    wanted: &Wanted<'_>,
    into: &Path,
) -> Command {
    in_ranges(dir, way, wanted, into, &["--parallel", "4", "--chunk", "524288"])
}

/// In ranges as containerd's documentation advises for large layers.
pub(crate) fn containerd_pull_wide(
    dir: &Path,
    way: &Way<'_>,
    wanted: &Wanted<'_>,
    into: &Path,
) -> Command {
    in_ranges(dir, way, wanted, into, &["--parallel", "8", "--chunk", "8388608"])
}

/// The login that a daemon is given with each pull.
pub(crate) fn containerd_pull_login(dir: &Path, _: &Way<'_>, login: Login) -> Result<(), String> {
    fs::write(dir.join(LOGIN), login.to_string()).map_err(|error| error.to_string())
}

fn in_ranges(
    dir: &Path,
    way: &Way<'_>,
    wanted: &Wanted<'_>,
    into: &Path,
    ranges: &[&str],
) -> Command {
    let hosts = dir.join("hosts");
    let name = wanted.at(&hosts_toml::write(&hosts, way));
    let mut command = tools::command("containerd-pull");
    command.arg("--hosts-dir").arg(hosts).args(["--platform", &wanted.image.platform]);
    if let Ok(login) = fs::read_to_string(dir.join(LOGIN)) {
        command.args(["--user", &login]);
    }
    command.args(ranges).arg(name).arg(into);
    command
}

/// The file with which login `containerd-pull` is called.
const LOGIN: &str = "login";

pub(crate) fn containerd_push(dir: &Path, way: &Way<'_>, built: &Built, name: &str) -> Command {
    let hosts = dir.join("hosts");
    let place = hosts_toml::write(&hosts, way);
    let mut command = tools::command("containerd-pull");
    if let Ok(login) = fs::read_to_string(dir.join(LOGIN)) {
        command.args(["--user", &login]);
    }
    command.arg("--push").arg("--hosts-dir").arg(hosts);
    command.arg(format!("{place}/{name}")).arg(&built.layout);
    command
}

fn platform(image: &Image) -> (&str, &str) {
    image.platform.split_once('/').expect("a platform has two parts")
}
