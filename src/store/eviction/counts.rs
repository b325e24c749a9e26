//! The evictions since the start, for operators.

use parking_lot::Mutex;

use crate::store::space::{FreeSpace, SpacePart};

/// The bound for which a blob was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionReason {
    /// It was not pulled for longer than `max_idle`.
    MaxIdle,
    /// The store would take more than `max_size`.
    MaxSize,
    /// Less than `min_free` would be free on the file system, or too few inodes.
    MinFree,
    /// Its registry would take more than its own `max_size`.
    RegistryMaxSize,
}

impl EvictionReason {
    /// Every one, in the order of its counters.
    pub const ALL: [Self; 4] = [Self::MaxIdle, Self::MaxSize, Self::MinFree, Self::RegistryMaxSize];

    /// The value of the metrics' label: the key of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxIdle => "max_idle",
            Self::MaxSize => "max_size",
            Self::MinFree => "min_free",
            Self::RegistryMaxSize => "registry_max_size",
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

impl EvictedBlobs {
    pub(super) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// The space of a store and what was evicted since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceReport {
    /// `max_size` in bytes, if there is one.
    pub cap: Option<u64>,
    /// Bytes of each part, in the order of [`SpacePart::ALL`].
    pub used: [u64; SpacePart::ALL.len()],
    /// Bytes of pinned content, which is part of the blobs.
    pub pinned: u64,
    /// Bytes of content that goes last, as no upstream can give it now; part of the blobs.
    pub protected: u64,
    /// In the order of [`EvictionReason::ALL`].
    pub evicted: [EvictedBlobs; EvictionReason::ALL.len()],
    /// Seconds from the last use to the eviction of the blob that was evicted last, for another
    /// reason than its age.
    pub last_unused: Option<u64>,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct EvictionCounts(Mutex<EvictionTally>);

#[derive(Debug, Default)]
struct EvictionTally {
    evicted: [EvictedBlobs; EvictionReason::ALL.len()],
    logged: [EvictedBlobs; EvictionReason::ALL.len()],
    last_unused: Option<u64>,
}

impl EvictionCounts {
    /// Counts a blob that was last used `unused` seconds ago.
    pub(super) fn count(&self, reason: EvictionReason, bytes: u64, unused: u32) {
        let mut tally = self.0.lock();
        // Content that goes for its age says nothing about the size of the cache.
        if reason != EvictionReason::MaxIdle {
            tally.last_unused = Some(unused.into());
        }
        tally.evicted[reason as usize].add(bytes);
    }

    /// Writes a line if blobs were evicted since the last one.
    pub(super) fn log(&self) {
        let mut tally = self.0.lock();
        let evicted = tally.evicted;
        let before = std::mem::replace(&mut tally.logged, evicted);
        for reason in EvictionReason::ALL {
            let (now, before) = (evicted[reason as usize], before[reason as usize]);
            let (blobs, bytes) = (now.count - before.count, now.bytes - before.bytes);
            if blobs > 0 {
                let (reason, unused_seconds) = (reason.as_str(), tally.last_unused);
                tracing::info!(reason, blobs, bytes, unused_seconds, "evicted blobs");
            }
        }
    }

    pub(super) fn report(&self, space: &FreeSpace, pinned: u64, protected: u64) -> SpaceReport {
        let EvictionTally { evicted, last_unused, .. } = *self.0.lock();
        let used = SpacePart::ALL.map(|part| space.used(part));
        SpaceReport { cap: space.cap(), used, pinned, protected, evicted, last_unused }
    }
}
