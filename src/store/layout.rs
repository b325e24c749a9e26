//! Which file holds what.
//!
//! Every path is built from parsed types, so none can leave the cache directory. The names of
//! records are made in `record_store.rs`.

use std::path::{Path, PathBuf};

use super::record_store::{REGISTRIES, RecordName};
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName};

/// The tree below the cache directory.
#[derive(Clone, Debug)]
pub(super) struct StoreLayout {
    dir: PathBuf,
}

impl StoreLayout {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Held locked while a process uses the directory.
    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    /// Verified content: `blobs/<alg>/ab/<hex>`.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        by_digest(self.blobs(), digest)
    }

    /// The directory of the blobs whose hash begins with this byte.
    pub(super) fn blobs_of(&self, algorithm: Algorithm, first: u8) -> PathBuf {
        by_first(self.blobs(), algorithm, first)
    }

    pub(super) fn sums_dir(&self) -> PathBuf {
        self.dir.join("sums")
    }

    /// The checksums of a blob's blocks: `sums/<alg>/ab/<hex>`.
    pub(super) fn sums(&self, digest: &Digest) -> PathBuf {
        by_digest(self.sums_dir(), digest)
    }

    /// The directory of the checksums of such blobs.
    pub(super) fn sums_of(&self, algorithm: Algorithm, first: u8) -> PathBuf {
        by_first(self.sums_dir(), algorithm, first)
    }

    /// The index: `index/`.
    pub(super) fn index(&self) -> PathBuf {
        self.dir.join("index")
    }

    pub(super) fn fills(&self) -> PathBuf {
        self.dir.join("fills")
    }

    /// A download under way: `fills/<registry>/<alg>-<hex>`.
    pub(super) fn fill(&self, registry: &RegistryName, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        self.fills().join(registry.as_str()).join(name)
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    /// The copy of a blob that is being pushed: `uploads/<number>`.
    pub(super) fn upload(&self, number: u64) -> PathBuf {
        self.uploads().join(number.to_string())
    }

    /// Small files are written here before they are renamed into place. No registry has this name,
    /// since names cannot begin with `_`.
    pub(super) fn drafts(&self) -> PathBuf {
        self.fills().join("_drafts")
    }

    /// The path of a record, or of a folder of records.
    pub(super) fn record(&self, name: &RecordName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    /// The tree of records.
    pub(super) fn registries(&self) -> PathBuf {
        self.dir.join(REGISTRIES)
    }

    /// Whose records a directory under `registries/` holds; `None` where that is no repository.
    pub(super) fn name_of(&self, dir: &Path) -> Option<(RegistryName, RepositoryName)> {
        let path = dir.strip_prefix(self.registries()).ok()?.to_str()?;
        let (registry, repository) = path.split_once('/')?;
        Some((registry.parse().ok()?, repository.parse().ok()?))
    }
}

fn by_digest(mut path: PathBuf, digest: &Digest) -> PathBuf {
    path.push(digest.algorithm().as_str());
    path.push(&digest.hex()[..2]);
    path.push(digest.hex());
    path
}

fn by_first(mut path: PathBuf, algorithm: Algorithm, first: u8) -> PathBuf {
    path.push(algorithm.as_str());
    path.push(format!("{first:02x}"));
    path
}
