//! What do all rows share? The upstream, the blobs in it, and directories that go away.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::peers::{self, Upstream};
use crate::stats::MIB;
use crate::tls::Tls;

/// Everything that rows measure with.
#[derive(Debug)]
pub(crate) struct Lab {
    /// How often each figure is taken.
    pub(crate) runs: usize,
    pub(crate) is_pinned: bool,
    /// The directory for stores with very many files, if not beside the rest.
    pub(crate) large_dir: Option<PathBuf>,
    pub(crate) larder: PathBuf,
    pub(crate) upstream: Upstream,
    pub(crate) manifest: Manifest,
    pub(crate) tls: Tls,
    root: PathBuf,
    blobs: RefCell<HashMap<(u64, u64), Rc<str>>>,
    // Last, so that the upstream has stopped when it goes.
    dir: TempDir,
}

/// The image that manifest requests ask for.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) by_digest: String,
    pub(crate) by_tag: String,
    pub(crate) bytes: Vec<u8>,
}

impl Lab {
    pub(crate) fn new(dir: &Path, larder: PathBuf, runs: usize, is_pinned: bool) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let dir = TempDir::with_prefix_in("compare-", dir)?;
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("v2/bench/image/manifests"))?;
        fs::create_dir_all(root.join("v2/bench/blobs/blobs"))?;
        let (manifest, digest) = Manifest::write(&root)?;
        let upstream = Upstream::start(dir.path(), &root, &digest)
            .context("the upstream, an nginx, does not start")?;
        let (tls, blobs) = (Tls::new(dir.path())?, RefCell::default());
        let large_dir = None;
        Ok(Self { runs, is_pinned, large_dir, larder, upstream, manifest, tls, root, blobs, dir })
    }

    /// The path of a blob of `bytes` at the upstream; another one for each `seed`.
    pub(crate) fn blob(&self, bytes: u64, seed: u64) -> Result<Rc<str>> {
        if let Some(path) = self.blobs.borrow().get(&(bytes, seed)) {
            return Ok(Rc::clone(path));
        }
        let dir = self.root.join("v2/bench/blobs/blobs");
        let new = dir.join("new");
        let digest = write_random(&new, bytes, seed)?;
        fs::rename(new, dir.join(&digest))?;
        let path: Rc<str> = format!("/v2/bench/blobs/blobs/{digest}").into();
        self.blobs.borrow_mut().insert((bytes, seed), Rc::clone(&path));
        Ok(path)
    }

    /// The directory of files that the upstream serves.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A new directory for a server's state.
    pub(crate) fn state(&self) -> Result<TempDir> {
        Ok(TempDir::with_prefix_in("state-", self.dir.path())?)
    }

    /// The same for one with very many files.
    pub(crate) fn large_state(&self) -> Result<TempDir> {
        let dir = self.large_dir.as_deref().unwrap_or(self.dir.path());
        Ok(TempDir::with_prefix_in("compare-state-", dir)?)
    }

    /// The conditions that the figures depend on.
    pub(crate) fn describe(&self) -> String {
        let first = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.rsplit(": ").next().unwrap_or_default().trim().to_owned()
        };
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
        let memory = first("/proc/meminfo", "MemTotal").replace("MemTotal:", "");
        let mut text = String::from(HEAD);
        let lines = [
            format!("{cores} cores, {}, {}", first("/proc/cpuinfo", "model name"), memory.trim()),
            format!("Linux {}", first("/proc/sys/kernel/osrelease", "")),
            format!("load before: {}", first("/proc/loadavg", "")),
            format!("{} runs, {}", self.runs, if self.is_pinned { "pinned" } else { "not pinned" }),
            version(Command::new(&self.larder).arg("--version")),
            version(Command::new(peers::NGINX).arg("-v")),
            version(Command::new(peers::REGISTRY).arg("--version")),
        ];
        for line in lines {
            writeln!(text, "- {line}").unwrap_or_default();
        }
        text
    }
}

const HEAD: &str = "\
# Larder beside its peers

Written by `cargo bench --bench compare -- --markdown FILE`. Servers take turns on one machine; what
counts is the ratio of their medians, held against what is to be reached and where it is to end. CPU
is user and system time of all of a server's processes. The configurations are in
`benches/compare/peers/`.

";

impl Manifest {
    /// Writes an image of six layers under its digest and a tag. Gives the digest too.
    fn write(root: &Path) -> Result<(Self, String)> {
        let descriptor = |kind: &str, name: u8| {
            let (digest, size) = (hex(&[name]), 1_000_000 + u64::from(name));
            let media_type = format!("application/vnd.oci.image.{kind}");
            serde_json::json!({ "mediaType": media_type, "digest": digest, "size": size })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", 0),
            "layers": (1..=6).map(|n| descriptor("layer.v1.tar+gzip", n)).collect::<Vec<_>>(),
        });
        let bytes = serde_json::to_vec(&manifest)?;
        let digest = hex(&bytes);
        let dir = root.join("v2/bench/image/manifests");
        fs::write(dir.join("latest"), &bytes)?;
        fs::write(dir.join(&digest), &bytes)?;
        let at = |reference: &str| format!("/v2/bench/image/manifests/{reference}");
        Ok((Self { by_digest: at(&digest), by_tag: at("latest"), bytes }, digest))
    }
}

fn write_random(path: &Path, bytes: u64, seed: u64) -> Result<String> {
    let mut random = fastrand::Rng::with_seed(bytes ^ seed.rotate_left(32));
    let mut chunk = vec![0; usize::try_from(MIB)?];
    let (mut file, mut hash) = (File::create(path)?, Sha256::new());
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left.min(MIB))?;
        random.fill(&mut chunk[..len]);
        hash.update(&chunk[..len]);
        file.write_all(&chunk[..len])?;
        left -= len as u64;
    }
    // On disk before anything is measured, so that no server pays for its writing.
    file.sync_all()?;
    Ok(digest_of(hash))
}

fn hex(bytes: &[u8]) -> String {
    digest_of(Sha256::new().chain_update(bytes))
}

fn digest_of(hash: Sha256) -> String {
    let mut digest = String::from("sha256:");
    for byte in hash.finalize() {
        write!(digest, "{byte:02x}").unwrap_or_default();
    }
    digest
}

/// The first line that a program prints, wherever it prints it.
fn version(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let Ok(output) = command.output() else { return format!("{program}: not there") };
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or(&program).to_owned()
}
