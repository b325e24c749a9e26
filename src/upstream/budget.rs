//! The requests that are left to a login, as the upstream states them, and how they are spent.
//!
//! Docker Hub states with each manifest how many pulls are left in a window. As long as there are
//! many, nothing changes. When few are left, tags that are cached are checked more rarely, each at
//! most once in a time that grows as they dwindle; the last are left to misses. A statement is
//! believed for one window. An upstream that states nothing has no limit.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::limit::RateAllowance;

/// The share of the allowance below which tags are checked more rarely.
const LOW_SHARE: u64 = 4;

/// The share of it that is left to misses.
const KEPT_SHARE: u64 = 10;

/// The allowance, where only what is left is stated: Docker Hub's for anonymous clients.
const LIMIT_DEFAULT: u64 = 100;

/// The window, where none is stated: Docker Hub's.
const WINDOW_DEFAULT: Duration = Duration::from_secs(6 * 60 * 60);

/// The longest window that is believed: tags would be stale for that long.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of an allowance is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RateBudget {
    /// Enough, or no limit is known.
    Ample,
    /// Little. The cached record of a tag is checked when it is older than this.
    Low(Duration),
    /// The rest, which is kept for misses. No cached tag is checked.
    Kept,
    /// Nothing.
    Spent,
}

impl RateBudget {
    /// The budget that is left so long after the upstream stated `allowance`.
    fn of(allowance: RateAllowance, ago: Duration) -> Self {
        let window = allowance.window.unwrap_or(WINDOW_DEFAULT).min(WINDOW_MAX);
        let limit = allowance.limit.unwrap_or(LIMIT_DEFAULT);
        let (low, kept) = (limit / LOW_SHARE, limit / KEPT_SHARE);
        match allowance.remaining {
            Some(left) if ago < window => match left {
                0 => Self::Spent,
                _ if left > low => Self::Ample,
                _ if left <= kept => Self::Kept,
                _ => {
                    let parts = |number: u64| number.max(1);
                    let seconds = window.as_secs().saturating_mul(parts(low - left));
                    Self::Low(Duration::from_secs(seconds / parts(low - kept)))
                }
            },
            _ => Self::Ample,
        }
    }

    /// The age up to which the cached record of a tag is not checked.
    pub(super) fn check_after(self) -> Duration {
        match self {
            Self::Ample => Duration::ZERO,
            Self::Low(age) => age,
            Self::Kept | Self::Spent => Duration::MAX,
        }
    }
}

impl fmt::Display for RateBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ample => "ample",
            Self::Low(_) => "low",
            Self::Kept => "kept for misses",
            Self::Spent => "spent",
        })
    }
}

/// The allowance of a login, as it was stated last.
#[derive(Debug, Default)]
pub(super) struct BudgetRecord {
    stated: Mutex<Option<(RateAllowance, Instant)>>,
}

impl BudgetRecord {
    /// The upstream at `host` has just stated this.
    pub(super) fn note(&self, allowance: RateAllowance, host: &str) {
        let before = self.left();
        *self.stated.lock() = Some((allowance, Instant::now()));
        let budget = self.left();
        if std::mem::discriminant(&before) != std::mem::discriminant(&budget) {
            let remaining = allowance.remaining;
            tracing::info!(host, remaining, %budget, "the rate limit budget changed");
        }
    }

    /// The allowance that was stated last.
    pub(super) fn stated(&self) -> Option<RateAllowance> {
        self.stated.lock().map(|(allowance, _)| allowance)
    }

    /// The budget that is left now.
    pub(super) fn left(&self) -> RateBudget {
        let stated = *self.stated.lock();
        stated.map_or(RateBudget::Ample, |(allowance, at)| RateBudget::of(allowance, at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn stated(limit: Option<u64>, remaining: Option<u64>, hours: Option<u32>) -> RateAllowance {
        RateAllowance { limit, remaining, window: hours.map(|hours| HOUR * hours) }
    }

    #[test]
    fn checks_become_rarer_and_end_before_the_budget_does() {
        let budget = |left| RateBudget::of(stated(Some(100), Some(left), Some(6)), HOUR);
        for (left, want) in [
            (100, RateBudget::Ample),
            (26, RateBudget::Ample),
            (25, RateBudget::Low(Duration::from_secs(24 * 60))),
            (20, RateBudget::Low(HOUR * 2)),
            (11, RateBudget::Low(HOUR * 6 * 14 / 15)),
            (10, RateBudget::Kept),
            (1, RateBudget::Kept),
            (0, RateBudget::Spent),
        ] {
            assert_eq!(budget(left), want, "{left}");
        }
        let ages: Vec<_> = (0..=100).map(|left| budget(left).check_after()).collect();
        assert!(ages.is_sorted_by(|more, less| more >= less), "{ages:?}");
        assert_eq!((ages[10], ages[26]), (Duration::MAX, Duration::ZERO));
    }

    #[test]
    fn what_is_not_stated_is_no_limit_or_docker_hubs() {
        let budget = |limit, left, hours, ago| RateBudget::of(stated(limit, left, hours), ago);
        assert_eq!(budget(Some(100), None, Some(6), HOUR), RateBudget::Ample);
        assert_eq!(budget(None, Some(10), None, HOUR * 5), RateBudget::Kept);
        assert_eq!(budget(None, Some(10), None, HOUR * 6), RateBudget::Ample);
        assert_eq!(budget(Some(100), Some(5), Some(u32::MAX), HOUR * 24), RateBudget::Ample);
        for limit in 0..20 {
            assert_eq!(budget(Some(limit), Some(limit + 1), Some(6), HOUR), RateBudget::Ample);
            assert_eq!(budget(Some(limit), Some(0), Some(6), HOUR), RateBudget::Spent);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_stated_is_believed_for_a_window() {
        let record = BudgetRecord::default();
        assert_eq!(record.left(), RateBudget::Ample);
        record.note(stated(Some(200), Some(0), Some(6)), "up.test");
        tokio::time::advance(Duration::from_secs(6 * 3_600 - 1)).await;
        assert_eq!(record.left(), RateBudget::Spent);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(record.left(), RateBudget::Ample);
    }
}
