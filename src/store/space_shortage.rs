//! The room that is lacking. `space.rs` decides how much that is, and `eviction/` how it is made.

/// The bytes and inodes that there are too few of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SpaceShortage {
    /// Bytes that the store takes or has promised above `max_size`.
    pub(super) over_cap: u64,
    /// Bytes that the file system lacks to `min_free` and the promises.
    pub(super) below_floor: u64,
    /// Inodes that the file system lacks.
    pub(super) inodes: u64,
}

impl SpaceShortage {
    /// Bytes that have to go.
    pub(super) fn bytes(self) -> u64 {
        self.over_cap.max(self.below_floor)
    }

    /// Whether so many bytes in so many files are as many as are lacking.
    pub(super) fn is_met_by(self, bytes: u64, files: u64) -> bool {
        self.bytes() <= bytes && self.inodes <= files
    }

    /// Whether there is room.
    pub(super) fn is_none(self) -> bool {
        self.is_met_by(0, 0)
    }
}
