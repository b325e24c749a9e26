//! The thread that learns which blobs earlier processes have left, and then evicts ahead of need.
//!
//! No start and no pull waits for it, except for writers that find too little room in the first
//! seconds. It ends with the store.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::DiskBudget;
use super::heap::BLOCK_BYTES;
use super::idle::evict_idle;
use super::owners::find_owners;
use super::pin_walk::keep_pins;
use super::vanished::mark_vanished;
use crate::oci::{Algorithm, Digest};
use crate::store::disk_usage::{bytes_of_directories, bytes_under};
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
    if !find_in_index(budget) && find_in_files(budget).is_none() {
        return;
    }
    for round in 0_u64.. {
        let Some(budget) = running(budget) else { return };
        budget.space.set(SpacePart::Index, bytes_under(&budget.layout.index()));
        budget.space.set(SpacePart::Directories, bytes_of_directories(&budget.layout));
        keep_retention(&budget, round);
        while budget.make_room_ahead() {}
        drop(budget);
        thread::sleep(ROUND_EVERY);
    }
}

/// Pins what is to be kept, protects what cannot be fetched again, and evicts what has been there
/// for too long, and what registries have too much.
fn keep_retention(budget: &DiskBudget, round: u64) {
    budget.catalog.ask_for_states();
    if let Err(error) = find_owners(budget, &budget.catalog.take_sought()) {
        tracing::warn!(%error, "cannot tell which registry the content is of");
    }
    if let Err(error) = keep_pins(budget) {
        tracing::warn!(%error, "cannot find the pinned content");
    }
    if let Err(error) = mark_vanished(budget) {
        tracing::warn!(%error, "cannot find the content of tags that are gone upstream");
    }
    budget.catalog.mark_idle(round.is_multiple_of(IDLE_ROUNDS));
    budget.keep_registries();
    if round.is_multiple_of(IDLE_ROUNDS) {
        evict_idle(budget);
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
            budget.catalog.found(&row.digest, row.len, row.len, row.used);
        }
    });
    let Some(budget) = running(budget).filter(|_| are_all) else { return false };
    let totals = budget.index.report().totals;
    let files = totals.manifests + totals.tags;
    budget.space.has_records(RecordShare { files, bytes: files * BLOCK_BYTES });
    budget.complete();
    true
}

/// Puts every blob that is in the directory into the order. `None` when the store is closed.
fn find_in_files(budget: &Weak<DiskBudget>) -> Option<()> {
    for algorithm in ALGORITHMS {
        for first in 0..=u8::MAX {
            let budget = running(budget)?;
            let begun = Instant::now();
            // A directory that cannot be listed now can perhaps in a second. A disk that fails for
            // good does not keep the eviction from its work.
            if let Err(error) = find_in(&budget, algorithm, first) {
                tracing::warn!(%error, "cannot list stored blobs; trying again");
                thread::sleep(ROUND_EVERY);
                find_in(&budget, algorithm, first).ok();
            }
            drop(budget);
            // Half of one CPU and of the disk is left to others.
            thread::sleep(begun.elapsed());
        }
    }
    running(budget)?.complete();
    Some(())
}

/// Puts the blobs whose hash begins with a byte into the order. Those that are in it stay as they
/// are.
fn find_in(budget: &DiskBudget, algorithm: Algorithm, first: u8) -> io::Result<()> {
    let entries = match budget.layout.blobs_of(algorithm, first).read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let text = format!("{}:{}", algorithm.as_str(), name.to_string_lossy());
        let Ok(digest) = text.parse::<Digest>() else { continue };
        // One that is gone meanwhile needs nothing.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_file() {
            // Most file systems note a day's first reading. The other time is of the verification.
            let used = u32::try_from(metadata.atime()).unwrap_or_default();
            budget.catalog.found(&digest, metadata.len(), metadata.blocks() * 512, used);
        }
    }
    Ok(())
}

/// All that digests can be of.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// Rounds between two looks for what was not pulled for too long, which is a matter of days.
const IDLE_ROUNDS: u64 = 60;

/// The pause between two looks at the space, at the index, which has some dozens of files, and at
/// the thousand directories, which grow with what is in them.
const ROUND_EVERY: Duration = Duration::from_secs(1);
