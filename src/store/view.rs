//! The store as a command sees it that only reads, beside the process that uses it or without one.
//!
//! Nothing here takes the lock, gives stamps, writes, or asks the index. The files are the truth,
//! and may change while they are read.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::disk_usage::{bytes_of_directories, bytes_under};
use super::eviction::{NoPins, PinRules};
use super::index::IndexTotals;
use super::layout::StoreLayout;
use super::record_store::RecordName;
use super::record_store::{MANIFESTS, PINS_BYTES_MAX, PULLS_BYTES_MAX, TAGS};
use super::repository_view::{RepositoryView, RepositoryWalk};
use super::small_files::{open_untouched, read_small, read_untouched, used_at};
use super::space::SpacePart;
use super::verify::VerifiedContent;
use crate::oci::{Algorithm, Digest, MANIFEST_BYTES_MAX, RegistryName, RepositoryName};

/// The files of a cache directory, for reading. All methods block.
#[derive(Clone, Debug)]
pub struct StoreView {
    layout: StoreLayout,
    pins: Arc<dyn PinRules>,
}

/// A stored content, which may be evicted at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentView {
    /// Its length in bytes.
    pub len: u64,
    /// When it was last verified.
    pub verified_at: SystemTime,
    /// When it was last used, about.
    pub used_at: SystemTime,
}

impl ContentView {
    fn of(metadata: &Metadata) -> Self {
        let verified_at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Self { len: metadata.len(), verified_at, used_at: used_at(metadata) }
    }
}

impl StoreView {
    /// The files in this cache directory.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if there is no cache.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        let layout = StoreLayout::new(dir);
        fs::symlink_metadata(layout.blobs())?;
        Ok(Self { layout, pins: Arc::new(NoPins) })
    }

    /// The same files, with the rules for what is kept of them.
    #[must_use]
    pub fn with_pins(self, pins: Arc<dyn PinRules>) -> Self {
        Self { pins, ..self }
    }

    /// The rules for content that is kept.
    pub fn pins(&self) -> &dyn PinRules {
        &*self.pins
    }

    /// The record of the images that the operator has pinned by command.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn pin_list(&self) -> io::Result<Vec<u8>> {
        let path = self.layout.record(&RecordName::pins());
        Ok(read_small(&path, PINS_BYTES_MAX)?.unwrap_or_default())
    }

    /// The lines of the log of pulls, the oldest first. The last may be torn.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn pull_log(&self) -> io::Result<Vec<u8>> {
        let path = self.layout.record(&RecordName::pulls());
        // A process that was killed has not shortened it yet.
        let log = read_untouched(&path, 2 * PULLS_BYTES_MAX)?;
        Ok(log.map(|log| log.bytes).unwrap_or_default())
    }

    /// The files of a store that is open.
    pub(super) fn of(layout: &StoreLayout) -> Self {
        Self { layout: layout.clone(), pins: Arc::new(NoPins) }
    }

    /// Every repository that has records, by name.
    pub fn repositories(&self) -> RepositoryWalk {
        RepositoryWalk::new(&self.layout)
    }

    /// A repository; `None` if it has no records.
    pub fn repository(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> Option<RepositoryView> {
        let dir = self.layout.record(&RecordName::repository(registry, repository));
        dir.is_dir().then(|| RepositoryView::new(registry, repository, dir))
    }

    /// A stored content; `None` where it is not stored.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn content(&self, digest: &Digest) -> io::Result<Option<ContentView>> {
        match fs::symlink_metadata(self.layout.blob(digest)) {
            Ok(metadata) if metadata.is_file() => Ok(Some(ContentView::of(&metadata))),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a stored content to read it, which does not count as a use; `None` where it is not
    /// stored. Nothing is verified.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn open_content(&self, digest: &Digest) -> io::Result<Option<File>> {
        match open_untouched(&self.layout.blob(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Shows every stored content with its length in bytes, in the order of their names.
    ///
    /// # Errors
    ///
    /// Those of listing a directory.
    pub fn each_content(&self, show: &mut dyn FnMut(&Digest, u64)) -> io::Result<()> {
        for algorithm in Algorithm::ALL {
            for first in 0..=u8::MAX {
                let contents = self.contents_of(algorithm, first)?;
                for (digest, content) in contents {
                    show(&digest, content.len);
                }
            }
        }
        Ok(())
    }

    /// The stored contents whose hash begins with this byte, by name.
    ///
    /// # Errors
    ///
    /// Those of listing the directory.
    pub(super) fn contents_of(
        &self,
        algorithm: Algorithm,
        first: u8,
    ) -> io::Result<Vec<(Digest, ContentView)>> {
        let mut found = Vec::new();
        each_file(&self.layout.blobs_of(algorithm, first), &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let digest = format!("{}:{name}", algorithm.as_str()).parse::<Digest>();
            // One that was evicted meanwhile is none.
            if let (Ok(digest), Ok(metadata)) = (digest, fs::symlink_metadata(path)) {
                found.push((digest, ContentView::of(&metadata)));
            }
        })?;
        found.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Ok(found)
    }

    /// The bytes of a stored manifest; `None` if it is not stored, or they are not the digest's.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn manifest(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        let file = read_untouched(&self.layout.blob(digest), MANIFEST_BYTES_MAX as u64)?;
        let checked = file.map(|file| VerifiedContent::check(digest, file.bytes.into()));
        Ok(checked.and_then(Result::ok).map(|verified| verified.content().clone()))
    }

    /// Bytes that each part takes on the disk, in the order of [`SpacePart::ALL`], by a walk over
    /// all files. What has no name any more is not seen.
    pub fn used(&self) -> [u64; SpacePart::ALL.len()] {
        let layout = &self.layout;
        SpacePart::ALL.map(|part| match part {
            SpacePart::Blobs => bytes_of_files(&[layout.blobs(), layout.sums_dir()]),
            SpacePart::Directories => bytes_of_directories(layout),
            SpacePart::Index => bytes_under(&layout.index()),
            SpacePart::Partials => {
                bytes_under(&layout.fills()) + bytes_of_files(&[layout.uploads()])
            }
            SpacePart::Records => bytes_under(&layout.registries()),
            SpacePart::Unlinked => 0,
        })
    }

    /// How much is stored, by a walk over all files.
    ///
    /// # Errors
    ///
    /// Those of listing a directory.
    pub fn totals(&self) -> io::Result<IndexTotals> {
        let mut totals = IndexTotals::default();
        each_file(&self.layout.blobs(), &mut |path| {
            // One that was evicted meanwhile is none.
            if let Ok(metadata) = fs::symlink_metadata(path) {
                totals.blobs += 1;
                totals.bytes += metadata.len();
            }
        })?;
        each_file(&self.layout.registries(), &mut |path| {
            let mut folders = path.iter().rev().skip(1).filter_map(|part| part.to_str());
            match (folders.next(), folders.next()) {
                (Some(TAGS), _) => totals.tags += 1,
                (Some(_), Some(MANIFESTS)) => totals.manifests += 1,
                _ => {}
            }
        })?;
        Ok(totals)
    }
}

/// Bytes that the files under directories take, as far as they can be listed.
fn bytes_of_files(dirs: &[PathBuf]) -> u64 {
    let mut bytes = 0;
    for dir in dirs {
        let mut count = |path: &Path| {
            bytes += fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
        };
        each_file(dir, &mut count).unwrap_or_default();
    }
    bytes
}

/// Shows every plain file under a directory; none where there is no such.
fn each_file(dir: &Path, show: &mut impl FnMut(&Path)) -> io::Result<()> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if kind.is_file() => show(&entry.path()),
                _ => {}
            }
        }
    }
    Ok(())
}
