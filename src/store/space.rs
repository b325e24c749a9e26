//! May this many bytes be written? Decided before they are.
//!
//! Some space is always left free, for whatever else lives on the file system. What one fill has
//! been promised but has not yet taken from the file system is not promised to another.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file system's free space, and what of it is spoken for.
#[derive(Clone, Debug)]
pub(super) struct FreeSpace {
    dir: PathBuf,
    min_free: u64,
    promised: Arc<AtomicU64>,
}

/// The room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What a process without privileges may still write.
    pub available: u64,
    /// What there is in all.
    pub total: u64,
}

impl FreeSpace {
    pub(super) fn new(dir: &Path, min_free: u64) -> Self {
        Self { dir: dir.to_owned(), min_free, promised: Arc::default() }
    }

    /// What there is. Blocks for one system call.
    pub(super) fn room(&self) -> io::Result<DiskSpace> {
        let fs = rustix::fs::statvfs(&self.dir)?;
        let total = fs.f_blocks.saturating_mul(fs.f_frsize);
        let available = fs.f_bavail.saturating_mul(fs.f_frsize);
        Ok(DiskSpace { available, total })
    }

    /// Promises `bytes`, or says that they are not to be had. Blocks for one system call.
    pub(super) fn reserve(&self, bytes: u64) -> io::Result<SpaceReservation> {
        let DiskSpace { available, total } = self.room()?;
        let floor = self.min_free.min(total / FLOOR_SHARE);

        let before = self.promised.fetch_add(bytes, Ordering::Relaxed);
        let reservation = SpaceReservation { bytes, promised: Arc::clone(&self.promised) };
        let needed = before.saturating_add(bytes).saturating_add(floor);
        if available < needed {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(reservation)
    }
}

/// The floor is never more than this share of the file system, so that a small one is usable.
const FLOOR_SHARE: u64 = 20;

/// Bytes promised to one writer. Dropping it gives back what was not taken.
#[derive(Debug)]
pub(super) struct SpaceReservation {
    bytes: u64,
    promised: Arc<AtomicU64>,
}

impl SpaceReservation {
    /// The file system has set these bytes aside itself; the promise is fulfilled.
    pub(super) fn taken(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.promised.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        self.taken(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_to_one_is_not_promised_to_another() {
        let dir = tempfile::tempdir().unwrap();
        let space = FreeSpace::new(dir.path(), 0);
        let fs = rustix::fs::statvfs(dir.path()).unwrap();
        let most_of_it = fs.f_bavail * fs.f_frsize / 10 * 8;

        let first = space.reserve(most_of_it).unwrap();
        let second = space.reserve(most_of_it).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::StorageFull);

        drop(first);
        let mut third = space.reserve(most_of_it).expect("a dropped promise is given back");
        third.taken(most_of_it);
        assert_eq!(space.promised.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_floor_is_left_free() {
        let dir = tempfile::tempdir().unwrap();
        let space = FreeSpace::new(dir.path(), u64::MAX);
        let fs = rustix::fs::statvfs(dir.path()).unwrap();
        let available = fs.f_bavail * fs.f_frsize;
        assert!(space.reserve(available).is_err(), "a twentieth must stay free");
    }
}
