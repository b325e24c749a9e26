//! Whether a registry is worth waiting for when something stale is at hand.
//!
//! A registry that was too late once is not waited for until it has answered again. It is asked all
//! the same, and its answer is for the next client. Without any outcome for [`LATE_MAX`] it is
//! waited for once more.

use parking_lot::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// How long a registry took, in vain, since it answered last.
#[derive(Debug, Default)]
pub(super) struct RecentLateness {
    failed: Mutex<Option<FailedWait>>,
}

#[derive(Clone, Copy, Debug)]
struct FailedWait {
    /// When the last of the failures in a row was noted.
    noted: Instant,
    /// The longest of them.
    waited: Duration,
}

impl RecentLateness {
    /// Whether an answer within `wait` is unlikely.
    pub(super) fn exceeds(&self, wait: Duration) -> bool {
        let failed = *self.failed.lock();
        failed.is_some_and(|it| it.noted.elapsed() < LATE_MAX && it.waited >= wait)
    }

    /// The registry answered.
    pub(super) fn answered(&self) {
        *self.failed.lock() = None;
    }

    /// The registry gave no answer within `waited`.
    pub(super) fn failed_after(&self, waited: Duration) {
        let mut failed = self.failed.lock();
        let longest = failed.map_or(waited, |it| it.waited.max(waited));
        *failed = Some(FailedWait { noted: Instant::now(), waited: longest });
    }
}

/// After so long without an outcome the upstream may be well again and is waited for once more: two
/// seconds are less than a tag that is a day old.
const LATE_MAX: Duration = Duration::from_secs(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_late_registry_stays_late_until_it_answers() {
        let lateness = RecentLateness::default();
        lateness.failed_after(WAIT / 2);
        assert!(!lateness.exceeds(WAIT), "a quick failure costs no wait");
        lateness.failed_after(WAIT);
        lateness.failed_after(WAIT / 2);
        assert!(lateness.exceeds(WAIT), "one quick failure does not make it quick");
        lateness.answered();
        assert!(!lateness.exceeds(WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn lateness_is_forgotten_after_five_minutes_without_an_outcome() {
        let lateness = RecentLateness::default();
        lateness.failed_after(WAIT);
        tokio::time::advance(LATE_MAX / 2).await;
        assert!(lateness.exceeds(WAIT));
        tokio::time::advance(LATE_MAX / 2).await;
        assert!(!lateness.exceeds(WAIT));
    }
}
