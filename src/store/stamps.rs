//! When content was last verified, and in which run of the machine: its file's modification time.
//!
//! The seconds say when. The nanoseconds are the number of the run, so they need no clock to be
//! compared, and any other program that writes or copies the file gives it other ones. A file
//! system that does not keep nanoseconds, or that takes no change, costs one verification in every
//! process.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::{BootId, WallClock, unix_seconds};

/// Gives and reads stamps.
#[derive(Debug)]
pub(super) struct VerifiedStamps {
    boot: BootId,
    clock: Arc<dyn WallClock>,
    verify_every: Duration,
    /// Verified by this process, and their files would not take it.
    unstamped: Mutex<HashMap<FileState, SystemTime>>,
}

impl VerifiedStamps {
    pub(super) fn new(boot: BootId, clock: Arc<dyn WallClock>, verify_every: Duration) -> Self {
        Self { boot, clock, verify_every, unstamped: Mutex::default() }
    }

    /// Whether the content was verified in this run of the machine, and not too long ago.
    pub(super) fn is_fresh(&self, metadata: &Metadata) -> bool {
        let verified_at = if metadata.mtime_nsec() == i64::from(self.boot.number()) {
            metadata.modified().ok()
        } else {
            self.unstamped.lock().get(&FileState::of(metadata)).copied()
        };
        verified_at.is_some_and(|at| match self.clock.now().duration_since(at) {
            Ok(age) => age < self.verify_every,
            // A stamp of a clock that was wrong for a while must not be believed for years.
            Err(ahead) => ahead.duration() < CLOCK_SLACK,
        })
    }

    /// Notes that all of the file's content was verified just now.
    pub(super) fn put(&self, file: &File) {
        let now = self.clock.now();
        let stamp = Duration::new(unix_seconds(now), self.boot.number());
        // It may fail, on a file system that is read-only for one; what counts is what is there.
        drop(file.set_modified(SystemTime::UNIX_EPOCH + stamp));
        let Ok(metadata) = file.metadata() else { return };
        if self.is_fresh(&metadata) {
            return;
        }
        let mut unstamped = self.unstamped.lock();
        if unstamped.len() >= UNSTAMPED_MAX {
            unstamped.clear();
        }
        unstamped.insert(FileState::of(&metadata), now);
    }
}

/// Which file, and when it was last changed in any way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileState {
    file: FileId,
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { file: FileId::of(metadata), changed }
    }
}

/// Which file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// How far a stamp may lie in the future: clocks are set back by less.
const CLOCK_SLACK: Duration = Duration::from_secs(24 * 3600);

/// How many files are remembered that take no stamp, 64 bytes each: 4 MiB. When there are more, all
/// are verified once again.
const UNSTAMPED_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn stamps(boot: &str) -> VerifiedStamps {
        VerifiedStamps::new(BootId::of_id(boot).unwrap(), Arc::new(SystemClock), 30 * DAY)
    }

    #[test]
    fn a_stamp_is_of_one_boot_and_not_for_ever() {
        let file = tempfile::tempfile().unwrap();
        let (first, second) = (stamps("1"), stamps("2"));
        assert!(!first.is_fresh(&file.metadata().unwrap()), "written, not verified");

        first.put(&file);
        let metadata = file.metadata().unwrap();
        assert!(first.is_fresh(&metadata));
        assert!(!second.is_fresh(&metadata), "the machine has started anew");

        for (shift, is_fresh) in [(29, true), (31, false)] {
            file.set_modified(metadata.modified().unwrap() - shift * DAY).unwrap();
            assert_eq!(first.is_fresh(&file.metadata().unwrap()), is_fresh, "{shift} days ago");
        }
        file.set_modified(metadata.modified().unwrap() + 2 * DAY).unwrap();
        assert!(!first.is_fresh(&file.metadata().unwrap()), "in the future");
    }

    /// On a read-only file system nothing may be verified again for every reader.
    #[test]
    fn what_takes_no_stamp_is_remembered() {
        let null = File::open("/dev/null").unwrap();
        let mut stamps = stamps("1");
        // As with a file system that drops nanoseconds: what is read back is another number.
        let file = tempfile::tempfile().unwrap();
        stamps.put(&file);
        let metadata = file.metadata().unwrap();
        stamps.boot = BootId::of_id("2").unwrap();
        stamps.unstamped.lock().insert(FileState::of(&metadata), SystemClock.now());
        assert!(stamps.is_fresh(&metadata));
        assert!(!stamps.is_fresh(&null.metadata().unwrap()));

        std::io::Write::write_all(&mut &file, b"changed").unwrap();
        assert!(!stamps.is_fresh(&file.metadata().unwrap()), "changed since");
    }
}
