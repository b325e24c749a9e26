//! How much may be fetched beside a fill, and what waits for the fill first.
//!
//! A lazy puller asks for a few chunks anywhere in a layer and cannot wait for the fill to reach
//! them. Such a range is fetched on its own (`body/ahead.rs`), and so twice from the upstream: few
//! at a time for each fill, and a bounded number of bytes altogether. A range beyond that follows
//! the fill. So does one of a parallel pull: the client wants all that lies before it, too.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fill::parallel_ranges::ParallelRanges;

/// The ranges that may be fetched beside one fill. Clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct RangeBudget {
    origin: BlobOrigin,
    fetches: Arc<Semaphore>,
    bytes_left: Arc<AtomicU64>,
    parallel: Arc<ParallelRanges>,
}

impl RangeBudget {
    pub(crate) fn new(origin: BlobOrigin, parallel: Arc<ParallelRanges>) -> Self {
        let fetches = Arc::new(Semaphore::new(FETCHES_MAX));
        Self { origin, fetches, bytes_left: Arc::new(AtomicU64::new(BYTES_MAX)), parallel }
    }

    pub(crate) fn origin(&self) -> &BlobOrigin {
        &self.origin
    }

    /// How long the range waits for the fill, of which `written` bytes are on disk, before it is
    /// fetched on its own.
    pub(crate) async fn patience(&self, range: &Range<u64>, written: u64) -> Duration {
        if self.parallel.has_neighbour(self.origin.digest(), range).await {
            PARALLEL_WAIT
        } else if range.start < written.saturating_add(NEAR_BYTES) {
            NEAR_WAIT
        } else {
            Duration::ZERO
        }
    }

    /// A permit for a fetch of this range, if the budget allows it.
    pub(crate) fn reserve(&self, range: &Range<u64>) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.fetches).try_acquire_owned().ok()?;
        let take = |left: u64| left.checked_sub(range.end - range.start);
        self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(permit)
    }

    /// Ends it: the upstream has no ranges, so the fill brings each of them sooner.
    pub(crate) fn close(&self) {
        self.bytes_left.store(0, Ordering::Relaxed);
    }
}

/// At once for each fill. A lazy puller's own parallelism is 3 to 20.
const FETCHES_MAX: usize = 4;

/// Altogether for each fill.
const BYTES_MAX: u64 = 64 << 20;

/// The fill mostly reaches a range nearer than this sooner than a request of its own would be
/// answered.
const NEAR_BYTES: u64 = 8 << 20;

/// The wait for a fill that is near. A lazy puller's program stands still meanwhile.
const NEAR_WAIT: Duration = Duration::from_secs(1);

/// The wait of one range of a parallel pull. Clients give up after 30 s of silence.
const PARALLEL_WAIT: Duration = Duration::from_secs(20);
