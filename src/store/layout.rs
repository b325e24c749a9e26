//! Which file holds what.
//!
//! Every path is built from parsed types, so none can leave the cache directory. Our own entries
//! below a repository begin with `_`, which no component of a repository name can: repositories
//! `a` and `a/_tags`-like clashes cannot exist.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName, Tag};

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

    /// What the names of uploads are sealed with.
    pub(super) fn session_key(&self) -> PathBuf {
        self.dir.join("session.key")
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

    /// The checksums of a blob's blocks: `sums/<alg>/ab/<hex>`.
    pub(super) fn sums(&self, digest: &Digest) -> PathBuf {
        by_digest(self.dir.join("sums"), digest)
    }

    /// The directory of the checksums of such blobs.
    pub(super) fn sums_of(&self, algorithm: Algorithm, first: u8) -> PathBuf {
        by_first(self.dir.join("sums"), algorithm, first)
    }

    /// What has to be queried: `index/`.
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

    /// Where small files are written before they are renamed into place. No registry is called
    /// so, for a name cannot begin with `_`.
    pub(super) fn drafts(&self) -> PathBuf {
        self.fills().join("_drafts")
    }

    /// What a registry was heard not to have, by the hash of its name: `_absent/<hex>`. Apart from
    /// the repositories, since clients choose the names and can make up any number of them.
    pub(super) fn absent(&self, registry: &RegistryName, name: &Digest) -> PathBuf {
        let dir = self.registries().join(registry.as_str()).join("_absent");
        dir.join(&name.hex()[..NAME_HEX_LEN])
    }

    /// The tree of records.
    pub(super) fn registries(&self) -> PathBuf {
        self.dir.join("registries")
    }

    /// Whose records a directory under `registries/` holds; `None` where that is no repository.
    pub(super) fn name_of(&self, dir: &Path) -> Option<(RegistryName, RepositoryName)> {
        let path = dir.strip_prefix(self.registries()).ok()?.to_str()?;
        let (registry, repository) = path.split_once('/')?;
        Some((registry.parse().ok()?, repository.parse().ok()?))
    }

    /// The directory of a repository's records.
    pub(super) fn repository(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> PathBuf {
        self.registries().join(registry.as_str()).join(repository.as_str())
    }

    /// The directory of the manifests held for a repository, by algorithm.
    pub(super) fn manifests(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> PathBuf {
        self.repository(registry, repository).join("_manifests")
    }

    /// That a manifest is held for a repository, and as what: `_manifests/<alg>/<hex>`.
    pub(super) fn manifest(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> PathBuf {
        let mut path = self.manifests(registry, repository);
        path.push(digest.algorithm().as_str());
        path.push(digest.hex());
        path
    }

    /// The append-only list of blobs that the upstream said the repository has: `_blobs`.
    pub(super) fn members(&self, registry: &RegistryName, repository: &RepositoryName) -> PathBuf {
        self.repository(registry, repository).join("_blobs")
    }

    /// A page of a list, by the hash of its name: `_lists/<hex>`.
    pub(super) fn list(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        name: &Digest,
    ) -> PathBuf {
        self.lists(registry, repository).join(&name.hex()[..NAME_HEX_LEN])
    }

    /// Every directory of tags that there is.
    pub(super) fn tag_dirs(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.repository(registry, repository)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut dirs = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name == "_tags" || name.starts_with("_tags-") {
                dirs.push(entry.path());
            }
        }
        Ok(dirs)
    }

    /// What a tag was last heard to be: `_tags/<tag>`, or `_tags-<view>/<tag>` for clients that
    /// cannot take what the full `Accept` list resolves to.
    pub(super) fn tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &Tag,
        view: Option<&str>,
    ) -> PathBuf {
        let dir = match view {
            None => "_tags".to_owned(),
            Some(view) => format!("_tags-{view}"),
        };
        self.repository(registry, repository).join(dir).join(tag.as_str())
    }

    /// Where a tag may have been kept under views. Looks at the disk.
    pub(super) fn views<'a>(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &'a Tag,
    ) -> impl Iterator<Item = PathBuf> + 'a {
        let entries = fs::read_dir(self.repository(registry, repository)).ok();
        let entries = entries.into_iter().flatten().flatten();
        let views = entries.filter(|entry| entry.file_name().as_bytes().starts_with(b"_tags-"));
        views.map(|view| view.path().join(tag.as_str()))
    }

    /// The directory of the lists of a repository.
    pub(super) fn lists(&self, registry: &RegistryName, repository: &RepositoryName) -> PathBuf {
        self.repository(registry, repository).join("_lists")
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

/// Half of a SHA-256: enough to tell names apart, and what is in the file is compared too.
const NAME_HEX_LEN: usize = 32;
