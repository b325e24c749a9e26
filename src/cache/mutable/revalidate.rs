//! Records that may change: for how long one is fresh, and what is done after that.
//!
//! Tags and lists differ in their content and in the question for them; all else about them is
//! here. [`Freshness::of`] decides by age alone. A fresh record is served without a question. For a
//! stale one the upstream is asked, one question for all clients that wait; they wait for at most
//! `stale_wait`, and are served the record if the upstream gives no answer. An answer is obeyed,
//! also that there is no such thing.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

use crate::access::Grant;
use crate::cache::disk::records_of;
use crate::cache::document::DocumentThreads;
use crate::cache::epoch::{Epoch, EpochTable};
use crate::cache::flight::{PendingAnswer, Sharing, ask_shared};
use crate::cache::key::RecordKey;
use crate::cache::{CacheError, Decision, MissReason, StaleReason};
use crate::clock::WallClock;
use crate::registry::TagPolicy;
use crate::store::{RepositoryRecords, Store};
use crate::upstream;

/// When the upstream last confirmed a record.
#[derive(Clone, Copy, Debug)]
pub(in crate::cache) struct LastValidated {
    /// By the wall clock.
    pub(in crate::cache) at: SystemTime,
    /// By the clock that does not jump; `None` when an earlier process asked.
    instant: Option<Instant>,
    /// The epoch of the record when the upstream was asked.
    pub(in crate::cache) epoch: Epoch,
    /// Whether a later record may have been lost, which makes this one just stale.
    is_doubtful: bool,
}

impl LastValidated {
    /// Just now.
    pub(in crate::cache) fn now(at: SystemTime, epoch: Epoch) -> Self {
        Self { at, instant: Some(Instant::now()), epoch, is_doubtful: false }
    }

    /// As a file says.
    pub(in crate::cache) fn earlier(at: SystemTime, epoch: Epoch) -> Self {
        Self { at, instant: None, epoch, is_doubtful: false }
    }

    /// On a registry that takes pushes, if a power cut may have brought the record back: the
    /// registry has the pushes that were acknowledged since. On another one the record was true at
    /// its time, and is as good as any of that age.
    pub(in crate::cache) fn doubtful_if(self, is_doubtful: bool, grant: &Grant) -> Self {
        Self { is_doubtful: is_doubtful && grant.registry().takes_pushes(), ..self }
    }

    /// How long ago. A wall clock that went backwards makes the record just stale, so that the
    /// upstream is asked.
    fn age(&self, now: SystemTime, policy: TagPolicy) -> Duration {
        let just_stale = policy.ttl.saturating_add(Duration::from_secs(1));
        let by_wall_clock = || now.duration_since(self.at).unwrap_or(just_stale);
        let age = self.instant.map_or_else(by_wall_clock, |instant| instant.elapsed());
        if self.is_doubtful { age.max(just_stale) } else { age }
    }
}

/// How far a record of some age can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    /// Served without a question.
    Fresh,
    /// To be revalidated, and served if the upstream gives no answer.
    Stale {
        /// How long it is since it was fresh.
        since: Duration,
    },
    /// Not served any more, except where the operator has the cache alone answer.
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

    /// How long it is since the record was fresh.
    fn since(self) -> Duration {
        match self {
            Self::Fresh => Duration::ZERO,
            Self::Stale { since } | Self::Expired { since } => since,
        }
    }
}

/// Why a client asks for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Purpose {
    /// It pulls.
    Pull,
    /// It compares before it pushes, so the upstream is asked each time. In an outage it is served
    /// the record like any other client: its push will be told of the outage.
    Push,
}

/// The record that answers a client.
#[derive(Debug)]
pub(in crate::cache) enum Resolution<V> {
    /// The record in the cache.
    Cached {
        /// Why that.
        decision: Decision,
        /// How long ago the upstream confirmed it.
        age: Duration,
    },
    /// The upstream's answer.
    Validated(V, Decision),
}

/// A record that is not served without a question.
#[derive(Clone, Copy, Debug)]
struct StaleRecord {
    age: Duration,
    freshness: Freshness,
}

impl StaleRecord {
    fn is_expired(self) -> bool {
        matches!(self.freshness, Freshness::Expired { .. })
    }

    fn served<V>(self, reason: StaleReason) -> Resolution<V> {
        let decision = Decision::Stale { since: self.freshness.since(), reason };
        Resolution::Cached { decision, age: self.age }
    }

    /// The upstream's answer, or the record if there is none.
    fn or_validated<V>(
        self,
        grant: &Grant,
        answer: Result<V, CacheError>,
    ) -> Result<Resolution<V>, CacheError> {
        match answer {
            Ok(answer) => Ok(Resolution::Validated(answer, Decision::Revalidated)),
            Err(error) if self.is_expired() || error.is_an_answer() || error.refuses(grant) => {
                Err(error)
            }
            Err(error) => Ok(self.served(stale_reason(&error))),
        }
    }
}

/// Validates records that may change, and keeps them in step with pushes.
#[derive(Debug)]
pub(in crate::cache) struct RecordValidation {
    pub(in crate::cache) store: Arc<Store>,
    pub(in crate::cache) clock: Arc<dyn WallClock>,
    pub(in crate::cache) epochs: Arc<EpochTable>,
    pub(in crate::cache) documents: DocumentThreads,
    /// How long a client waits for an answer before it is served the stale record.
    pub(in crate::cache) stale_wait: Duration,
}

impl RecordValidation {
    /// The record that answers a client: the one that is cached, which was last `validated` then,
    /// or the answer to `ask`. Content that `is_held` is checked more rarely when few requests are
    /// left of a rate limit.
    pub(in crate::cache) async fn resolve<V: Clone>(
        &self,
        grant: &Grant,
        validated: Option<&LastValidated>,
        policy: TagPolicy,
        purpose: Purpose,
        is_held: bool,
        ask: impl Fn(Sharing) -> (bool, PendingAnswer<V>),
    ) -> Result<Resolution<V>, CacheError> {
        let Some(validated) = validated else {
            CacheError::if_offline(grant)?;
            // Boxed, as below, so that hits need no room for it.
            let (collapsed, answer) = Box::pin(ask_shared(grant, ask)).await;
            let reason = MissReason::Absent;
            let miss = Decision::Miss { collapsed, unverified: false, reason };
            return Ok(Resolution::Validated(answer?, miss));
        };
        let age = validated.age(self.clock.now(), policy);
        let freshness = Freshness::of(age, policy);
        if freshness == Freshness::Fresh && purpose == Purpose::Pull {
            return Ok(Resolution::Cached { decision: Decision::Hit, age });
        }
        let stale = StaleRecord { age, freshness };
        if grant.registry().is_offline() {
            return Ok(stale.served(StaleReason::Offline));
        }
        // Waited for as long as it takes: a record that is only late would be pushed over, and one
        // that is expired is not served.
        if purpose == Purpose::Push || stale.is_expired() {
            return stale.or_validated(grant, Box::pin(ask_shared(grant, ask)).await.1);
        }
        if is_held && age <= grant.registry().upstream().check_after() {
            return Ok(stale.served(StaleReason::Budget));
        }
        Box::pin(self.revalidate(grant, stale, ask)).await
    }

    /// Asks, and serves the stale record once the wait is over. The question goes on.
    async fn revalidate<V: Clone>(
        &self,
        grant: &Grant,
        stale: StaleRecord,
        ask: impl Fn(Sharing) -> (bool, PendingAnswer<V>),
    ) -> Result<Resolution<V>, CacheError> {
        let upstream = grant.registry().upstream();
        // Asked also where no client waits.
        let wait = upstream.worth_waiting(self.stale_wait);
        let ask = |sharing| {
            let (joined, answer) = ask(sharing);
            (joined, answer.kept())
        };
        if let Ok((_, answer)) = timeout(wait, ask_shared(grant, ask)).await {
            return stale.or_validated(grant, answer);
        }
        upstream.note_too_late(wait);
        let reason = if upstream.is_open() { StaleReason::Unavailable } else { StaleReason::Slow };
        Ok(stale.served(reason))
    }

    /// Stores an answer to a question of `epoch`, unless a push has overtaken it.
    pub(in crate::cache) async fn store_if_current(
        &self,
        grant: &Grant,
        key: RecordKey,
        epoch: Epoch,
        write: impl FnOnce(&RepositoryRecords) + Send + 'static,
    ) {
        let epochs = Arc::clone(&self.epochs);
        let store = move |records: &RepositoryRecords| {
            epochs.if_current(&key, epoch, || write(records));
            Ok(())
        };
        records_of(&self.store, grant).behind(store).await;
    }

    /// Changes records for a push or delete, which invalidates `key` first. If the disk hangs, at
    /// least the record in memory ends; the panic hook reports a panic in it.
    pub(in crate::cache) async fn overtake(
        &self,
        grant: &Grant,
        key: &RecordKey,
        change: impl FnOnce(&RepositoryRecords) -> io::Result<()> + Send + 'static,
    ) {
        if records_of(&self.store, grant).blocking(change).await.is_err() {
            self.epochs.invalidate(key, self.clock.now());
        }
    }

    /// Loads a record that an earlier process stored, unless a push has overtaken it. An error of
    /// the disk counts as no record.
    pub(in crate::cache) async fn load<T: Send + 'static>(
        &self,
        grant: &Grant,
        key: RecordKey,
        read: impl FnOnce(&RepositoryRecords, Epoch) -> io::Result<Option<(T, LastValidated)>>
        + Send
        + 'static,
        keep: impl FnOnce(&T) + Send + 'static,
    ) -> Option<T> {
        let epochs = Arc::clone(&self.epochs);
        let load = move |records: &RepositoryRecords| {
            epochs.exclusively(&key, || {
                let found = read(records, epochs.of(|| key.clone()))?;
                let current = found.filter(|(_, checked)| !epochs.predates(checked.at, &key));
                Ok(current.map(|(record, _)| record).inspect(keep))
            })
        };
        records_of(&self.store, grant).blocking(load).await.ok().flatten()
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
    fn freshness_goes_by_age() {
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
