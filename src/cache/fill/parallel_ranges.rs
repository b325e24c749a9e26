//! Large ranges of one blob that are asked for side by side: a client pulls all of it in parallel.
//!
//! SOCI asks for a layer in ranges of 8 MB or more, ten at once. One fill brings all of them, so
//! that none has to be fetched on its own. The reads of a lazy puller are smaller, or stand alone.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::oci::Digest;

/// The large ranges that clients have asked for lately.
#[derive(Debug, Default)]
pub(crate) struct ParallelRanges {
    asked: Mutex<HashMap<Digest, Vec<AskedRange>>>,
    changed: Notify,
}

#[derive(Debug)]
struct AskedRange {
    range: Range<u64>,
    at: Instant,
}

impl ParallelRanges {
    /// Notes the range of the blob, if it is a large one, and waits a moment for one that begins
    /// where it ends, or ends where it begins. Whether there is one.
    pub(crate) async fn has_neighbour(&self, digest: &Digest, range: &Range<u64>) -> bool {
        if range.end - range.start < LARGE_BYTES_MIN {
            return false;
        }
        let until = Instant::now() + MOMENT;
        self.note(digest, range);
        loop {
            let changed = self.changed.notified();
            if self.is_beside(digest, range) {
                return true;
            }
            if timeout_at(until, changed).await.is_err() {
                return false;
            }
        }
    }

    fn note(&self, digest: &Digest, range: &Range<u64>) {
        let now = Instant::now();
        let mut asked = self.asked.lock();
        asked.retain(|_, ranges| {
            ranges.retain(|asked| now.duration_since(asked.at) < KEPT);
            !ranges.is_empty()
        });
        if asked.len() < BLOBS_MAX || asked.contains_key(digest) {
            let ranges = asked.entry(digest.clone()).or_default();
            ranges.truncate(RANGES_MAX - 1);
            ranges.insert(0, AskedRange { range: range.clone(), at: now });
        }
        drop(asked);
        self.changed.notify_waiters();
    }

    fn is_beside(&self, digest: &Digest, range: &Range<u64>) -> bool {
        let asked = self.asked.lock();
        let mut ranges = asked.get(digest).into_iter().flatten().map(|asked| &asked.range);
        ranges.any(|other| other.end == range.start || other.start == range.end)
    }
}

/// A range with fewer bytes is a lazy puller's. SOCI's spans have 4 MiB before compression.
const LARGE_BYTES_MIN: u64 = 4 << 20;

/// Within this time a client that asks in parallel has sent its first requests.
const MOMENT: Duration = Duration::from_millis(200);

/// For how long a range is remembered: longer than readers of parallel ranges wait for the fill.
const KEPT: Duration = Duration::from_secs(60);

/// The most ranges that are remembered of one blob.
const RANGES_MAX: usize = 64;

/// The most blobs whose ranges are remembered.
const BLOBS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    const LARGE: u64 = LARGE_BYTES_MIN;

    fn blob(content: &[u8]) -> Digest {
        Digest::of(Algorithm::Sha256, content)
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_range_has_a_neighbour_where_another_one_begins_or_ends() {
        for (other, want) in [
            (0..LARGE, true),
            (2 * LARGE..4 * LARGE, true),
            (LARGE..2 * LARGE, false),
            (0..2 * LARGE, false),
            (2 * LARGE + 1..4 * LARGE, false),
            (LARGE - 1000..LARGE, false),
        ] {
            let ranges = ParallelRanges::default();
            let (one, start) = (LARGE..2 * LARGE, Instant::now());
            let digest = blob(b"one");
            let both = tokio::join!(
                ranges.has_neighbour(&digest, &one),
                ranges.has_neighbour(&digest, &other)
            );
            assert_eq!(both.0, want, "{other:?}");
            let waited = if want { Duration::ZERO } else { MOMENT };
            assert_eq!(start.elapsed(), waited, "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn neighbours_are_of_one_blob_and_time() {
        let ranges = ParallelRanges::default();
        let (one, other) = (0..LARGE, LARGE..2 * LARGE);
        assert!(!ranges.has_neighbour(&blob(b"one"), &one).await);
        assert!(!ranges.has_neighbour(&blob(b"other"), &other).await);
        assert!(ranges.has_neighbour(&blob(b"one"), &other).await, "asked a moment ago");
        tokio::time::advance(KEPT).await;
        assert!(!ranges.has_neighbour(&blob(b"one"), &one).await, "asked too long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_range_neither_waits_nor_counts() {
        let ranges = ParallelRanges::default();
        let start = Instant::now();
        assert!(!ranges.has_neighbour(&blob(b"one"), &(0..LARGE - 1)).await);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(!ranges.has_neighbour(&blob(b"one"), &(LARGE - 1..3 * LARGE)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_ranges_of_so_many_blobs_are_remembered() {
        let ranges = ParallelRanges::default();
        for number in 0..2 * RANGES_MAX as u64 {
            ranges.note(&blob(b"one"), &(number..number + LARGE));
        }
        for number in 0..2 * BLOBS_MAX {
            ranges.note(&blob(&number.to_le_bytes()), &(0..LARGE));
        }
        let asked = ranges.asked.lock();
        assert_eq!((asked.len(), asked[&blob(b"one")].len()), (BLOBS_MAX, RANGES_MAX));
    }
}
