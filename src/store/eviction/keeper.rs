//! The thread that learns which blobs earlier processes have left, and then evicts ahead of need.
//!
//! No start and no pull waits for it, except for writers that find too little room in the first
//! seconds. It ends with the store.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::DiskBudget;
use super::order::BLOCK_BYTES;
use crate::oci::{Algorithm, Digest};
use crate::store::record_share::RecordShare;
use crate::store::space::SpacePart;

/// Starts the thread.
pub(in crate::store) fn start(budget: &Arc<DiskBudget>) {
    if !budget.layout.blobs().read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        budget.complete();
    }
    let weak = Arc::downgrade(budget);
    let started = thread::Builder::new().name("evictor".to_owned()).spawn(move || keep(&weak));
    if let Err(error) = started {
        tracing::error!(%error, "cannot start the eviction thread; blobs are evicted only while others are stored");
        drop(budget.index.take_blob_rows());
        budget.complete();
    }
}

fn keep(budget: &Weak<DiskBudget>) {
    let is_indexed = find_in_index(budget);
    if !is_indexed && find_in_files(budget).is_none() {
        return;
    }
    // The index counts directories well enough for the first hour, as to measure them takes a walk.
    for round in u64::from(is_indexed).. {
        let Some(budget) = running(budget) else { return };
        budget.space.set(SpacePart::Index, bytes_under(&budget.layout.index()));
        if round % DIRECTORIES_ROUNDS == 0 {
            let layout = &budget.layout;
            let directories = bytes_of_directories(&[layout.blobs(), layout.sums_dir()]);
            budget.space.set(SpacePart::Directories, directories);
        }
        while budget.make_room_ahead() {}
        drop(budget);
        thread::sleep(ROUND_EVERY);
    }
}

fn running(budget: &Weak<DiskBudget>) -> Option<Arc<DiskBudget>> {
    budget.upgrade().filter(|budget| !budget.is_stopping())
}

/// Puts every blob that the index knows into the order. Returns whether these are all.
fn find_in_index(budget: &Weak<DiskBudget>) -> bool {
    let Some(rows) = running(budget).map(|budget| budget.index.take_blob_rows()) else {
        return false;
    };
    let are_all = rows.receive(|row| {
        if let Some(budget) = running(budget) {
            budget.found(&row.digest, row.len, row.len, row.used);
        }
    });
    let Some(budget) = running(budget).filter(|_| are_all) else { return false };
    let totals = budget.index.report().totals;
    // A small store has not all directories yet: of a blob and of its checksums.
    let directories = DIRECTORIES.min(2 * totals.blobs);
    budget.space.set(SpacePart::Directories, directories * BLOCK_BYTES);
    let files = totals.manifests + totals.tags;
    budget.space.has_records(RecordShare { files, bytes: files * BLOCK_BYTES });
    budget.complete();
    true
}

/// Puts every blob that is in the directory into the order. `None` when the store is closed.
fn find_in_files(budget: &Weak<DiskBudget>) -> Option<()> {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for first in 0..=u8::MAX {
            let budget = running(budget)?;
            let begun = Instant::now();
            find_in(&budget, algorithm, first);
            drop(budget);
            // Half of one CPU and of the disk is left to others.
            thread::sleep(begun.elapsed());
        }
    }
    running(budget)?.complete();
    Some(())
}

/// Blobs that cannot be listed could not be evicted either.
fn find_in(budget: &DiskBudget, algorithm: Algorithm, first: u8) {
    for entry in entries(&budget.layout.blobs_of(algorithm, first)) {
        let name = entry.file_name();
        let text = format!("{}:{}", algorithm.as_str(), name.to_string_lossy());
        let Ok(digest) = text.parse::<Digest>() else { continue };
        // One that is gone meanwhile needs nothing.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            // Most file systems note a day's first reading.
            let used = u32::try_from(metadata.atime().max(metadata.mtime())).unwrap_or_default();
            budget.found(&digest, metadata.len(), metadata.blocks() * 512, used);
        }
    }
}

/// The entries of a directory, as far as they can be listed.
fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// Bytes that all files and directories under `dir` take, as far as they can be listed.
pub(in crate::store) fn bytes_under(dir: &Path) -> u64 {
    bytes_in(vec![dir.to_owned()], |_| true)
}

/// Bytes that these directories and those in them take, without their files.
pub(in crate::store) fn bytes_of_directories(dirs: &[std::path::PathBuf]) -> u64 {
    bytes_in(dirs.to_vec(), fs::FileType::is_dir)
}

fn bytes_in(mut dirs: Vec<std::path::PathBuf>, counts: fn(&fs::FileType) -> bool) -> u64 {
    let mut bytes = 0;
    while let Some(dir) = dirs.pop() {
        bytes += fs::symlink_metadata(&dir).map_or(0, |metadata| metadata.blocks() * 512);
        for entry in entries(&dir) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                Ok(kind) if counts(&kind) => {
                    bytes += entry.metadata().map_or(0, |metadata| metadata.blocks() * 512);
                }
                _ => {}
            }
        }
    }
    bytes
}

/// The pause between two looks at the space, and at the index, which has some dozens of files.
const ROUND_EVERY: Duration = Duration::from_secs(1);

/// Directories of blobs and of checksums by SHA-256.
const DIRECTORIES: u64 = 512;

/// Rounds between two measurements of directories, an hour. They grow with what is in them.
const DIRECTORIES_ROUNDS: u64 = 3600;
