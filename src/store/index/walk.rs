//! Comparing the index with the files, a little at a time.
//!
//! It goes through `blobs/` by the first byte of the hashes, then through `registries/`, then
//! through the rows of repositories that may be there no more. Each step looks at one directory or
//! at a few files, so that the caller can rest in between.
//!
//! Files come and go meanwhile. A change after a directory is listed is noted, and applied after
//! the step; and before a row is removed the file is looked for again.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::super::layout::StoreLayout;
use super::super::record_store::RecordName;
use super::db::{IndexDb, IndexFault};
use super::rows::{
    IndexRow, MANIFEST, RowFacts, RowKey, RowName, TAG, blobs_prefix, repository_prefix,
};
use crate::oci::{Algorithm, Digest, Tag};

/// One comparison, under way.
#[derive(Debug)]
pub(super) struct StoreWalk {
    layout: StoreLayout,
    /// The next one is at the end.
    todo: Vec<WalkTask>,
    /// Files without a row.
    missing: Vec<(RowKey, PathBuf)>,
}

/// Why a step could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    /// The files cannot be read, which the index cannot be blamed for.
    #[error(transparent)]
    Files(#[from] io::Error),
    /// The index cannot be used.
    #[error(transparent)]
    Rows(#[from] IndexFault),
}

#[derive(Debug)]
enum WalkTask {
    /// The blobs whose hash begins with this byte.
    Blobs(Algorithm, u8),
    /// A directory under `registries/`.
    Names(PathBuf),
    /// The repositories that have rows of this kind, from this key on.
    Rows(u8, Vec<u8>),
}

impl StoreWalk {
    pub(super) fn new(layout: StoreLayout) -> Self {
        let mut todo = Vec::new();
        todo.extend([TAG, MANIFEST].map(|kind| WalkTask::Rows(kind, vec![kind])));
        todo.push(WalkTask::Names(layout.registries()));
        let blobs = Algorithm::ALL
            .iter()
            .flat_map(|algorithm| (0..=u8::MAX).map(|first| WalkTask::Blobs(*algorithm, first)));
        todo.extend(blobs);
        Self { layout, todo, missing: Vec::new() }
    }

    /// Goes on. Returns whether there is more to do.
    pub(super) fn step(&mut self, ledger: &mut IndexDb) -> Result<bool, WalkError> {
        if !self.missing.is_empty() {
            let from = self.missing.len().saturating_sub(FILES_PER_STEP);
            for (key, path) in self.missing.drain(from..) {
                add(ledger, &key, &path)?;
            }
            return Ok(true);
        }
        match self.todo.pop() {
            None => return Ok(false),
            Some(WalkTask::Blobs(algorithm, first)) => self.blobs(ledger, algorithm, first)?,
            Some(WalkTask::Names(dir)) => self.names(ledger, &dir)?,
            Some(WalkTask::Rows(kind, from)) => self.rows(ledger, kind, &from)?,
        }
        Ok(true)
    }

    fn blobs(
        &mut self,
        ledger: &mut IndexDb,
        algorithm: Algorithm,
        first: u8,
    ) -> Result<(), WalkError> {
        let mut files = HashMap::new();
        for (name, path) in listed(&self.layout.blobs_of(algorithm, first))? {
            if let Ok(digest) = format!("{}:{name}", algorithm.as_str()).parse::<Digest>() {
                files.insert(IndexRow::Blob(&digest).key(), path);
            }
        }
        self.compare(ledger, &blobs_prefix(algorithm, first), files)?;
        Ok(self.sweep_sums(algorithm, first)?)
    }

    /// Removes checksums whose blob was deleted.
    fn sweep_sums(&self, algorithm: Algorithm, first: u8) -> io::Result<()> {
        for (name, path) in listed(&self.layout.sums_of(algorithm, first))? {
            let blob = self.layout.blobs_of(algorithm, first).join(name);
            if !blob.try_exists()? {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Compares a repository's records, and finds the repositories below it.
    fn names(&mut self, ledger: &mut IndexDb, dir: &Path) -> Result<(), WalkError> {
        let (mut tags, mut manifests) = (HashMap::new(), HashMap::new());
        let name = self.layout.name_of(dir);
        for (entry, path) in entries(dir)? {
            if !entry.starts_with('_') {
                self.todo.push(WalkTask::Names(path));
                continue;
            }
            let Some((registry, repository)) = &name else { continue };
            if entry == "_manifests" {
                for (digest, path) in manifests_in(&path)? {
                    manifests.insert(IndexRow::Manifest(registry, repository, &digest).key(), path);
                }
            } else if entry == "_tags" {
                for (tag, path) in listed(&path)? {
                    if let Ok(tag) = tag.parse::<Tag>() {
                        tags.insert(IndexRow::Tag(registry, repository, &tag).key(), path);
                    }
                }
            }
        }
        let Some((registry, repository)) = name else { return Ok(()) };
        let prefix = |kind| repository_prefix(kind, registry.as_str(), repository.as_str());
        self.compare(ledger, &prefix(TAG), tags)?;
        self.compare(ledger, &prefix(MANIFEST), manifests)
    }

    /// Looks at the first repository from a key on: the rows of one without a directory go.
    fn rows(&mut self, ledger: &mut IndexDb, kind: u8, from: &[u8]) -> Result<(), WalkError> {
        let Some(key) = ledger.first_from(from)?.filter(|key| key.first() == Some(&kind)) else {
            return Ok(());
        };
        let names = RowName::of(&key).and_then(RowName::into_names);
        let Some((registry, repository)) = names else { return Ok(ledger.remove(&key)?) };
        let prefix = repository_prefix(kind, registry.as_str(), repository.as_str());
        if !self.layout.record(&RecordName::repository(&registry, &repository)).try_exists()? {
            self.compare(ledger, &prefix, HashMap::new())?;
        }
        // Behind everything that begins so: the prefix ends with a zero.
        let mut next = prefix;
        next.pop();
        next.push(1);
        self.todo.push(WalkTask::Rows(kind, next));
        Ok(())
    }

    /// Removes the rows under a prefix that have no file, and notes the files that have no row.
    fn compare(
        &mut self,
        ledger: &mut IndexDb,
        prefix: &[u8],
        mut files: HashMap<RowKey, PathBuf>,
    ) -> Result<(), WalkError> {
        for key in ledger.keys(prefix)? {
            if files.remove(&key).is_none() && !self.has_file(&key)? {
                ledger.remove(&key)?;
            }
        }
        self.missing.extend(files);
        Ok(())
    }

    /// Whether there is a file for a row, now.
    fn has_file(&self, key: &[u8]) -> io::Result<bool> {
        match RowName::of(key) {
            Some(RowName::Blob(digest)) => self.layout.blob(&digest).try_exists(),
            Some(RowName::Manifest { registry, repository, digest }) => {
                let folder = RecordName::repository(&registry, &repository);
                self.layout.record(&folder.manifest(&digest)).try_exists()
            }
            Some(RowName::Tag { registry, repository, tag }) => {
                let folder = RecordName::repository(&registry, &repository);
                self.layout.record(&folder.tag(&tag, None)).try_exists()
            }
            None => Ok(false),
        }
    }
}

fn add(ledger: &mut IndexDb, key: &[u8], path: &Path) -> Result<(), WalkError> {
    // One that is gone meanwhile, or was noted as a change, needs nothing.
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if metadata.is_file() && ledger.get(key)?.is_none() {
        ledger.put(key, facts_of(key, &metadata))?;
    }
    Ok(())
}

/// The facts that a file's metadata gives. Most file systems note a day's first read, so the time
/// of access is roughly the last use. A blob is also written to when it is verified.
fn facts_of(key: &[u8], metadata: &Metadata) -> RowFacts {
    let (size, used) = match RowName::of(key) {
        Some(RowName::Blob(_)) => (metadata.len(), metadata.atime()),
        _ => (0, metadata.atime().max(metadata.mtime())),
    };
    RowFacts { size, used: u32::try_from(used).unwrap_or_default() }
}

fn manifests_in(dir: &Path) -> io::Result<Vec<(Digest, PathBuf)>> {
    let mut manifests = Vec::new();
    for algorithm in Algorithm::ALL {
        for (hex, path) in listed(&dir.join(algorithm.as_str()))? {
            let digest = format!("{}:{hex}", algorithm.as_str()).parse();
            manifests.extend(digest.ok().map(|digest| (digest, path)));
        }
    }
    Ok(manifests)
}

/// The directories in a directory; none where there is no such.
fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    list(dir, fs::FileType::is_dir)
}

/// The plain files in a directory; none where there is no such.
fn listed(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    list(dir, fs::FileType::is_file)
}

fn list(dir: &Path, is_wanted: fn(&fs::FileType) -> bool) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| is_wanted(&kind)) {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    Ok(found)
}

/// How many files are looked at before the next rest: a few milliseconds on a disk that seeks, for
/// each.
const FILES_PER_STEP: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::IndexTotals;

    /// Without its row, a blob is not counted after the next start.
    #[test]
    fn a_file_that_cannot_be_looked_at_is_no_absence() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = IndexDb::open(&dir.path().join("db"), IndexTotals::default()).unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        let failed = add(&mut ledger, b"key", &path.join("below"));
        assert!(matches!(failed, Err(WalkError::Files(_))), "{failed:?}");
        assert!(add(&mut ledger, b"key", &dir.path().join("absent")).is_ok());
        assert!(ledger.get(b"key").unwrap().is_none());
        add(&mut ledger, b"key", &path).unwrap();
        assert!(ledger.get(b"key").unwrap().is_some());
    }
}
