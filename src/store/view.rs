//! The store as a command sees it that only reads, beside the process that uses it or without one.
//!
//! Nothing here takes the lock, gives stamps, writes, or asks the index. The files are the truth,
//! and may change while they are read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::eviction::bytes_under;
use super::index::IndexTotals;
use super::layout::StoreLayout;
use super::space::SpacePart;

/// The files of a cache directory, for reading. All methods block.
#[derive(Clone, Debug)]
pub struct StoreView {
    layout: StoreLayout,
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
        Ok(Self { layout })
    }

    /// Bytes that each part takes on the disk, in the order of [`SpacePart::ALL`], by a walk over
    /// all files. What has no name any more is not seen.
    pub fn used(&self) -> [u64; SpacePart::ALL.len()] {
        let layout = &self.layout;
        SpacePart::ALL.map(|part| match part {
            SpacePart::Blobs => bytes_under(&layout.blobs()) + bytes_under(&layout.sums_dir()),
            SpacePart::Index => bytes_under(&layout.index()),
            SpacePart::Partials => bytes_under(&layout.fills()) + bytes_under(&layout.uploads()),
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
                (Some("_tags"), _) => totals.tags += 1,
                (Some(_), Some("_manifests")) => totals.manifests += 1,
                _ => {}
            }
        })?;
        Ok(totals)
    }
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
