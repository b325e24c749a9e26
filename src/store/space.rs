//! How much the store takes, how much it may take, and what is promised before it is written.
//!
//! Two bounds hold: the bytes of the store, and the space that is left free on its file system for
//! everything else that lives there. Bytes are promised to one writer before it begins, and are not
//! promised to another until the file system has set them aside. Bytes that go from one count to
//! another are added there before they are subtracted here, so that they are always counted. The
//! way to more room is decided in `eviction/`.
//!
//! A file system may also have a number of inodes, and is as full without a free one as without a
//! free block. How many of both records may take is decided in `record_share.rs`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::record_share::{LastRecords, RecordShare};
use super::record_store::REGISTRIES;
use super::space_limits::{
    FLOOR_SHARE, INODES_PER_WRITER, SPARE_MAX, SPARE_SHARE, SpaceAmount, SpaceLimits,
};
use super::space_shortage::SpaceShortage;

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that a process without privileges may still write.
    pub available: u64,
    /// Bytes of these that are left free: `min_free`, or less on a small file system.
    pub min_free: u64,
    /// Its size.
    pub total: u64,
    /// Inodes that are free and that there are; `None` where there is no such number.
    pub(super) inodes: Option<InodeCount>,
}

/// The inodes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InodeCount {
    /// Those that a process without privileges may still take.
    pub(super) available: u64,
    /// All of them.
    pub(super) total: u64,
}

/// A part of the store that takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpacePart {
    /// Blobs, and the checksums beside them.
    Blobs,
    /// Directories, but for those of records.
    Directories,
    /// The index.
    Index,
    /// Downloads and copies of uploads: those in flight, and those that wait to be resumed.
    Partials,
    /// Records, and their directories.
    Records,
    /// Files without a name that are still being read.
    Unlinked,
}

impl SpacePart {
    /// Every one, in the order of its counters.
    pub const ALL: [Self; 6] = [
        Self::Blobs,
        Self::Directories,
        Self::Index,
        Self::Partials,
        Self::Records,
        Self::Unlinked,
    ];

    /// The value of the metrics' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Directories => "directories",
            Self::Index => "index",
            Self::Partials => "partials",
            Self::Records => "records",
            Self::Unlinked => "unlinked",
        }
    }
}

/// The file system's space, and the store's share of it. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct FreeSpace {
    dir: PathBuf,
    /// The tree of records.
    records: PathBuf,
    ledger: Arc<Mutex<SpaceLedger>>,
    last_records: Arc<Mutex<LastRecords>>,
}

/// Every count at one moment.
#[derive(Clone, Copy, Debug)]
struct SpaceLedger {
    limits: SpaceLimits,
    promised: u64,
    /// Writers to which something is promised.
    writers: u64,
    /// Files and directories of records.
    record_files: u64,
    /// When they were last counted by a walk.
    records_walked_at: Option<Instant>,
    /// The part of records that is promised to writers of new ones.
    records_promised: RecordShare,
    /// The size of the file system, when it was last asked for.
    total: u64,
    /// The part of `min_free` that was last logged as left free, because all of it is too much.
    clamped_to: Option<u64>,
    used: [u64; SpacePart::ALL.len()],
}

impl SpaceLedger {
    /// Logs once that less than `min_free` is left free, if that is so.
    fn log_clamp(&mut self) {
        let SpaceAmount::Bytes(min_free) = self.limits.min_free else { return };
        let left_free = Some(self.limits.floor(self.total)).filter(|floor| *floor < min_free);
        if left_free != self.clamped_to && left_free.is_some() {
            tracing::info!(
                min_free,
                left_free,
                disk_size = self.total,
                "`cache.min_free` is more than a twentieth of the disk; that much is left free"
            );
        }
        self.clamped_to = left_free;
    }

    fn records(&self) -> RecordShare {
        RecordShare { files: self.record_files, bytes: self.used[SpacePart::Records as usize] }
    }

    /// The bytes of all parts, and those that are promised.
    fn taken(&self) -> u64 {
        self.used.iter().sum::<u64>().saturating_add(self.promised)
    }
}

impl FreeSpace {
    pub(super) fn new(dir: &Path, limits: SpaceLimits) -> Self {
        let ledger = SpaceLedger {
            limits,
            promised: 0,
            writers: 0,
            record_files: 0,
            records_walked_at: None,
            records_promised: RecordShare::default(),
            total: 0,
            clamped_to: None,
            used: Default::default(),
        };
        let ledger = Arc::new(Mutex::new(ledger));
        let last_records = Arc::default();
        Self { dir: dir.to_owned(), records: dir.join(REGISTRIES), ledger, last_records }
    }

    fn ledger(&self) -> MutexGuard<'_, SpaceLedger> {
        self.ledger.lock()
    }

    /// The bounds from now on.
    pub(super) fn set_limits(&self, limits: SpaceLimits) {
        self.ledger().limits = limits;
    }

    /// The space on the file system. Blocks for one system call.
    pub(super) fn room(&self) -> io::Result<DiskSpace> {
        let fs = rustix::fs::statvfs(&self.dir)?;
        let total = fs.f_blocks.saturating_mul(fs.f_frsize);
        let available = fs.f_bavail.saturating_mul(fs.f_frsize);
        let inodes = InodeCount { available: fs.f_favail, total: fs.f_files };
        let inodes = Some(inodes).filter(|inodes| inodes.total > 0);
        let mut ledger = self.ledger();
        ledger.total = total;
        ledger.log_clamp();
        Ok(DiskSpace { available, min_free: ledger.limits.floor(total), total, inodes })
    }

    /// Whether `bytes` would fit if nothing else were on the file system. Does not block.
    pub(super) fn could_hold(&self, bytes: u64) -> bool {
        let SpaceLedger { limits, total, .. } = *self.ledger();
        bytes <= limits.most(total)
    }

    /// An amount of what content may take, in bytes. Does not block.
    pub(super) fn part_of_most(&self, amount: SpaceAmount) -> u64 {
        let SpaceLedger { limits, total, .. } = *self.ledger();
        amount.of(limits.most(total))
    }

    /// `max_size` in bytes, if there is one. Does not block.
    pub(super) fn cap(&self) -> Option<u64> {
        let ledger = self.ledger();
        ledger.limits.cap(ledger.total)
    }

    /// The most that content may take. Blocks for one system call.
    pub(super) fn most(&self) -> io::Result<u64> {
        let total = self.room()?.total;
        Ok(self.ledger().limits.most(total))
    }

    /// The size of the file system, when it was last asked for. Does not block.
    pub(super) fn total(&self) -> u64 {
        self.ledger().total
    }

    /// Promises `bytes`, whether there is room for them or not.
    pub(super) fn promise(&self, bytes: u64) -> SpaceReservation {
        let mut ledger = self.ledger();
        ledger.promised += bytes;
        ledger.writers += 1;
        SpaceReservation { bytes, ledger: Arc::clone(&self.ledger) }
    }

    /// The bytes that are lacking now to `more` bytes and all promises. With `is_ahead` some room
    /// is to be left for the next writers. `is_known` says whether the counters have all of the
    /// store; if not, the store may be as large as its bound. Blocks for one system call.
    pub(super) fn shortage(
        &self,
        more: u64,
        is_ahead: bool,
        is_known: bool,
    ) -> io::Result<SpaceShortage> {
        // First, so that no promise is fulfilled in between and missing on both sides.
        let mut ledger = *self.ledger();
        ledger.writers += u64::from(more > 0);
        let DiskSpace { available, min_free: floor, total, inodes } = self.room()?;
        let headroom = ledger.limits.headroom(total);
        ledger.promised = ledger.promised.saturating_add(more).saturating_add(headroom);
        let spare = |bound: u64| if is_ahead { (bound / SPARE_SHARE).min(SPARE_MAX) } else { 0 };
        let over_cap = ledger.limits.cap(total).map_or(0, |cap| {
            let assumed = if is_known { 0 } else { cap.min(total - available.min(total)) };
            let taken = ledger.taken().max(assumed.saturating_add(ledger.promised));
            taken.saturating_add(spare(cap)).saturating_sub(cap)
        });
        let spare = if floor == 0 { 0 } else { spare(total) };
        let wanted = ledger.promised.saturating_add(floor).saturating_add(spare);
        let below_floor = wanted.saturating_sub(available);
        let inodes = inodes.map_or(0, |inodes| {
            let left = if floor == 0 { 0 } else { inodes.total / FLOOR_SHARE };
            let spare = if floor == 0 || !is_ahead { 0 } else { inodes.total / SPARE_SHARE };
            let writers = (ledger.writers + 1) * INODES_PER_WRITER;
            (left + spare + writers).saturating_sub(inodes.available)
        });
        Ok(SpaceShortage { over_cap, below_floor, inodes })
    }

    /// The records.
    pub(super) fn records(&self) -> RecordShare {
        self.ledger().records()
    }

    /// The most that records may be. Blocks for one system call.
    pub(super) fn most_records(&self) -> io::Result<RecordShare> {
        let DiskSpace { total, inodes, .. } = self.room()?;
        let size = self.ledger().limits.cap(total).map_or(total, |cap| cap.min(total));
        Ok(RecordShare::most_of(size, inodes.map(|inodes| inodes.total)))
    }

    /// Promises part of the records' share to a writer, for the records in the directory of a
    /// registry; `None` if that is too much, and not if it is nothing.
    pub(super) fn promise_record(
        &self,
        registry: &OsStr,
        more: RecordShare,
    ) -> io::Result<Option<RecordPermit>> {
        let most = self.most_records()?;
        let mut ledger = self.ledger();
        let promised = ledger.records_promised + more;
        let taken = ledger.records() + promised;
        let admits = || self.last_records.lock().admits(registry, more, taken, most);
        if more != RecordShare::default() && !admits() {
            return Ok(None);
        }
        ledger.records_promised = promised;
        Ok(Some(RecordPermit { promised: more, ledger: Arc::clone(&self.ledger) }))
    }

    /// Counts a record or a directory of records that came (+1) or went (-1).
    pub(super) fn count_record_file(&self, change: i64) {
        let files = &mut self.ledger().record_files;
        *files = files.saturating_add_signed(change);
    }

    /// Takes the records for at least so many, until they are measured.
    pub(super) fn has_records(&self, least: RecordShare) {
        let mut ledger = self.ledger();
        let bytes = &mut ledger.used[SpacePart::Records as usize];
        *bytes = least.bytes.max(*bytes);
        ledger.record_files = least.files.max(ledger.record_files);
    }

    /// Counts the records anew, as they were found by a walk that began when they were `before`. It
    /// may have missed those that have come since.
    pub(super) fn set_records(&self, found: RecordShare, before: RecordShare) {
        let mut ledger = self.ledger();
        let RecordShare { files, bytes } = found + (ledger.records() - before);
        ledger.used[SpacePart::Records as usize] = bytes;
        ledger.record_files = files;
        ledger.records_walked_at = Some(Instant::now());
    }

    /// When the records were last counted by a walk; `None` if they never were.
    pub(super) fn records_walked_at(&self) -> Option<Instant> {
        self.ledger().records_walked_at
    }

    /// The bytes of a part.
    pub(super) fn used(&self, part: SpacePart) -> u64 {
        self.ledger().used[part as usize]
    }

    /// Counts a file of a part that took `before` bytes and takes `now`.
    pub(super) fn count(&self, part: SpacePart, before: u64, now: u64) {
        let used = &mut self.ledger().used[part as usize];
        *used = used.saturating_add(now).saturating_sub(before);
    }

    /// Counts a part anew.
    pub(super) fn set(&self, part: SpacePart, bytes: u64) {
        self.ledger().used[part as usize] = bytes;
    }

    /// Makes the directory of a file, and those above it, and counts what they take.
    pub(super) fn make_parent(&self, path: &Path) -> io::Result<()> {
        let Some(dir) = path.parent() else { return Ok(()) };
        let mut made = fs::create_dir(dir);
        if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            self.make_parent(dir)?;
            made = fs::create_dir(dir);
        }
        match made {
            Ok(()) => {
                let taken = dir.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
                if dir.starts_with(&self.records) {
                    self.count_record_file(1);
                    self.count(SpacePart::Records, 0, taken);
                } else {
                    self.count(SpacePart::Directories, 0, taken);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The part of the records' share that is promised to one writer, until it is dropped.
#[derive(Debug)]
pub(super) struct RecordPermit {
    promised: RecordShare,
    ledger: Arc<Mutex<SpaceLedger>>,
}

impl Drop for RecordPermit {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        ledger.records_promised = ledger.records_promised - self.promised;
    }
}

/// Bytes promised to one writer. Dropping it gives back what was not taken.
#[derive(Debug)]
pub(super) struct SpaceReservation {
    bytes: u64,
    ledger: Arc<Mutex<SpaceLedger>>,
}

impl SpaceReservation {
    /// Gives back the promise of bytes that the file system has set aside, and that are counted.
    pub(super) fn fulfil(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.ledger.lock().promised -= bytes;
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        self.fulfil(self.bytes);
        self.ledger.lock().writers -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl FreeSpace {
        /// The bytes of all parts, and those that are promised.
        pub(in crate::store) fn taken(&self) -> u64 {
            self.ledger().taken()
        }
    }

    const NOTHING: SpaceShortage = SpaceShortage { over_cap: 0, below_floor: 0, inodes: 0 };

    fn space(max_size: Option<u64>, min_free: SpaceAmount) -> (FreeSpace, DiskSpace) {
        let limits = SpaceLimits { max_size: max_size.map(SpaceAmount::Bytes), min_free };
        let space = FreeSpace::new(&std::env::temp_dir(), limits);
        let room = space.room().unwrap();
        (space, room)
    }

    #[test]
    fn what_is_promised_to_one_is_not_promised_to_another() {
        let (space, room) = space(None, SpaceAmount::Bytes(0));
        let most_of_it = room.available / 10 * 8;

        let mut first = space.promise(most_of_it);
        assert_eq!(space.shortage(0, false, true).unwrap(), NOTHING);
        let second = space.promise(most_of_it);
        assert!(space.shortage(0, false, true).unwrap().below_floor > 0);

        drop(second);
        assert_eq!(space.shortage(0, false, true).unwrap(), NOTHING);
        first.fulfil(most_of_it);
        drop(first);
        assert_eq!(space.taken(), 0);
    }

    #[test]
    fn the_floor_is_left_free() {
        let (space, room) = space(None, SpaceAmount::Bytes(u64::MAX));
        let _promise = space.promise(room.available);
        let lacking = space.shortage(0, false, true).unwrap().below_floor;
        assert!(lacking.abs_diff(room.total / FLOOR_SHARE) < room.total / 100, "{lacking}");
        assert_eq!(SpaceAmount::Percent(10).of(1000), 100);
    }

    /// With a cap of 1000 steps, 20 are headroom and 20 are cleared ahead of need.
    #[test]
    fn files_promises_and_headroom_are_held_below_the_cap() {
        const STEP: u64 = 1 << 16;
        let (space, room) = space(Some(1000 * STEP), SpaceAmount::Bytes(0));
        let over_cap = |is_ahead: bool, is_known: bool| {
            space.shortage(0, is_ahead, is_known).unwrap().over_cap
        };
        space.count(SpacePart::Blobs, 0, 680 * STEP);
        space.count(SpacePart::Records, 0, 200 * STEP);
        assert_eq!((over_cap(false, true), over_cap(true, true)), (0, 0));
        space.count(SpacePart::Blobs, 680 * STEP, 765 * STEP);
        assert_eq!((over_cap(false, true), over_cap(true, true)), (0, 5 * STEP));
        let promise = space.promise(100 * STEP);
        assert_eq!(over_cap(false, true), 85 * STEP);
        space.set(SpacePart::Blobs, 0);
        assert_eq!(over_cap(false, true), 0);
        let assumed = (1000 * STEP).min(room.total - room.available);
        assert_eq!(over_cap(false, false), (assumed + 120 * STEP).saturating_sub(1000 * STEP));
        drop(promise);
        space.count(SpacePart::Blobs, 1, 0);
        assert_eq!(space.used(SpacePart::Blobs), 0, "counters do not wrap");
    }

    /// SIGHUP may change the cap: what is kept below it changes with it.
    #[test]
    fn the_headroom_follows_the_cap() {
        const MIB: u64 = 1 << 20;
        let (space, _) = space(Some(1000 * MIB), SpaceAmount::Bytes(0));
        let over_cap = || space.shortage(0, false, true).unwrap().over_cap;
        space.count(SpacePart::Blobs, 0, 980 * MIB);
        assert_eq!((over_cap(), space.could_hold(980 * MIB)), (0, true));
        assert!(!space.could_hold(981 * MIB), "it would take the headroom");

        let max_size = Some(SpaceAmount::Bytes(500 * MIB));
        space.set_limits(SpaceLimits { max_size, ..SpaceLimits::NONE });
        assert_eq!((over_cap(), space.could_hold(490 * MIB)), (490 * MIB, true));
        assert!(!space.could_hold(491 * MIB));
    }
}
