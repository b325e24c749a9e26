//! How does a store come to be large? Laid out by hand, as Larder would have: images of one
//! manifest and one layer, and blobs that are nothing but a length.
//!
//! Files of blobs are sparse. Their stamps say that they were verified since the machine started,
//! as those of a real store mostly would.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use larder::clock::{BootId, SystemClock, WallClock as _, unix_seconds};
use larder::oci::{Algorithm, Digest};

/// How much is in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) repositories: u64,
    /// Blobs beside the two of each tag.
    pub(crate) blobs: u64,
}

/// How many tags a repository has, each with a manifest and a layer of its own.
pub(crate) const TAGS: u64 = 100;

/// The paths that a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) manifest: String,
    pub(crate) layer: String,
}

impl Paths {
    pub(crate) fn of(repository: u64, tag: u64) -> Self {
        let (name, layer) = (name(repository), layer(repository, tag));
        Self {
            manifest: format!("/v2/{name}/manifests/v{tag}"),
            layer: format!("/v2/{name}/blobs/{layer}"),
        }
    }
}

/// Makes the store.
pub(crate) fn lay_out(cache: &Path, size: Size) -> Result<()> {
    let now = SystemClock.now();
    let store = Store { blobs: cache.join("blobs/sha256"), stamp: stamp(now) };
    for first in 0..=u8::MAX {
        fs::create_dir_all(store.blobs.join(format!("{first:02x}")))?;
    }
    for repository in 0..size.repositories {
        let records = cache.join("registries/docker.io").join(name(repository));
        fs::create_dir_all(records.join("_tags"))?;
        fs::create_dir_all(records.join("_manifests/sha256"))?;
        for tag in 0..TAGS {
            let layer = layer(repository, tag);
            store.put(&layer, b"", LAYER_BYTES)?;
            let manifest = manifest(&layer);
            let digest = Digest::of(Algorithm::Sha256, &manifest);
            store.put(&digest, &manifest, manifest.len() as u64)?;
            let record = format!(r#"{{"digest":"{digest}","checked_at":{}}}"#, unix_seconds(now));
            fs::write(records.join(format!("_tags/v{tag}")), record)?;
            let record = format!(r#"{{"media_type":"{MANIFEST}"}}"#);
            fs::write(records.join("_manifests/sha256").join(digest.hex()), record)?;
        }
    }
    for number in 0..size.blobs {
        let digest = Digest::of(Algorithm::Sha256, format!("blob {number}").as_bytes());
        store.put(&digest, b"", number)?;
    }
    Ok(())
}

struct Store {
    blobs: PathBuf,
    stamp: SystemTime,
}

impl Store {
    fn put(&self, digest: &Digest, content: &[u8], len: u64) -> Result<()> {
        let mut file = File::create(self.blobs.join(&digest.hex()[..2]).join(digest.hex()))?;
        file.write_all(content)?;
        file.set_len(len)?;
        file.set_modified(self.stamp)?;
        Ok(())
    }
}

/// See `docs/decisions/0007`.
fn stamp(now: SystemTime) -> SystemTime {
    let stamp = Duration::new(unix_seconds(now), BootId::current().number());
    SystemTime::UNIX_EPOCH + stamp
}

fn name(repository: u64) -> String {
    format!("bench/app-{repository}")
}

fn layer(repository: u64, tag: u64) -> Digest {
    Digest::of(Algorithm::Sha256, format!("layer {repository} {tag}").as_bytes())
}

fn manifest(layer: &Digest) -> Vec<u8> {
    let descriptor =
        |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{layer}","size":{LAYER_BYTES}}}"#);
    let (config, layer) = (
        descriptor("application/vnd.oci.image.config.v1+json"),
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip"),
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#
    );
    manifest.into_bytes()
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const LAYER_BYTES: u64 = 5_000_000;
