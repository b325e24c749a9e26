//! Larder itself, as its users start it: the binary, a configuration file, a cache directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::certificates::Certificates;
use super::hash;
use super::process::Process;
use super::way::{Door, Way};
use super::work::Work;
use super::{tools, wait};

/// A Larder on a port of its own, which it keeps from one start to the next.
pub(crate) struct Larder {
    pub(crate) port: u16,
    admin_port: u16,
    cache: PathBuf,
    config: PathBuf,
    log: PathBuf,
    log_level: &'static str,
    variables: Vec<(String, String)>,
    process: Option<Process>,
}

/// How a Larder is to be.
pub(crate) struct Setup<'a> {
    pub(crate) work: &'a Work,
    pub(crate) upstream: &'a str,
    /// The one way in; by default by all doors, at a port that is free.
    pub(crate) way: Option<Way<'a>>,
    /// The port that it listens on if there is no such way; by default a free one.
    pub(crate) port: Option<u16>,
    /// Whether `localhost` means docker.io. A registry that is asked with clients' own credentials
    /// and has hosts is served at those alone.
    pub(crate) has_host: bool,
    /// By default an empty directory.
    pub(crate) cache: Option<&'a Path>,
    /// Whether it takes pushes, from anybody.
    pub(crate) pushes: bool,
    /// How long a tag is believed: by default not at all, so that an upstream that is gone is
    /// noticed.
    pub(crate) tag_ttl: &'a str,
    /// Further lines of `[cache]`.
    pub(crate) cache_keys: &'a str,
    /// Further lines of `[registry."docker.io"]`.
    pub(crate) registry_keys: &'a str,
    /// The lines of `[access]`, where there is no way of its own.
    pub(crate) access_keys: &'a str,
    /// Further variables of its environment.
    pub(crate) variables: &'a [(&'a str, &'a str)],
}

impl<'a> Setup<'a> {
    /// For docker.io, which it finds at `upstream`.
    pub(crate) fn new(work: &'a Work, upstream: &'a str) -> Self {
        Self {
            work,
            upstream,
            way: None,
            port: None,
            has_host: true,
            cache: None,
            pushes: false,
            tag_ttl: "0s",
            cache_keys: "",
            registry_keys: "",
            access_keys: "",
            variables: &[],
        }
    }

    pub(crate) fn start(self) -> Larder {
        let port = self.way.map(|way| way.port).or(self.port).unwrap_or_else(wait::free_port);
        let admin_port = wait::free_port();
        let cache = self.cache.map_or_else(|| self.work.new_dir("cache"), Path::to_owned);
        let config = self.config(port, admin_port, &cache);
        let file = self.work.file(&format!("larder-{port}.toml"), &config);
        // It may hold a password.
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&file, private).expect("the file is ours");
        let log = self.work.log(&format!("larder-{port}.log"));
        let log_level = if self.access_keys.is_empty() { "info" } else { "trace" };
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = self.variables.iter().map(own).collect();
        let (config, process) = (file, None);
        let mut larder =
            Larder { port, admin_port, cache, config, log, log_level, variables, process };
        larder.start();
        larder
    }

    fn config(&self, port: u16, admin_port: u16, cache: &Path) -> String {
        // This is left out if `access_keys` are given.
        let access =
            if self.pushes && self.access_keys.is_empty() { "anonymous = \"push\"\n" } else { "" };
        let listen = match self.way {
            None => {
                format!("listen = [\"127.0.0.1:{port}\"]\n[access]\n{access}{}\n", self.access_keys)
            }
            Some(way) => format!(
                "[[listener]]\naddress = \"127.0.0.1:{port}\"\ndoors = [\"{}\"]\n{}\
                 [listener.access]\n{access}",
                way.door.key(),
                way.tls.map_or_else(String::new, Certificates::as_toml),
            ),
        };
        let is_default = self.way.is_none_or(|way| way.door == Door::Mirror);
        let host = if self.has_host { format!("\"localhost:{port}\"") } else { String::new() };
        let Self { upstream, pushes, tag_ttl, cache_keys, registry_keys, .. } = self;
        format!(
            "admin_listen = \"127.0.0.1:{admin_port}\"\ndashboard.listen = \"\"\n{listen}\n\
             [cache]\n\
             dir = \"{}\"\n\
             {cache_keys}\n\n\
             [registry.\"docker.io\"]\n\
             upstream = \"{upstream}\"\n\
             default = {is_default}\n\
             hosts = [{host}]\n\
             tag_ttl = \"{tag_ttl}\"\n\
             push = {pushes}\n\
             {registry_keys}\n",
            cache.display(),
        )
    }
}

impl Larder {
    /// docker.io's mirror by all doors, over plain HTTP, with an empty cache.
    ///
    /// `extra` are further lines of `[registry."docker.io"]`.
    pub(crate) fn mirror(work: &Work, upstream: &str, extra: &str) -> Self {
        Setup { registry_keys: extra, ..Setup::new(work, upstream) }.start()
    }

    /// `127.0.0.1:PORT`, as clients write it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// To one that was set up without a way of its own.
    pub(crate) fn by(&self, door: Door) -> Way<'static> {
        Way::plain(door, self.port)
    }

    /// The URL of something under `/v2/`, by the mirror door.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{path}", self.port)
    }

    /// The URL of something on the admin side.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.admin_port)
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.args(["serve", "--config"]).arg(&self.config);
        command.env("LARDER_LOG", self.log_level);
        tools::confine(&mut command);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut process = Process::spawn("larder", &command, &self.log);
        let port = self.port;
        process.wait_until_ready(|| wait::answers(port));
        self.process = Some(process);
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let status = process.stop();
            assert!(status.success(), "larder ended with {status}:\n{}", process.tail());
        }
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Every file that claims to be verified content; panics if one is not what its name says.
    pub(crate) fn verified_blobs(&self) -> Vec<PathBuf> {
        let blobs = files(&self.cache.join("blobs"));
        for blob in &blobs {
            let (shard, name) = (blob.parent().and_then(Path::parent), blob.file_name());
            let algorithm = shard.and_then(Path::file_name).expect("blobs/<algorithm>/ab/<hex>");
            let name = name.expect("a file has a name");
            let digest = format!("{}:{}", algorithm.to_string_lossy(), name.to_string_lossy());
            assert_eq!(hash::of_file_as(&digest, blob), digest, "{}", blob.display());
        }
        blobs
    }

    /// The partial downloads, with their lengths.
    pub(crate) fn fills(&self) -> Vec<(PathBuf, u64)> {
        let fills = files(&self.cache.join("fills"));
        let len = |file: &Path| fs::metadata(file).map_or(0, |metadata| metadata.len());
        fills.into_iter().map(|file| (file.clone(), len(&file))).collect()
    }

    /// The output of `larder check` about its configuration.
    pub(crate) fn report(&self) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        tools::run(command.args(["check", "--config"]).arg(&self.config))
            .expect("what it was started with is right")
    }

    /// A command of the program on its configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.args(arguments).arg("--config").arg(&self.config);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The output of such a command, which has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        tools::run(&mut self.command(arguments)).expect("the command does what it is told")
    }

    /// The copies of what is being pushed.
    pub(crate) fn uploads(&self) -> Vec<PathBuf> {
        files(&self.cache.join("uploads"))
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// All regular files below; none if there is no such directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
