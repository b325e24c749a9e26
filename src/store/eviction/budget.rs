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

use super::catalog::BlobCatalog;
use super::class::RegistryGroup;
use super::counts::{EvictedBlobs, EvictionCounts, EvictionReason, SpaceReport};
use super::heap::BLOCK_BYTES;
use super::key::BlobKey;
use super::open_files::OpenFiles;
use super::retention::RetentionLimits;
use crate::clock::WallClock;
use crate::oci::Digest;
use crate::store::index::{IndexRow, StoreIndex};
use crate::store::layout::StoreLayout;
use crate::store::partials::remove_partials;
use crate::store::small_files::{absent_is_fine, open_to_read};
use crate::store::space::{FreeSpace, SpacePart, SpaceReservation};
use crate::store::space_limits::SpaceLimits;
use crate::store::space_shortage::SpaceShortage;
use crate::store::stamps::FileId;

/// The space of a store, and its blobs by the order in which they are evicted.
#[derive(Debug)]
pub(in crate::store) struct DiskBudget {
    pub(super) layout: StoreLayout,
    pub(super) space: FreeSpace,
    pub(super) index: Arc<StoreIndex>,
    pub(super) catalog: BlobCatalog,
    device: u64,
    /// Held while a blob gets its name or loses it, so that an eviction does not remove what came
    /// in the place of its blob.
    names: Mutex<()>,
    /// Held while room is made, so that two writers do not evict for each other.
    pub(super) making_room: Mutex<()>,
    /// Whether every blob in the store is in the order.
    is_complete: Mutex<bool>,
    completed: Condvar,
    counts: EvictionCounts,
    is_stopping: AtomicBool,
}

/// All methods block.
impl DiskBudget {
    pub(in crate::store) fn new(
        layout: StoreLayout,
        limits: SpaceLimits,
        retention: &RetentionLimits,
        index: Arc<StoreIndex>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let device = fs::metadata(layout.dir()).map_or(0, |metadata| metadata.dev());
        let space = FreeSpace::new(layout.dir(), limits);
        Self {
            catalog: BlobCatalog::new(space.clone(), clock, retention),
            space,
            layout,
            index,
            device,
            names: Mutex::default(),
            making_room: Mutex::default(),
            is_complete: Mutex::default(),
            completed: Condvar::new(),
            counts: EvictionCounts::default(),
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

    /// Promises the blocks of `bytes` to content of a registry, which may have a bound of its own.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] if they do not fit, whatever is evicted.
    pub(in crate::store) fn reserve_for(
        &self,
        group: RegistryGroup,
        bytes: u64,
    ) -> io::Result<SpaceReservation> {
        if !self.catalog.could_hold(group, bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let reservation = self.reserve(bytes)?;
        self.keep_registry(group, bytes);
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
        Ok(self.catalog.is_met_by_all(shortage))
    }

    /// The blobs that are stored, for all who store, use or remove one.
    pub(in crate::store) fn catalog(&self) -> &BlobCatalog {
        &self.catalog
    }

    /// Held by a writer while it gives a blob its name.
    pub(in crate::store) fn naming(&self) -> MutexGuard<'_, ()> {
        self.names.lock()
    }

    /// Notes that every blob of earlier processes was found.
    pub(super) fn complete(&self) {
        self.catalog.order_by_age();
        *self.is_complete.lock() = true;
        self.completed.notify_all();
    }

    fn shortage(&self, is_ahead: bool) -> io::Result<SpaceShortage> {
        self.space.shortage(0, is_ahead, *self.is_complete.lock())
    }

    /// The space that is lacking. If all blobs would not make up for them, partial downloads that
    /// wait to be resumed are removed first.
    fn shortage_without_idle(&self, is_ahead: bool) -> io::Result<SpaceShortage> {
        let shortage = self.shortage(is_ahead)?;
        if self.catalog.is_met_by_all(shortage) {
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
        if !self.catalog.is_met_by_all(shortage) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let freed = self.evict(shortage, None, WRITER_BLOBS_MAX);
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
        self.catalog.count_hits();
        if self.space.used(SpacePart::Unlinked) > 0 {
            // They may be closed by now.
            self.look_at_open_files();
        }
        let mut has_more = false;
        match self.shortage_without_idle(true) {
            Ok(shortage) if !shortage.is_none() => {
                let freed = self.evict(shortage, None, TURN_BLOBS_MAX);
                has_more = freed.count > 0 && !shortage.is_met_by(freed.bytes, freed.count);
                tracing::debug!(?shortage, ?freed, "evicted blobs ahead of need");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot read the free space of the file system"),
        }
        self.counts.log();
        has_more
    }

    /// Evicts blobs of a registry that would take too much with `more` bytes.
    fn keep_registry(&self, group: RegistryGroup, more: u64) {
        let over_cap = self.catalog.excess(group, more);
        if over_cap > 0 {
            let _turn = self.making_room.lock();
            let shortage = SpaceShortage { over_cap, ..SpaceShortage::default() };
            self.evict(shortage, Some(group), WRITER_BLOBS_MAX);
        }
    }

    /// Evicts what registries have above their own bounds.
    pub(super) fn keep_registries(&self) {
        for group in self.catalog.sized() {
            self.keep_registry(group, 0);
        }
    }

    /// Evicts blobs until there is what is lacking, at most `max` blobs; of one registry alone, if
    /// its bound is why. Returns those that went.
    fn evict(
        &self,
        shortage: SpaceShortage,
        of: Option<RegistryGroup>,
        max: usize,
    ) -> EvictedBlobs {
        let reason = match (of, shortage.over_cap) {
            (Some(_), _) => EvictionReason::RegistryMaxSize,
            (None, 0) => EvictionReason::MinFree,
            (None, _) => EvictionReason::MaxSize,
        };
        self.catalog.count_hits();
        let open_files = self.look_at_open_files();
        let mut freed = EvictedBlobs::default();
        let mut open = Vec::new();
        for _ in 0..max {
            if shortage.is_met_by(freed.bytes, freed.count) || self.is_stopping() {
                break;
            }
            let Some(key) = self.catalog.next(of) else { break };
            match self.evict_blob(&key, &open_files, reason) {
                Ok(Some(bytes)) => freed.add(bytes),
                Ok(None) => {
                    self.catalog.postpone(&key);
                    open.push(key);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot evict a blob");
                    break;
                }
            }
        }
        self.catalog.are_used(&open);
        freed
    }

    /// Evicts a blob, unless it is open. Returns how many bytes went.
    pub(super) fn evict_blob(
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
        let removed = self.unlink(&digest, || self.catalog.evicted(key, reason))?;
        drop(held);
        let Some(removed) = removed else { return Ok(Some(0)) };
        let unused = self.catalog.now().saturating_sub(removed.used);
        tracing::debug!(%digest, bytes = removed.bytes, unused, "evicted a blob");
        self.counts.count(reason, removed.bytes, unused);
        Ok(Some(removed.bytes))
    }

    /// Removes a blob that the operator does not want. If it is open, it is read to its end.
    pub(in crate::store) fn remove_blob(&self, digest: &Digest) -> io::Result<()> {
        self.unlink(digest, || self.catalog.removed(digest))
    }

    fn unlink<T>(&self, digest: &Digest, forget: impl FnOnce() -> T) -> io::Result<T> {
        let names = self.names.lock();
        remove(&self.layout.sums(digest))?;
        remove(&self.layout.blob(digest))?;
        let forgotten = forget();
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
    pub(in crate::store) fn set_limits(&self, limits: SpaceLimits, retention: &RetentionLimits) {
        self.space.set_limits(limits);
        self.catalog.set_retention(retention);
    }

    pub(in crate::store) fn report(&self) -> SpaceReport {
        let (pinned, protected) = (self.catalog.pinned_bytes(), self.catalog.protected_bytes());
        self.counts.report(&self.space, pinned, protected)
    }

    /// Has an eviction under way end, and none begin.
    pub(in crate::store) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    pub(in crate::store) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
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
