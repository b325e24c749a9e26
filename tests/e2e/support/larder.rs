//! Larder itself, as its users start it: the binary, a configuration file, a cache directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::hash;
use super::process::Process;
use super::work::Work;
use super::{tools, wait};

/// A Larder on a port of its own, which it keeps from one start to the next.
pub(crate) struct Larder {
    pub(crate) port: u16,
    cache: PathBuf,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Larder {
    /// A mirror of docker.io, which it finds at `upstream`, with an empty cache.
    ///
    /// `extra` are further lines of `[registry."docker.io"]`.
    pub(crate) fn mirror(work: &Work, upstream: &str, extra: &str) -> Self {
        let port = wait::free_port();
        Self::with_cache(work, &work.dir(&format!("cache-{port}")), "", upstream, extra)
    }

    /// The same over a given directory; `cache_extra` are further lines of `[cache]`.
    pub(crate) fn with_cache(
        work: &Work,
        cache: &Path,
        cache_extra: &str,
        upstream: &str,
        extra: &str,
    ) -> Self {
        let port = wait::free_port();
        // Every pull asks for the tag anew, so that an upstream that is gone is noticed.
        let config = format!(
            "listen = [\"127.0.0.1:{port}\"]\n\n\
             [cache]\n\
             dir = \"{}\"\n\
             {cache_extra}\n\n\
             [registry.\"docker.io\"]\n\
             upstream = \"{upstream}\"\n\
             default = true\n\
             tag_ttl = \"0s\"\n\
             {extra}\n",
            cache.display(),
        );
        let name = format!("larder-{port}");
        let file = work.file(&format!("{name}.toml"), &config);
        // It may hold a password.
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&file, private).expect("the file is ours");
        let mut larder = Self {
            port,
            cache: cache.to_owned(),
            config: file,
            log: work.log(&format!("{name}.log")),
            process: None,
        };
        larder.start();
        larder
    }

    /// `127.0.0.1:PORT`, as clients write it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of something under `/v2/`, by the mirror door.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{path}", self.port)
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command.args(["serve", "--config"]).arg(&self.config);
        tools::confine(&mut command);
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
        let blobs = files(&self.cache.join("blobs/sha256"));
        for blob in &blobs {
            let name = blob.file_name().expect("a file has a name").to_string_lossy();
            assert_eq!(hash::of_file(blob), format!("sha256:{name}"), "{}", blob.display());
        }
        blobs
    }

    /// The partial downloads, with their lengths.
    pub(crate) fn fills(&self) -> Vec<(PathBuf, u64)> {
        let fills = files(&self.cache.join("fills"));
        let len = |file: &Path| fs::metadata(file).map_or(0, |metadata| metadata.len());
        fills.into_iter().map(|file| (file.clone(), len(&file))).collect()
    }

    /// What it has said.
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
