//! What is known of something that may change: how long it is believed, and what is done then.
//!
//! Tags and lists differ in what they are and how they are asked for; all else about them is here.
//! [`Freshness::of`] decides by age alone. Fresh, a record is served without asking. Then the
//! upstream is asked, one question for all who wait; they wait for a while, and are served the
//! record if the upstream cannot be asked. Its answer, also that there is no such thing, is obeyed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

use crate::access::Grant;
use crate::cache::epoch::Epoch;
use crate::cache::flight::{PendingAnswer, Sharing, told};
use crate::cache::key::RecordKey;
use crate::cache::{CacheError, Decision, Shared, StaleReason};
use crate::registry::TagPolicy;
use crate::upstream;

/// When something was last heard of.
#[derive(Clone, Copy, Debug)]
pub(in crate::cache) struct LastValidated {
    /// By the wall clock.
    pub(in crate::cache) at: SystemTime,
    /// By the clock that does not jump; `None` when it was an earlier process that heard it.
    instant: Option<Instant>,
    /// The epoch of the record when the upstream was asked.
    pub(in crate::cache) epoch: Epoch,
}

impl LastValidated {
    /// Just now.
    pub(in crate::cache) fn now(at: SystemTime, epoch: Epoch) -> Self {
        Self { at, instant: Some(Instant::now()), epoch }
    }

    /// As a file says.
    pub(in crate::cache) fn earlier(at: SystemTime, epoch: Epoch) -> Self {
        Self { at, instant: None, epoch }
    }

    /// How long ago. A wall clock that went backwards makes it just stale, so that it is asked
    /// after.
    fn age(&self, now: SystemTime, policy: TagPolicy) -> Duration {
        let by_wall_clock = || {
            let age = now.duration_since(self.at);
            age.unwrap_or(policy.ttl.saturating_add(Duration::from_secs(1)))
        };
        self.instant.map_or_else(by_wall_clock, |instant| instant.elapsed())
    }
}

/// How far a record of some age can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    /// It holds.
    Fresh,
    /// It is to be asked after, and served if that is in vain.
    Stale {
        /// How long it is since it was fresh.
        since: Duration,
    },
    /// It is served to nobody any more, except where nothing else can be had.
    Expired {
        /// As above.
        since: Duration,
    },
}

impl Freshness {
    fn of(age: Duration, policy: TagPolicy) -> Self {
        let since = age.saturating_sub(policy.ttl);
        if age <= policy.ttl {
            Self::Fresh
        } else if since <= policy.max_stale {
            Self::Stale { since }
        } else {
            Self::Expired { since }
        }
    }
}

/// What a client does with what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Purpose {
    /// It pulls.
    Pull,
    /// It decides by it what to push: the upstream is asked each time. An outage it survives like
    /// any other client; who pushes to what is down is told so there.
    Push,
}

/// What a client is to be answered with.
#[derive(Debug)]
pub(in crate::cache) enum Resolution<V> {
    /// What is known.
    Cached {
        /// Why that.
        decision: Decision,
        /// How long ago it was heard.
        age: Duration,
    },
    /// What the upstream says.
    Validated(V, Decision),
}

impl Shared {
    /// What to answer with, when this is `known` and the upstream can be asked by `ask`.
    pub(in crate::cache) async fn settle<V: Clone>(
        &self,
        grant: &Grant,
        known: Option<&LastValidated>,
        (policy, reliance): (TagPolicy, Purpose),
        ask: impl Fn(Sharing) -> (bool, PendingAnswer<V>),
    ) -> Result<Resolution<V>, CacheError> {
        let Some(known) = known else {
            CacheError::if_offline(grant)?;
            let (collapsed, answer) = told(grant, ask).await;
            let miss = Decision::Miss { collapsed, unverified: false };
            return Ok(Resolution::Validated(answer?, miss));
        };
        let age = known.age(self.clock.now(), policy);
        let is_written_by = reliance == Purpose::Push;
        let (since, is_too_old) = match Freshness::of(age, policy) {
            Freshness::Fresh if is_written_by => (Duration::ZERO, false),
            Freshness::Fresh => return Ok(Resolution::Cached { decision: Decision::Hit, age }),
            Freshness::Stale { since } => (since, false),
            Freshness::Expired { since } => (since, true),
        };
        let stale =
            |reason| Resolution::Cached { decision: Decision::Stale { since, reason }, age };
        if grant.registry().is_offline() {
            return Ok(stale(StaleReason::Offline));
        }
        if is_written_by {
            // Waited for as long as it takes: what is merely late would be taken for what is.
            return match told(grant, ask).await.1 {
                Ok(told) => Ok(Resolution::Validated(told, Decision::Revalidated)),
                Err(error) if is_too_old || error.is_an_answer() || error.refuses(grant) => {
                    Err(error)
                }
                Err(error) => Ok(stale(stale_reason(&error))),
            };
        }
        let upstream = grant.registry().upstream();
        let wait = self.options.stale_wait;
        let wait = if is_too_old { wait } else { upstream.worth_waiting(wait) };
        // Asked also where no client waits.
        match timeout(wait, told(grant, ask)).await {
            Ok((_, Ok(told))) => Ok(Resolution::Validated(told, Decision::Revalidated)),
            Ok((_, Err(error))) if is_too_old || error.is_an_answer() || error.refuses(grant) => {
                Err(error)
            }
            Ok((_, Err(error))) => Ok(stale(stale_reason(&error))),
            Err(_) if is_too_old => {
                Err(CacheError::TimedOut { host: upstream.host().to_owned(), waited: wait })
            }
            Err(_) => {
                upstream.note_too_late(wait);
                let is_open = upstream.is_open();
                Ok(stale(if is_open { StaleReason::Unavailable } else { StaleReason::Slow }))
            }
        }
    }

    /// Keeps what was heard, unless a push has made it old meanwhile.
    pub(in crate::cache) async fn commit(
        self: &Arc<Self>,
        subject: RecordKey,
        epoch: Epoch,
        keep: impl FnOnce(&Self) + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        let commit = move || {
            shared.epochs.if_current(&subject, epoch, || keep(&shared));
        };
        // A panic in it has been reported; the answer is right all the same.
        drop(tokio::task::spawn_blocking(commit).await);
    }

    /// Reads what earlier processes have heard, unless a push has made it old. Blocks.
    pub(in crate::cache) fn recall<T>(
        &self,
        subject: &RecordKey,
        read: impl FnOnce(Epoch) -> Option<(T, SystemTime)>,
        keep: impl FnOnce(&T),
    ) -> Option<T> {
        self.epochs.exclusively(subject, || {
            let (found, at) = read(self.epochs.of(|| subject.clone()))?;
            if self.epochs.predates(at, subject) {
                return None;
            }
            keep(&found);
            Some(found)
        })
    }
}

fn stale_reason(error: &CacheError) -> StaleReason {
    match error {
        CacheError::Upstream(upstream::UpstreamError::CredentialRefused { .. }) => {
            StaleReason::CredentialRefused
        }
        CacheError::Upstream(upstream::UpstreamError::Throttled { .. }) => StaleReason::Throttled,
        _ => StaleReason::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn belief_goes_by_age() {
        let policy = TagPolicy { ttl: s(60), max_stale: s(100) };
        for (age, want) in [
            (0, Freshness::Fresh),
            (60, Freshness::Fresh),
            (61, Freshness::Stale { since: s(1) }),
            (160, Freshness::Stale { since: s(100) }),
            (161, Freshness::Expired { since: s(101) }),
        ] {
            assert_eq!(Freshness::of(s(age), policy), want, "{age}");
        }
        let never = TagPolicy { ttl: Duration::MAX, max_stale: Duration::MAX };
        assert_eq!(Freshness::of(Duration::MAX, never), Freshness::Fresh);
    }

    #[test]
    fn a_clock_that_went_backwards_makes_nothing_fresh() {
        let policy = TagPolicy { ttl: s(60), max_stale: s(100) };
        let now = SystemTime::UNIX_EPOCH + s(1000);
        let earlier = |at| LastValidated::earlier(at, Epoch::default()).age(now, policy);
        assert_eq!(earlier(now - s(5)), s(5));
        assert_eq!(Freshness::of(earlier(now + s(5)), policy), Freshness::Stale { since: s(1) });
    }
}
