//! How fills end, and whether the disk takes them: shown to operators.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cache::fill::progress::FillProgress;
use crate::cache::{BypassReason, CacheError};
use crate::oci::RegistryName;
use crate::store::Store;

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FillEnd {
    /// The bytes were wrong.
    Corrupt,
    /// The upstream did not send all bytes.
    Failed,
    /// The disk failed, and readers went on from the upstream.
    Relayed,
    /// The blob is verified, and in the store if the disk took it.
    Stored,
}

impl FillEnd {
    /// The value of the metrics' label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
            Self::Stored => "stored",
        }
    }

    fn of(end: &FillProgress) -> Self {
        match end {
            FillProgress::Done { .. } => Self::Stored,
            FillProgress::Relaying { .. } => Self::Relayed,
            FillProgress::Failed(CacheError::Corrupt { .. }) => Self::Corrupt,
            FillProgress::Asking | FillProgress::Filling { .. } | FillProgress::Failed(_) => {
                Self::Failed
            }
        }
    }
}

/// The fills that have ended.
#[derive(Debug, Default)]
pub(crate) struct FillStats {
    ends: Mutex<BTreeMap<(String, FillEnd), u64>>,
    /// The last blob that the disk did not take, unless it has taken as large a one since.
    bypassed: Mutex<Option<DiskTrouble>>,
}

/// A disk that did not take a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskTrouble {
    pub(crate) reason: BypassReason,
    /// Bytes for which there has to be room before it is over; 0 if that does not depend on room.
    pub(crate) needs: u64,
    since: Instant,
}

impl DiskTrouble {
    /// Whether a blob was lost so lately that no look at the room is needed.
    pub(crate) fn is_recent(&self) -> bool {
        self.since.elapsed() < TROUBLE_SHOWN
    }
}

impl FillStats {
    /// Counts the end of a fill for the registry with this label in the metrics.
    fn count(&self, label: &str, end: &FillProgress) {
        *self.ends.lock().entry((label.to_owned(), FillEnd::of(end))).or_default() += 1;
    }

    /// Counts the end of a fill, and notes a blob that the disk did not take to its end.
    pub(crate) fn note_end(&self, store: &Store, registry: &RegistryName, end: &FillProgress) {
        self.count(registry.as_str(), end);
        if let FillProgress::Relaying { point, .. } = end {
            let len = point.total().unwrap_or(point.prefix_len());
            self.note_lost(store, point.bypass(), len);
        }
    }

    /// Notes that the disk did not take a blob, of at least so many bytes.
    pub(crate) fn note_lost(&self, store: &Store, reason: BypassReason, len: u64) {
        self.disk_failed(reason, if store.could_hold(len) { len } else { 0 });
    }

    /// Notes that the disk did not take a blob, which needs room for so many bytes; 0 if room for
    /// it cannot be had.
    fn disk_failed(&self, reason: BypassReason, needs: u64) {
        let mut bypassed = self.bypassed.lock();
        let before = bypassed.filter(|before| before.reason == reason);
        let needs = if reason == BypassReason::NoSpace { needs } else { 0 };
        let needs = before.map_or(needs, |before| before.needs.max(needs));
        *bypassed = Some(DiskTrouble { reason, needs, since: Instant::now() });
    }

    /// Notes that the disk took a blob of so many bytes. A full disk has room for small ones.
    pub(crate) fn disk_works(&self, bytes: u64) {
        self.bypassed.lock().take_if(|trouble| trouble.needs <= bytes);
    }

    /// How many fills ended, by the registry's label and how.
    pub(crate) fn ends(&self) -> Vec<(String, FillEnd, u64)> {
        let ends = self.ends.lock();
        ends.iter().map(|((label, end), count)| (label.clone(), *end, *count)).collect()
    }

    /// The disk's trouble, if a blob was lost and none as large was kept since.
    pub(crate) fn disk_trouble(&self) -> Option<DiskTrouble> {
        *self.bypassed.lock()
    }
}

/// A disk that failed five minutes ago may work again, with no fill since to show it.
const TROUBLE_SHOWN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> FillProgress {
        FillProgress::Failed(CacheError::Internal("test"))
    }

    #[tokio::test(start_paused = true)]
    async fn ends_are_counted_by_registry_and_kind() {
        let stats = FillStats::default();
        for label in ["a.test", "b.test", "a.test"] {
            stats.count(label, &failed());
        }
        let want = [("a.test", FillEnd::Failed, 2), ("b.test", FillEnd::Failed, 1)];
        assert_eq!(stats.ends(), want.map(|(label, end, count)| (label.to_owned(), end, count)));
        assert_eq!(stats.disk_trouble(), None);
    }

    /// A blob that is larger than the disk must not make a proxy look ill for ever, nor a small one
    /// that still fits hide that the others do not.
    #[tokio::test(start_paused = true)]
    async fn disk_trouble_ends_with_a_blob_as_large_as_the_largest_that_was_lost() {
        const NO_SPACE: BypassReason = BypassReason::NoSpace;
        for (lost, kept, is_over) in [
            (&[(NO_SPACE, 100)][..], 99, false),
            (&[(NO_SPACE, 100)], 100, true),
            (&[(NO_SPACE, 100), (NO_SPACE, 10)], 50, false),
            (&[(NO_SPACE, 10), (NO_SPACE, 100)], 50, false),
            (&[(NO_SPACE, 0)], 1, true),
            (&[(BypassReason::DiskFailed, 100)], 1, true),
            (&[(NO_SPACE, 100), (BypassReason::DiskFailed, 100)], 1, true),
        ] {
            let stats = FillStats::default();
            for (reason, needs) in lost {
                stats.disk_failed(*reason, *needs);
            }
            stats.count("a.test", &failed());
            let shown = stats.disk_trouble().map(|trouble| trouble.reason);
            assert_eq!(shown, lost.last().map(|lost| lost.0));
            stats.disk_works(kept);
            assert_eq!(stats.disk_trouble().is_none(), is_over, "{lost:?} {kept}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_minutes_a_look_at_the_room_is_due() {
        let stats = FillStats::default();
        stats.disk_failed(BypassReason::NoSpace, 7);
        assert!(stats.disk_trouble().unwrap().is_recent());
        tokio::time::advance(TROUBLE_SHOWN).await;
        let trouble = stats.disk_trouble().unwrap();
        assert_eq!((trouble.is_recent(), trouble.needs), (false, 7));
    }
}
