//! May these bytes be written, and which blobs go so that they may?
//!
//! A writer reserves before it begins. If there is too little room, blobs are evicted here, by the
//! writer itself; mostly there is room, as `keeper.rs` evicts ahead of need. Nothing has to be
//! written to evict: a name is removed, and the index is told in memory.
//!
//! A blob that is open is not evicted: it counts as used. If it is opened in the instant before its
//! name goes, it is read to its end, and its bytes are counted until it is closed. A blob that
//! does not fit even into an empty cache evicts nothing.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::fs::OFlags;

use super::counts::{EvictedBlobs, EvictionCounts, EvictionReason, SpaceReport};
use super::hits::HitQueue;
use super::key::BlobKey;
use super::open_files::OpenFiles;
use super::order::{BLOCK_BYTES, EvictionOrder};
use super::recent::RecentlyEvicted;
use crate::clock::{WallClock, unix_seconds};
use crate::oci::Digest;
use crate::store::index::{IndexRow, StoreIndex};
use crate::store::layout::StoreLayout;
use crate::store::partials::remove_partials;
use crate::store::small_files::{absent_is_fine, open_to_read};
use crate::store::space::{FreeSpace, SpacePart, SpaceReservation, SpaceShortage};
use crate::store::space_limits::SpaceLimits;
use crate::store::stamps::FileId;
use crate::store::sums;

/// The space of a store, and its blobs by the order in which they are evicted.
#[derive(Debug)]
pub(in crate::store) struct DiskBudget {
    pub(super) layout: StoreLayout,
    pub(super) space: FreeSpace,
    pub(super) index: Arc<StoreIndex>,
    clock: Arc<dyn WallClock>,
    device: u64,
    order: Mutex<EvictionOrder<BlobKey>>,
    /// Held while a blob gets its name or loses it, so that an eviction does not remove what came
    /// in the place of its blob.
    names: Mutex<()>,
    /// Held while room is made, so that two writers do not evict for each other.
    making_room: Mutex<()>,
    hits: HitQueue,
    /// Whether every blob in the store is in the order.
    is_complete: Mutex<bool>,
    completed: Condvar,
    counts: EvictionCounts,
    recent: Mutex<RecentlyEvicted>,
    is_stopping: AtomicBool,
}

/// All methods block, but for [`DiskBudget::note_hit`].
impl DiskBudget {
    pub(in crate::store) fn new(
        layout: StoreLayout,
        limits: SpaceLimits,
        index: Arc<StoreIndex>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let device = fs::metadata(layout.dir()).map_or(0, |metadata| metadata.dev());
        let space = FreeSpace::new(layout.dir(), limits);
        Self {
            space,
            layout,
            index,
            clock,
            device,
            order: Mutex::default(),
            names: Mutex::default(),
            making_room: Mutex::default(),
            hits: HitQueue::new(),
            is_complete: Mutex::default(),
            completed: Condvar::new(),
            counts: EvictionCounts::default(),
            recent: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub(in crate::store) fn layout(&self) -> &StoreLayout {
        &self.layout
    }

    pub(in crate::store) fn index(&self) -> &StoreIndex {
        &self.index
    }

    /// The file system's space, and the counters of the store's parts.
    pub(in crate::store) fn space(&self) -> &FreeSpace {
        &self.space
    }

    /// Promises the blocks of `bytes`, evicting blobs if there is not enough room for them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] if they do not fit, whatever is evicted.
    pub(in crate::store) fn reserve(&self, bytes: u64) -> io::Result<SpaceReservation> {
        let reservation = self.space.promise(bytes.next_multiple_of(BLOCK_BYTES));
        if !self.shortage(false)?.is_none() {
            self.make_room()?;
        }
        Ok(reservation)
    }

    /// Makes a change to the disk. If that is full, the change is tried once more after blobs were
    /// evicted to make room for `bytes` and a file.
    pub(in crate::store) fn with_room<T>(
        &self,
        bytes: u64,
        change: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        match change() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let _reservation = self.reserve(bytes)?;
                change()
            }
            done => done,
        }
    }

    /// Whether a writer of `bytes` would find room now, by evicting if need be.
    pub(in crate::store) fn has_room(&self, bytes: u64) -> io::Result<bool> {
        let shortage = self.space.shortage(bytes, false, *self.is_complete.lock())?;
        Ok(self.is_met_by_all(shortage))
    }

    /// Whether all blobs would make up for what is lacking.
    fn is_met_by_all(&self, shortage: SpaceShortage) -> bool {
        let order = self.order.lock();
        shortage.is_met_by(order.bytes(), order.len() as u64)
    }

    /// Notes that a stored blob was served. If there are more than can be taken, some are lost.
    pub(in crate::store) fn note_hit(&self, digest: &Digest) {
        self.hits.note(BlobKey::of(digest));
    }

    /// Held by a writer while it gives a blob its name.
    pub(in crate::store) fn naming(&self) -> MutexGuard<'_, ()> {
        self.names.lock()
    }

    /// Notes that a blob was stored.
    pub(in crate::store) fn stored(&self, digest: &Digest, len: u64, allocated: u64) {
        let bytes = footprint(digest, len, allocated);
        self.change(|order, now| order.insert(BlobKey::of(digest), bytes, now));
        self.recent.lock().forget(&BlobKey::of(digest));
    }

    /// Whether a blob was evicted lately, and not stored since. Does not block.
    pub(in crate::store) fn was_evicted(&self, digest: &Digest) -> bool {
        self.recent.lock().has(&BlobKey::of(digest))
    }

    /// Notes that a blob was removed by another than this.
    pub(in crate::store) fn removed(&self, digest: &Digest) {
        self.change(|order, _| order.remove(&BlobKey::of(digest)));
    }

    /// Notes that a blob of an earlier process was found.
    pub(super) fn found(&self, digest: &Digest, len: u64, allocated: u64, used: u32) {
        let bytes = footprint(digest, len, allocated);
        self.change(|order, _| order.insert_found(BlobKey::of(digest), bytes, used));
    }

    /// Notes that every blob of earlier processes was found.
    pub(super) fn complete(&self) {
        self.change(EvictionOrder::order_by_age);
        *self.is_complete.lock() = true;
        self.completed.notify_all();
    }

    fn change<T>(&self, change: impl FnOnce(&mut EvictionOrder<BlobKey>, u32) -> T) -> T {
        let now = self.now();
        let mut order = self.order.lock();
        let changed = change(&mut order, now);
        self.space.set(SpacePart::Blobs, order.bytes());
        changed
    }

    fn now(&self) -> u32 {
        u32::try_from(unix_seconds(self.clock.now())).unwrap_or(u32::MAX)
    }

    fn shortage(&self, is_ahead: bool) -> io::Result<SpaceShortage> {
        self.space.shortage(0, is_ahead, *self.is_complete.lock())
    }

    /// The space that is lacking. If all blobs would not make up for them, partial downloads that
    /// wait to be resumed are removed first.
    fn shortage_without_idle(&self, is_ahead: bool) -> io::Result<SpaceShortage> {
        let shortage = self.shortage(is_ahead)?;
        if self.is_met_by_all(shortage) {
            return Ok(shortage);
        }
        let open = self.look_at_open_files();
        let is_idle = |_: &Path, metadata: &Metadata| !open.has(FileId::of(metadata));
        let removed = remove_partials(&self.layout, &self.space, is_idle)?;
        if removed > 0 {
            tracing::info!(removed, "removed partial downloads to free space");
        }
        self.shortage(is_ahead)
    }

    /// Evicts until what is promised has room.
    fn make_room(&self) -> io::Result<()> {
        let _turn = self.making_room.lock();
        // Until all blobs are known the store is taken for full.
        let mut is_complete = self.is_complete.lock();
        if !*is_complete {
            self.completed.wait_for(&mut is_complete, COMPLETE_WAIT_MAX);
        }
        drop(is_complete);
        let shortage = self.shortage_without_idle(false)?;
        if !self.is_met_by_all(shortage) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let freed = self.evict(shortage, WRITER_BLOBS_MAX);
        if !shortage.is_met_by(freed.bytes, freed.count) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // Some file systems show freed space later; if it is really lacking, they say so.
        Ok(())
    }

    /// Evicts so that the next writers find room, some blobs at a time, so that writers have their
    /// turns in between. Returns whether there is more to do.
    pub(super) fn make_room_ahead(&self) -> bool {
        let _turn = self.making_room.lock();
        self.count_hits();
        if self.space.used(SpacePart::Unlinked) > 0 {
            // They may be closed by now.
            self.look_at_open_files();
        }
        let mut has_more = false;
        match self.shortage_without_idle(true) {
            Ok(shortage) if !shortage.is_none() => {
                let freed = self.evict(shortage, TURN_BLOBS_MAX);
                has_more = freed.count > 0 && !shortage.is_met_by(freed.bytes, freed.count);
                tracing::debug!(?shortage, ?freed, "evicted blobs ahead of need");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot read the free space of the file system"),
        }
        self.counts.log();
        has_more
    }

    /// Gives the order the uses since the last time.
    fn count_hits(&self) {
        let now = self.now();
        let mut order = self.order.lock();
        self.hits.drain(|key| {
            order.touch(key, now);
        });
    }

    /// Evicts blobs until there is what is lacking, at most `max` blobs. Returns those that went.
    fn evict(&self, shortage: SpaceShortage, max: usize) -> EvictedBlobs {
        let reason = match shortage.over_cap {
            0 => EvictionReason::MinFree,
            _ => EvictionReason::MaxSize,
        };
        self.count_hits();
        let open_files = self.look_at_open_files();
        let mut freed = EvictedBlobs::default();
        let mut open = Vec::new();
        for _ in 0..max {
            if shortage.is_met_by(freed.bytes, freed.count) || self.is_stopping() {
                break;
            }
            let Some(key) = self.order.lock().first().cloned() else { break };
            match self.evict_blob(&key, &open_files, reason) {
                Ok(Some(bytes)) => freed.add(bytes),
                Ok(None) => {
                    self.order.lock().postpone(&key);
                    open.push(key);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot evict a blob");
                    break;
                }
            }
        }
        self.change(|order, now| {
            for key in &open {
                order.touch(key, now);
            }
        });
        freed
    }

    /// Evicts a blob, unless it is open. Returns how many bytes went.
    fn evict_blob(
        &self,
        key: &BlobKey,
        open_files: &OpenFiles,
        reason: EvictionReason,
    ) -> io::Result<Option<u64>> {
        let digest = key.digest();
        // Held open, so that the disk frees its blocks after the lock is free.
        let held = open_to_read(&self.layout.blob(&digest), OFlags::empty());
        if let Ok(file) = &held
            && open_files.has(FileId::of(&file.metadata()?))
        {
            return Ok(None);
        }
        let removed = self.unlink(&digest, |order| order.evict(key))?;
        drop(held);
        let Some(removed) = removed else { return Ok(Some(0)) };
        let unused = self.now().saturating_sub(removed.used);
        tracing::debug!(%digest, bytes = removed.bytes, unused, "evicted a blob");
        self.counts.count(reason, removed.bytes, unused);
        self.recent.lock().note(key.clone());
        Ok(Some(removed.bytes))
    }

    /// Removes a blob that the operator does not want. If it is open, it is read to its end.
    pub(in crate::store) fn remove_blob(&self, digest: &Digest) -> io::Result<()> {
        self.unlink(digest, |order| order.remove(&BlobKey::of(digest))).map(drop)
    }

    fn unlink<T>(
        &self,
        digest: &Digest,
        forget: impl FnOnce(&mut EvictionOrder<BlobKey>) -> T,
    ) -> io::Result<T> {
        let names = self.names.lock();
        remove(&self.layout.sums(digest))?;
        remove(&self.layout.blob(digest))?;
        let forgotten = self.change(|order, _| forget(order));
        drop(names);
        self.index.gone(IndexRow::Blob(digest));
        Ok(forgotten)
    }

    /// Looks at what is open, and counts what of it has no name.
    pub(super) fn look_at_open_files(&self) -> OpenFiles {
        let open = OpenFiles::now(self.device);
        self.space.set(SpacePart::Unlinked, open.unlinked());
        open
    }

    /// The bounds from now on.
    pub(in crate::store) fn set_limits(&self, limits: SpaceLimits) {
        self.space.set_limits(limits);
    }

    pub(in crate::store) fn report(&self) -> SpaceReport {
        self.counts.report(&self.space)
    }

    /// Has an eviction under way end, and none begin.
    pub(in crate::store) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    pub(in crate::store) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

/// Bytes that a blob takes, with its checksums.
fn footprint(digest: &Digest, len: u64, allocated: u64) -> u64 {
    let files = [allocated, sums::file_bytes(digest, len)];
    files.into_iter().map(|bytes| bytes.next_multiple_of(BLOCK_BYTES)).sum()
}

fn remove(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

/// Blobs that a writer evicts at most, some tenths of a second of work. If that is not enough, as
/// after `max_size` was lowered, its own blob is passed through.
const WRITER_BLOBS_MAX: usize = 4096;

/// Blobs that are evicted ahead of need before writers have their turn.
const TURN_BLOBS_MAX: usize = 256;

/// How long the first writers wait for the blobs of earlier processes to be known.
const COMPLETE_WAIT_MAX: Duration = Duration::from_secs(2);
