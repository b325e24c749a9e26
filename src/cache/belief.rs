//! What is known of something that may change: how long it is believed, and what is done then.
//!
//! Tags and lists differ in what they are and how they are asked for; all else about them is here.
//! [`Belief::of`] decides by age alone. Fresh, a record is served without asking. Then the upstream is
//! asked, one question for all who wait; they wait for a while, and are served the record if the
//! upstream cannot be asked. Its answer, also that there is no such thing, is obeyed.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

use super::flights::{Company, Pending, told};
use super::generations::{Generation, Subject};
use super::{Decision, Error, Shared, StaleReason};
use crate::access::Grant;
use crate::registry::TagPolicy;
use crate::upstream;

/// When something was last heard of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// By the wall clock.
    pub(super) at: SystemTime,
    /// By the clock that does not jump; `None` when it was an earlier process that heard it.
    instant: Option<Instant>,
    /// Before which pushes.
    pub(super) generation: Generation,
}

impl Heard {
    /// Just now.
    pub(super) fn now(at: SystemTime, generation: Generation) -> Self {
        Self { at, instant: Some(Instant::now()), generation }
    }

    /// As a file says.
    pub(super) fn earlier(at: SystemTime, generation: Generation) -> Self {
        Self { at, instant: None, generation }
    }

    /// How long ago. A wall clock that went backwards makes it just stale, so that it is asked after.
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
enum Belief {
    /// It holds.
    Fresh,
    /// It is to be asked after, and served if that is in vain.
    Stale {
        /// How long it is since it was fresh.
        since: Duration,
    },
    /// It is served to nobody any more, except where nothing else can be had.
    TooOld {
        /// As above.
        since: Duration,
    },
}

impl Belief {
    fn of(age: Duration, policy: TagPolicy) -> Self {
        let since = age.saturating_sub(policy.ttl);
        if age <= policy.ttl {
            Self::Fresh
        } else if since <= policy.max_stale {
            Self::Stale { since }
        } else {
            Self::TooOld { since }
        }
    }
}

/// What a client does with what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reliance {
    /// It pulls.
    Reading,
    /// It decides by it what to push: the upstream is asked each time. An outage it survives like any
    /// other client; who pushes to what is down is told so there.
    Writing,
}

/// What a client is to be answered with.
#[derive(Debug)]
pub(super) enum Settled<V> {
    /// What is known.
    Known {
        /// Why that.
        decision: Decision,
        /// How long ago it was heard.
        age: Duration,
    },
    /// What the upstream says.
    Told(V, Decision),
}

impl Shared {
    /// What to answer with, when this is `known` and the upstream can be asked by `ask`.
    pub(super) async fn settle<V: Clone>(
        &self,
        grant: &Grant,
        known: Option<&Heard>,
        (policy, reliance): (TagPolicy, Reliance),
        ask: impl Fn(Company) -> (bool, Pending<V>),
    ) -> Result<Settled<V>, Error> {
        let Some(known) = known else {
            Error::if_offline(grant)?;
            let (collapsed, answer) = told(grant, ask).await;
            let miss = Decision::Miss { collapsed, unverified: false };
            return Ok(Settled::Told(answer?, miss));
        };
        let age = known.age(self.clock.now(), policy);
        let is_written_by = reliance == Reliance::Writing;
        let (since, is_too_old) = match Belief::of(age, policy) {
            Belief::Fresh if is_written_by => (Duration::ZERO, false),
            Belief::Fresh => return Ok(Settled::Known { decision: Decision::Hit, age }),
            Belief::Stale { since } => (since, false),
            Belief::TooOld { since } => (since, true),
        };
        let stale = |reason| Settled::Known { decision: Decision::Stale { since, reason }, age };
        if grant.registry().is_offline() {
            return Ok(stale(StaleReason::Offline));
        }
        if is_written_by {
            // Waited for as long as it takes: what is merely late would be taken for what is.
            return match told(grant, ask).await.1 {
                Ok(told) => Ok(Settled::Told(told, Decision::Revalidated)),
                Err(error) if is_too_old || error.is_an_answer() || error.refuses(grant) => {
                    Err(error)
                }
                Err(error) => Ok(stale(stale_reason(&error))),
            };
        }
        let patience = self.patience.with(grant.registry(), is_too_old);
        // Asked also where nobody waits.
        match timeout(patience, told(grant, ask)).await {
            Ok((_, Ok(told))) => Ok(Settled::Told(told, Decision::Revalidated)),
            Ok((_, Err(error))) if is_too_old || error.is_an_answer() || error.refuses(grant) => {
                Err(error)
            }
            Ok((_, Err(error))) => Ok(stale(stale_reason(&error))),
            Err(_) if is_too_old => {
                let host = grant.registry().upstream().host().to_owned();
                Err(Error::TimedOut { host, waited: self.options.stale_wait })
            }
            Err(_) => Ok(stale(self.patience.lost(grant.registry(), patience))),
        }
    }

    /// Asks a question, and notes for those who are still to ask how that went.
    pub(super) async fn heard<V>(
        &self,
        grant: &Grant,
        question: impl Future<Output = Result<V, Error>>,
    ) -> Result<V, Error> {
        let asked = Instant::now();
        let answer = question.await;
        self.patience.heard(grant.registry(), asked, answer.as_ref().err());
        answer
    }

    /// Keeps what was heard, unless a push has made it old meanwhile.
    pub(super) async fn commit(
        self: &Arc<Self>,
        subject: Subject,
        generation: Generation,
        keep: impl FnOnce(&Self) + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        let commit = move || {
            shared.generations.exclusively(&subject, || {
                if shared.generations.of(|| subject.clone()) == generation {
                    keep(&shared);
                }
            });
        };
        // A panic in it has been reported; the answer is right all the same.
        drop(tokio::task::spawn_blocking(commit).await);
    }

    /// Reads what earlier processes have heard, unless a push has made it old. Blocks.
    pub(super) fn recall<T>(
        &self,
        subject: &Subject,
        read: impl FnOnce(Generation) -> Option<(T, SystemTime)>,
        keep: impl FnOnce(&T),
    ) -> Option<T> {
        self.generations.exclusively(subject, || {
            let (found, at) = read(self.generations.of(|| subject.clone()))?;
            if self.generations.has_outdated(subject, at) {
                return None;
            }
            keep(&found);
            Some(found)
        })
    }
}

fn stale_reason(error: &Error) -> StaleReason {
    match error {
        Error::Upstream(upstream::Error::CredentialRefused { .. }) => {
            StaleReason::CredentialRefused
        }
        Error::Upstream(upstream::Error::Throttled { .. }) => StaleReason::Throttled,
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
            (0, Belief::Fresh),
            (60, Belief::Fresh),
            (61, Belief::Stale { since: s(1) }),
            (160, Belief::Stale { since: s(100) }),
            (161, Belief::TooOld { since: s(101) }),
        ] {
            assert_eq!(Belief::of(s(age), policy), want, "{age}");
        }
        let never = TagPolicy { ttl: Duration::MAX, max_stale: Duration::MAX };
        assert_eq!(Belief::of(Duration::MAX, never), Belief::Fresh);
    }

    #[test]
    fn a_clock_that_went_backwards_makes_nothing_fresh() {
        let policy = TagPolicy { ttl: s(60), max_stale: s(100) };
        let now = SystemTime::UNIX_EPOCH + s(1000);
        let earlier = |at| Heard::earlier(at, Generation::default()).age(now, policy);
        assert_eq!(earlier(now - s(5)), s(5));
        assert_eq!(Belief::of(earlier(now + s(5)), policy), Belief::Stale { since: s(1) });
    }
}
