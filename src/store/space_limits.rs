//! The bounds that an operator sets: how much the store may take, and how much it leaves free.

use std::fmt;

use bytesize::ByteSize;

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

    pub(super) fn floor(&self, total: u64) -> u64 {
        match self.min_free {
            SpaceAmount::Bytes(bytes) => bytes.min(total / FLOOR_SHARE),
            percent @ SpaceAmount::Percent(_) => percent.of(total),
        }
    }

    pub(super) fn cap(&self, total: u64) -> Option<u64> {
        self.max_size.map(|amount| amount.of(total))
    }

    /// The most that content may take, on a file system of `total` bytes with nothing else on it.
    pub(super) fn most(&self, total: u64) -> u64 {
        let most = total - self.floor(total).min(total);
        let below_cap = |cap: u64| cap.saturating_sub(self.headroom(total)).min(most);
        self.cap(total).map_or(most, below_cap)
    }

    /// Bytes below the cap that no writer is promised: files that are written without a promise
    /// grow into them until they are counted. These are the index, whose log grows by some MiB in a
    /// second of many requests, directories, and drafts of records.
    pub(super) fn headroom(&self, total: u64) -> u64 {
        let share = self.cap(total).map_or(0, |cap| cap / HEADROOM_SHARE);
        share.clamp(HEADROOM_MIN, HEADROOM_MAX)
    }
}

/// The floor in bytes is never more than this share of the file system.
pub(super) const FLOOR_SHARE: u64 = 20;

/// The share of the cap that is kept as headroom. A cache that is larger serves more requests.
const HEADROOM_SHARE: u64 = 50;
const HEADROOM_MIN: u64 = 1 << 20;
const HEADROOM_MAX: u64 = 64 << 20;

/// The share of a bound that is cleared ahead of need, and its maximum in bytes.
pub(super) const SPARE_SHARE: u64 = 50;
pub(super) const SPARE_MAX: u64 = 1 << 30;

/// Inodes that a writer may take: for a file, its checksums, and a directory. As many are left to
/// files that are written without a promise.
pub(super) const INODES_PER_WRITER: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headroom_is_a_fiftieth_of_the_cap_within_bounds() {
        const MIB: u64 = 1 << 20;
        let cases = [
            (None, MIB),
            (Some(SpaceAmount::Bytes(0)), MIB),
            (Some(SpaceAmount::Bytes(10 * MIB)), MIB),
            (Some(SpaceAmount::Bytes(200 * MIB)), 4 * MIB),
            (Some(SpaceAmount::Bytes(MIB << 20)), 64 * MIB),
            (Some(SpaceAmount::Percent(50)), 10 * MIB),
        ];
        for (max_size, headroom) in cases {
            let limits = SpaceLimits { max_size, ..SpaceLimits::NONE };
            assert_eq!(limits.headroom(1000 * MIB), headroom, "{max_size:?}");
        }
    }
}
