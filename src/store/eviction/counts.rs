//! The evictions since the start, for operators.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::store::space::{FreeSpace, SpacePart};

/// The bound for which a blob was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionReason {
    /// The store would take more than `max_size`.
    MaxSize,
    /// Less than `min_free` would be free on the file system.
    MinFree,
}

impl EvictionReason {
    /// Every one, in the order of its counters.
    pub const ALL: [Self; 2] = [Self::MaxSize, Self::MinFree];

    /// The value of the metrics' label: the key of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxSize => "max_size",
            Self::MinFree => "min_free",
        }
    }
}

/// Blobs that were evicted for a reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EvictedBlobs {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The space of a store and what was evicted since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceReport {
    /// `max_size` in bytes, if there is one.
    pub cap: Option<u64>,
    /// Bytes of each part, in the order of [`SpacePart::ALL`].
    pub used: [u64; SpacePart::ALL.len()],
    /// In the order of [`EvictionReason::ALL`].
    pub evicted: [EvictedBlobs; EvictionReason::ALL.len()],
    /// Seconds from the last use to the eviction of the blob that was evicted last.
    pub last_unused: Option<u64>,
}

/// The counters.
#[derive(Debug)]
pub(super) struct EvictionCounts {
    evicted: Mutex<[EvictedBlobs; EvictionReason::ALL.len()]>,
    logged: Mutex<[EvictedBlobs; EvictionReason::ALL.len()]>,
    last_unused: AtomicU64,
}

impl Default for EvictionCounts {
    fn default() -> Self {
        Self {
            evicted: Mutex::default(),
            logged: Mutex::default(),
            last_unused: AtomicU64::new(u64::MAX),
        }
    }
}

impl EvictionCounts {
    /// Counts a blob that was last used `unused` seconds ago.
    pub(super) fn count(&self, reason: EvictionReason, bytes: u64, unused: u32) {
        let counts = &mut self.evicted.lock()[reason as usize];
        counts.count += 1;
        counts.bytes += bytes;
        self.last_unused.store(unused.into(), Ordering::Relaxed);
    }

    /// Writes a line if blobs were evicted since the last one.
    pub(super) fn log(&self) {
        let evicted = *self.evicted.lock();
        let before = std::mem::replace(&mut *self.logged.lock(), evicted);
        for reason in EvictionReason::ALL {
            let (now, before) = (evicted[reason as usize], before[reason as usize]);
            let (blobs, bytes) = (now.count - before.count, now.bytes - before.bytes);
            if blobs > 0 {
                let unused_seconds = self.last_unused.load(Ordering::Relaxed);
                let reason = reason.as_str();
                tracing::info!(reason, blobs, bytes, unused_seconds, "evicted blobs");
            }
        }
    }

    pub(super) fn report(&self, space: &FreeSpace) -> SpaceReport {
        let last_unused = self.last_unused.load(Ordering::Relaxed);
        SpaceReport {
            cap: space.cap(),
            used: SpacePart::ALL.map(|part| space.used(part)),
            evicted: *self.evicted.lock(),
            last_unused: (last_unused != u64::MAX).then_some(last_unused),
        }
    }
}
