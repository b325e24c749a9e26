//! How the cache is: what an operator is shown of it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::cache::fill::table::FillProgress;
use crate::cache::memory::MemoryUse;
use crate::cache::{BypassReason, Cache, CacheError, Decision};
use crate::store::DiskSpace;

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FillEnd {
    /// The bytes were wrong.
    Corrupt,
    /// The upstream did not give all bytes.
    Failed,
    /// The disk did not take it, and readers went on from the upstream.
    Relayed,
    /// It is verified, and in the store if the disk kept it.
    Stored,
}

impl FillEnd {
    /// What metrics call it.
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

/// What is noted of fills that have ended.
#[derive(Debug, Default)]
pub(crate) struct FillStats {
    ends: Mutex<BTreeMap<(String, FillEnd), u64>>,
    /// Why the disk was last passed by, if it has kept nothing since.
    bypassed: Mutex<Option<(BypassReason, Instant)>>,
}

impl FillStats {
    /// A fill of the registry that is called `label` in numbers has ended.
    pub(crate) fn ended(&self, label: &str, end: &FillProgress) {
        *self.ends.lock().entry((label.to_owned(), FillEnd::of(end))).or_default() += 1;
        if let FillProgress::Relaying { point, .. } = end {
            self.passed_by(point.bypass());
        }
    }

    /// The disk did not take a blob.
    pub(crate) fn passed_by(&self, bypass: BypassReason) {
        *self.bypassed.lock() = Some((bypass, Instant::now()));
    }

    /// The disk has kept something.
    pub(crate) fn kept(&self) {
        *self.bypassed.lock() = None;
    }

    fn bypassed(&self) -> Option<BypassReason> {
        let recent = *self.bypassed.lock();
        recent.filter(|(_, since)| since.elapsed() < BYPASS_SHOWN).map(|(bypass, _)| bypass)
    }
}

impl Cache {
    /// How many fills run.
    pub fn fills_running(&self) -> usize {
        self.shared.fills.running()
    }

    /// How fills ended, by registry, and how many.
    pub fn fills_ended(&self) -> Vec<(String, FillEnd, u64)> {
        let ends = self.shared.condition.ends.lock();
        ends.iter().map(|((label, end), count)| (label.clone(), *end, *count)).collect()
    }

    /// Why blobs are not kept at present; `None` if they are, as far as is known. It is known by the
    /// last fill, and forgotten after five minutes without another one.
    pub fn disk_trouble(&self) -> Option<&'static str> {
        let bypassed = self.shared.condition.bypassed();
        bypassed.map(|bypass| Decision::Bypass(bypass).names().detail)
    }

    /// What is in memory.
    pub fn memory(&self) -> Vec<MemoryUse> {
        let shared = &self.shared;
        shared.hot.sizes().into_iter().chain(shared.presence.usage()).collect()
    }

    /// The room on the file system of the store. A disk that hangs is no answer.
    pub async fn room(&self) -> io::Result<DiskSpace> {
        let store = Arc::clone(&self.shared.store);
        let asked = tokio::task::spawn_blocking(move || store.room());
        match timeout(ROOM_WAIT, asked).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A disk that was full five minutes ago may have room by now, and nobody has tried.
const BYPASS_SHOWN: Duration = Duration::from_secs(300);

/// Whoever asks has time-outs of its own, of some seconds.
const ROOM_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> FillProgress {
        FillProgress::Failed(CacheError::Internal("test"))
    }

    #[tokio::test(start_paused = true)]
    async fn ends_are_counted_by_registry_and_kind() {
        let condition = FillStats::default();
        for label in ["a.test", "b.test", "a.test"] {
            condition.ended(label, &failed());
        }
        let ends = condition.ends.lock().clone();
        let want = [(("a.test", FillEnd::Failed), 2), (("b.test", FillEnd::Failed), 1)];
        assert!(ends.iter().map(|((label, end), n)| ((label.as_str(), *end), *n)).eq(want));
        assert_eq!(condition.bypassed(), None);
    }

    /// A blob that fits on no disk must not make a proxy look ill for ever.
    #[tokio::test(start_paused = true)]
    async fn a_bypass_is_shown_until_something_is_kept_or_for_five_minutes() {
        let condition = FillStats::default();
        condition.passed_by(BypassReason::NoSpace);
        assert_eq!(condition.bypassed(), Some(BypassReason::NoSpace));
        condition.ended("a.test", &failed());
        assert_eq!(condition.bypassed(), Some(BypassReason::NoSpace));
        condition.kept();
        assert_eq!(condition.bypassed(), None);

        condition.passed_by(BypassReason::NoSpace);
        tokio::time::advance(BYPASS_SHOWN).await;
        assert_eq!(condition.bypassed(), None);
    }
}
