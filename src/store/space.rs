//! How much the store takes, how much it may take, and what is promised before it is written.
//!
//! Two bounds hold: the bytes of the store, and the space that is left free on its file system for
//! everything else that lives there. Bytes are promised to one writer before it begins, and are not
//! promised to another until the file system has set them aside. Bytes that go from one count to
//! another are added there before they are subtracted here, so that they are always counted. The
//! way to more room is decided in `eviction/`.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use parking_lot::{Mutex, MutexGuard};

/// An amount of space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceAmount {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the file system.
    Percent(u8),
}

impl SpaceAmount {
    /// In bytes, on a file system of `total` bytes.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

impl fmt::Display for SpaceAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{}", ByteSize(*bytes).display().iec()),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The bounds of the store. They may change while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Bytes that all files of the store may take; `None` for as many as `min_free` leaves.
    pub max_size: Option<SpaceAmount>,
    /// Space that is left free on the file system. Bytes are at most a twentieth of it, so that a
    /// small one is usable.
    pub min_free: SpaceAmount,
}

impl SpaceLimits {
    /// No bounds but the file system's own.
    pub const NONE: Self = Self { max_size: None, min_free: SpaceAmount::Bytes(0) };

    fn floor(&self, total: u64) -> u64 {
        match self.min_free {
            SpaceAmount::Bytes(bytes) => bytes.min(total / FLOOR_SHARE),
            percent @ SpaceAmount::Percent(_) => percent.of(total),
        }
    }

    fn cap(&self, total: u64) -> Option<u64> {
        self.max_size.map(|amount| amount.of(total))
    }
}

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that a process without privileges may still write.
    pub available: u64,
    /// Bytes of these that are left free: `min_free`, or less on a small file system.
    pub min_free: u64,
    /// Its size.
    pub total: u64,
}

/// A part of the store that takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpacePart {
    /// Blobs, and the checksums beside them.
    Blobs,
    /// The index.
    Index,
    /// Downloads and copies of uploads: those in flight, and those that wait to be resumed.
    Partials,
    /// Records, and directories.
    Records,
    /// Files without a name that are still being read.
    Unlinked,
}

impl SpacePart {
    /// Every one, in the order of its counters.
    pub const ALL: [Self; 5] =
        [Self::Blobs, Self::Index, Self::Partials, Self::Records, Self::Unlinked];

    /// The value of the metrics' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Index => "index",
            Self::Partials => "partials",
            Self::Records => "records",
            Self::Unlinked => "unlinked",
        }
    }
}

/// The bytes that there are too few of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SpaceShortage {
    /// Bytes that the store takes or has promised above `max_size`.
    pub(super) over_cap: u64,
    /// Bytes that the file system lacks to `min_free` and the promises.
    pub(super) below_floor: u64,
}

impl SpaceShortage {
    /// Bytes that have to go; 0 when there is room.
    pub(super) fn bytes(self) -> u64 {
        self.over_cap.max(self.below_floor)
    }
}

/// The file system's space, and the store's share of it. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct FreeSpace {
    dir: PathBuf,
    ledger: Arc<Mutex<SpaceLedger>>,
}

/// Every count at one moment.
#[derive(Clone, Copy, Debug)]
struct SpaceLedger {
    limits: SpaceLimits,
    promised: u64,
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
            total: 0,
            clamped_to: None,
            used: Default::default(),
        };
        Self { dir: dir.to_owned(), ledger: Arc::new(Mutex::new(ledger)) }
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
        let mut ledger = self.ledger();
        ledger.total = total;
        ledger.log_clamp();
        Ok(DiskSpace { available, min_free: ledger.limits.floor(total), total })
    }

    /// Whether `bytes` would fit if nothing else were on the file system. Does not block.
    pub(super) fn could_hold(&self, bytes: u64) -> bool {
        let SpaceLedger { limits, total, .. } = *self.ledger();
        let most = total - limits.floor(total).min(total);
        bytes <= limits.cap(total).map_or(most, |cap| cap.min(most))
    }

    /// `max_size` in bytes, if there is one. Does not block.
    pub(super) fn cap(&self) -> Option<u64> {
        let ledger = self.ledger();
        ledger.limits.cap(ledger.total)
    }

    /// Promises `bytes`, whether there is room for them or not.
    pub(super) fn promise(&self, bytes: u64) -> SpaceReservation {
        self.ledger().promised += bytes;
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
        ledger.promised = ledger.promised.saturating_add(more);
        let DiskSpace { available, min_free: floor, total } = self.room()?;
        let spare = |bound: u64| if is_ahead { (bound / SPARE_SHARE).min(SPARE_MAX) } else { 0 };
        let over_cap = ledger.limits.cap(total).map_or(0, |cap| {
            let assumed = if is_known { 0 } else { cap.min(total - available.min(total)) };
            let taken = ledger.taken().max(assumed.saturating_add(ledger.promised));
            taken.saturating_add(spare(cap)).saturating_sub(cap)
        });
        let spare = if floor == 0 { 0 } else { spare(total) };
        let wanted = ledger.promised.saturating_add(floor).saturating_add(spare);
        Ok(SpaceShortage { over_cap, below_floor: wanted.saturating_sub(available) })
    }

    /// The bytes of a part.
    pub(super) fn used(&self, part: SpacePart) -> u64 {
        self.ledger().used[part as usize]
    }

    /// The bytes of all parts, and those that are promised.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.ledger().taken()
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
                self.count(SpacePart::Records, 0, taken);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The floor in bytes is never more than this share of the file system.
const FLOOR_SHARE: u64 = 20;

/// The share of a bound that is cleared ahead of need, and its maximum in bytes.
const SPARE_SHARE: u64 = 50;
const SPARE_MAX: u64 = 1 << 30;

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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: SpaceShortage = SpaceShortage { over_cap: 0, below_floor: 0 };

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

    #[test]
    fn files_and_promises_are_held_below_the_cap() {
        let (space, _) = space(Some(1000), SpaceAmount::Bytes(0));
        space.count(SpacePart::Blobs, 0, 700);
        space.count(SpacePart::Records, 0, 200);
        assert_eq!(space.shortage(0, false, true).unwrap(), NOTHING);
        assert_eq!(space.shortage(0, true, true).unwrap(), NOTHING, "20 are to be left");
        space.count(SpacePart::Blobs, 700, 785);
        assert_eq!(space.shortage(0, true, true).unwrap().over_cap, 5);
        let _promise = space.promise(100);
        assert_eq!(space.shortage(0, false, true).unwrap().over_cap, 85);
        space.set(SpacePart::Blobs, 0);
        assert_eq!(space.shortage(0, false, true).unwrap(), NOTHING);
        assert_eq!(space.shortage(0, false, false).unwrap().over_cap, 100, "it may be full");
        space.count(SpacePart::Blobs, 1, 0);
        assert_eq!(space.used(SpacePart::Blobs), 0, "counters do not wrap");
    }
}
