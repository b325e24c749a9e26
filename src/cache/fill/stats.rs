//! How fills end, and whether the disk takes them: shown to operators.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cache::fill::progress::FillProgress;
use crate::cache::{BypassReason, CacheError};

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
    /// Why and when the disk last failed, unless it has taken a blob since.
    bypassed: Mutex<Option<(BypassReason, Instant)>>,
}

impl FillStats {
    /// Counts the end of a fill for the registry with this label in the metrics.
    pub(crate) fn count(&self, label: &str, end: &FillProgress) {
        *self.ends.lock().entry((label.to_owned(), FillEnd::of(end))).or_default() += 1;
        if let FillProgress::Relaying { point, .. } = end {
            self.disk_failed(point.bypass());
        }
    }

    /// Notes that the disk did not take a blob.
    pub(crate) fn disk_failed(&self, reason: BypassReason) {
        *self.bypassed.lock() = Some((reason, Instant::now()));
    }

    /// Notes that the disk took a blob.
    pub(crate) fn disk_works(&self) {
        *self.bypassed.lock() = None;
    }

    /// How many fills ended, by the registry's label and how.
    pub(crate) fn ends(&self) -> Vec<(String, FillEnd, u64)> {
        let ends = self.ends.lock();
        ends.iter().map(|((label, end), count)| (label.clone(), *end, *count)).collect()
    }

    /// Why the disk does not take blobs; `None` if it does, as far as is known. Known by the last
    /// fill, and forgotten after five minutes without another one.
    pub(crate) fn disk_trouble(&self) -> Option<BypassReason> {
        let bypassed = *self.bypassed.lock();
        bypassed.filter(|(_, since)| since.elapsed() < TROUBLE_SHOWN).map(|(reason, _)| reason)
    }
}

/// A disk that was full five minutes ago may have space again, with no fill since to show it.
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

    /// A blob that is larger than the disk must not make a proxy look ill for ever.
    #[tokio::test(start_paused = true)]
    async fn disk_trouble_is_shown_until_a_blob_is_stored_or_for_five_minutes() {
        let stats = FillStats::default();
        stats.disk_failed(BypassReason::NoSpace);
        assert_eq!(stats.disk_trouble(), Some(BypassReason::NoSpace));
        stats.count("a.test", &failed());
        assert_eq!(stats.disk_trouble(), Some(BypassReason::NoSpace));
        stats.disk_works();
        assert_eq!(stats.disk_trouble(), None);

        stats.disk_failed(BypassReason::NoSpace);
        tokio::time::advance(TROUBLE_SHOWN).await;
        assert_eq!(stats.disk_trouble(), None);
    }
}
