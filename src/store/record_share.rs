//! How much of the disk records may take: clients choose their names, and can choose any number.
//!
//! Pure numbers. They are counted in `space.rs`; which records go is decided in `record_sweep.rs`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::ops::{Add, Sub};

/// A number of records with their directories, and the bytes that these take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordShare {
    /// Files and directories.
    pub(super) files: u64,
    /// Bytes, in whole blocks.
    pub(super) bytes: u64,
}

impl RecordShare {
    /// The most on a disk of which the cache may take `size` bytes, and that has so many inodes, if
    /// it has a number of them.
    pub(super) fn most_of(size: u64, inodes: Option<u64>) -> Self {
        let files = inodes.map_or(RECORDS_MAX, |inodes| RECORDS_MAX.min(inodes / DISK_SHARE));
        Self { files, bytes: size / DISK_SHARE }
    }

    /// Whether either number is above that of `most`.
    pub(super) fn exceeds(self, most: Self) -> bool {
        self.files > most.files || self.bytes > most.bytes
    }

    /// So many tenths of it.
    pub(super) fn tenths(self, tenths: u64) -> Self {
        Self { files: self.files * tenths / 10, bytes: self.bytes / 10 * tenths }
    }
}

impl Add for RecordShare {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { files: self.files + more.files, bytes: self.bytes + more.bytes }
    }
}

impl Sub for RecordShare {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self {
            files: self.files.saturating_sub(less.files),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }
}

/// The records that were made since there are nearly too many, by the directory of a registry.
///
/// Old records take a moment to remove. Until then a registry whose clients make up many of them
/// leaves others as much of what is left as it has taken, so that these wait for nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct LastRecords {
    of: HashMap<OsString, RecordShare>,
}

impl LastRecords {
    /// Whether a registry may have `more`, with which `taken` is taken of `most`.
    pub(super) fn admits(
        &mut self,
        registry: &OsStr,
        more: RecordShare,
        taken: RecordShare,
        most: RecordShare,
    ) -> bool {
        if !taken.exceeds(most.tenths(FULL_TENTHS)) {
            self.of.clear();
            return true;
        }
        let own = self.of.get(registry).copied().unwrap_or_default() + more;
        let is_fair = !taken.exceeds(most) && !own.exceeds(most - taken);
        if is_fair {
            self.of.insert(registry.to_owned(), own);
        }
        is_fair
    }
}

/// Tenths of what there may be from which on records go.
pub(super) const FULL_TENTHS: u64 = 9;

/// Records and their directories, however large the disk is: about 4 GiB. Each tag and each
/// manifest has a row of the index in memory too.
const RECORDS_MAX: u64 = 1_000_000;

/// One in four of the disk's inodes, and of the bytes that the cache may take.
const DISK_SHARE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_take_at_most_a_quarter_of_a_disk_and_a_million_files() {
        let most = |size, inodes| RecordShare::most_of(size, inodes);
        assert_eq!(most(4000, Some(2000)), RecordShare { files: 500, bytes: 1000 });
        assert_eq!(most(4000, None), RecordShare { files: RECORDS_MAX, bytes: 1000 });
        assert_eq!(most(1 << 40, Some(1 << 30)).files, RECORDS_MAX);
        let most = most(4000, Some(2000));
        for (files, bytes, exceeds) in
            [(500, 1000, false), (501, 0, true), (0, 1001, true), (0, 0, false)]
        {
            assert_eq!(RecordShare { files, bytes }.exceeds(most), exceeds, "{files} {bytes}");
        }
        assert_eq!(most.tenths(9), RecordShare { files: 450, bytes: 900 });
    }
    /// A flood of one registry stops half-way, and another one goes on.
    #[test]
    fn the_last_records_are_shared_among_registries() {
        let most = RecordShare { files: 1000, bytes: 1000 * 4096 };
        let one = RecordShare { files: 1, bytes: 4096 };
        let (mut last, mut taken) = (LastRecords::default(), RecordShare::default());
        let mut flood = |registry: &str, taken: &mut RecordShare| {
            let mut made = 0;
            while last.admits(OsStr::new(registry), one, *taken + one, most) {
                *taken = *taken + one;
                made += 1;
            }
            made
        };
        assert_eq!(flood("docker.io", &mut taken), 950, "half of the last tenth");
        assert_eq!(flood("ghcr.io", &mut taken), 25);
        assert_eq!(flood("docker.io", &mut taken), 0);
        // Old ones are gone.
        taken = most.tenths(8);
        assert_eq!(flood("docker.io", &mut taken), 150);
    }
}
