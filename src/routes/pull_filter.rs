//! Which requests for manifests may begin a pull that the log of pulls does not have yet.
//!
//! Building and sending an event costs more than a tenth of a manifest from memory, and machines
//! ask for the same tag every few seconds. A request that was made alike within the last half
//! minute begins no pull, so it needs no event. The filter may forget a request early, never
//! remember one too long: what is a pull is decided by the reader of the events.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

/// The requests of the last half minute, as far as their slots have not been taken by others.
#[derive(Debug)]
pub(super) struct PullFilter {
    began: Instant,
    hasher: RandomState,
    /// The upper half of a request's hash, and the second in which its event was sent.
    slots: Box<[AtomicU64]>,
}

impl Default for PullFilter {
    fn default() -> Self {
        let slots = (0..SLOTS_MAX).map(|_| AtomicU64::new(NEVER)).collect();
        Self { began: Instant::now(), hasher: RandomState::default(), slots }
    }
}

impl PullFilter {
    /// Whether a request, by all that tells it from others, is the first of its kind in a while.
    pub(super) fn is_first(&self, request: impl Hash, now: Instant) -> bool {
        let hash = self.hasher.hash_one(request);
        let since = now.saturating_duration_since(self.began).as_secs() & SECONDS;
        let at = usize::try_from(hash & SECONDS).unwrap_or_default() % SLOTS_MAX;
        let Some(slot) = self.slots.get(at) else { return true };
        let known = slot.load(Ordering::Relaxed);
        let age = since.saturating_sub(known & SECONDS);
        if known & !SECONDS == hash & !SECONDS && known != NEVER && age < ALIKE_FOR.as_secs() {
            return false;
        }
        slot.store(hash & !SECONDS | since, Ordering::Relaxed);
        true
    }
}

/// Slots, of 8 bytes each. Two requests that share one and alternate have an event each time.
const SLOTS_MAX: usize = 4096;

const SECONDS: u64 = 0xffff_ffff;

/// No request has been seen at the last second that fits into a slot.
const NEVER: u64 = u64::MAX;

/// The time in which a request that was made alike begins no pull: half of that which the log of
/// pulls takes for one pull, so that the two do not miss each other.
const ALIKE_FOR: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_alike_is_the_first_again_after_half_a_minute() {
        let filter = PullFilter::default();
        let seen = |request: &str, second| {
            filter.is_first(request, filter.began + Duration::from_secs(second))
        };
        for (request, second, want) in [
            ("a", 0, true),
            ("a", 0, false),
            ("b", 1, true),
            ("a", 29, false),
            ("a", 30, true),
            ("a", 31, false),
            ("b", 31, true),
            ("a", 4000, true),
        ] {
            assert_eq!(seen(request, second), want, "{request} at {second}");
        }
    }

    #[test]
    fn clients_that_make_up_requests_make_others_only_be_seen_again() {
        let filter = PullFilter::default();
        let now = filter.began;
        assert!(filter.is_first("a", now));
        for number in 0..100_000 {
            filter.is_first(number, now);
        }
        assert!(filter.is_first("a", now) && !filter.is_first("a", now));
        assert_eq!(filter.slots.len(), SLOTS_MAX);
    }
}
