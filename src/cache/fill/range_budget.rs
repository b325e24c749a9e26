//! How much may be fetched beside a fill.
//!
//! A lazy puller asks for a few chunks anywhere in a layer and cannot wait for the fill to reach
//! them. Such a range is fetched on its own (`body/ahead.rs`), and so twice from the upstream: few
//! at a time for each fill, and a bounded number of bytes altogether. A range beyond that follows
//! the fill.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::fetch::origin::BlobOrigin;

/// The ranges that may be fetched beside one fill. Clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct RangeBudget {
    origin: BlobOrigin,
    fetches: Arc<Semaphore>,
    bytes_left: Arc<AtomicU64>,
}

impl RangeBudget {
    pub(crate) fn new(origin: BlobOrigin) -> Self {
        let fetches = Arc::new(Semaphore::new(FETCHES_MAX));
        Self { origin, fetches, bytes_left: Arc::new(AtomicU64::new(BYTES_MAX)) }
    }

    pub(crate) fn origin(&self) -> &BlobOrigin {
        &self.origin
    }

    /// A permit for a fetch of this range, if it is far ahead of the `written` bytes of the fill
    /// and the budget allows it.
    pub(crate) fn reserve(&self, range: &Range<u64>, written: u64) -> Option<OwnedSemaphorePermit> {
        if range.start < written.saturating_add(NEAR_BYTES) {
            return None;
        }
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

/// The fill reaches a range nearer than this sooner than a request of its own would be answered.
const NEAR_BYTES: u64 = 8 << 20;
