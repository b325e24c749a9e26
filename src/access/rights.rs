//! Caches which clients an upstream has confirmed, for registries that are asked with each client's
//! own credential.
//!
//! One thing only confirms a right: the registry's own 2xx to a `HEAD` of a manifest or blob in the
//! repository, sent with the client's credential (`probe.rs`). An issued token confirms nothing,
//! because token servers issue tokens with fewer actions than were requested; nor does a 404,
//! because it may mean that the client must not know of the repository.
//!
//! A right is fresh for `grant_ttl`. After that the upstream is asked again; while the upstream is
//! down, a stale right holds for `grant_grace` more, counted from the last confirmation. A rate
//! limit or a slow answer is no outage: a client could bring either about, and keep a right that
//! was revoked. Rights are cached under a hash with a key of this process, and end with it. A
//! refusal is cached for seconds, and not across a push, which may have created the missing
//! manifest.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::AccessDenied;
use super::probe::probe;
use super::process_key::ProcessKey;
use super::resource_head::ResourceHead;
use super::rights_query::{RightsQuery, pushed_id};
use super::ttl_map::TtlMap;
use crate::oci::RepositoryName;
use crate::registry::{GrantPolicy, Registry};
use crate::upstream::{CredentialId, UpstreamError};

/// The confirmed rights of all clients, over all listeners and across reloads.
#[derive(Debug)]
pub(super) struct ConfirmedRights {
    confirmed: TtlMap<ConfirmedRight>,
    /// When the registry was asked and did not confirm.
    refused: TtlMap<Instant>,
    /// When a repository was last pushed to, by any client.
    pushed: TtlMap<Instant>,
    /// The questions under way: the first for each right, and one for each resource.
    asking: Mutex<HashMap<CredentialId, Weak<QuestionLock>>>,
}

/// Held while a question is asked, with the last one that got no answer, and when that was known.
type QuestionLock = AsyncMutex<Option<(Instant, UpstreamError)>>;

#[derive(Clone, Copy, Debug)]
struct ConfirmedRight {
    confirmed_at: Instant,
    /// When the upstream was last asked again and gave no answer.
    failed_at: Option<Instant>,
}

impl ConfirmedRights {
    /// No rights yet.
    pub(super) fn new() -> Self {
        Self {
            confirmed: TtlMap::new(RIGHTS_MAX),
            refused: TtlMap::new(RIGHTS_MAX),
            pushed: TtlMap::new(RIGHTS_MAX),
            asking: Mutex::default(),
        }
    }

    /// Whether this right was confirmed within `grant_ttl`.
    pub(super) fn is_fresh(&self, right: &CredentialId, policy: GrantPolicy) -> bool {
        let right = self.confirmed.get(right);
        right.is_some_and(|right| right.confirmed_at.elapsed() < policy.ttl)
    }

    /// Whether this right was confirmed, however long ago within the grace period.
    pub(super) fn is_known(&self, right: &CredentialId) -> bool {
        self.confirmed.get(right).is_some()
    }

    /// Removes a right that the registry has refused since.
    pub(super) fn remove(&self, right: &CredentialId) {
        self.confirmed.remove(right);
    }

    /// Notes a push to a repository: earlier refusals no longer count there.
    pub(super) fn note_push(
        &self,
        key: &ProcessKey,
        registry: &Registry,
        repository: &RepositoryName,
    ) {
        let id = pushed_id(key, registry, repository);
        self.pushed.insert(id, Instant::now(), PUSHED_TTL);
    }

    /// Makes sure that a right holds now, asking the upstream if need be. Returns its answer, if it
    /// was asked and that is about the resource itself.
    ///
    /// # Errors
    ///
    /// [`AccessDenied::NotConfirmed`] if the registry did not confirm the right, and
    /// [`AccessDenied::Upstream`] if it could not be asked or refused the credential.
    pub(super) async fn confirm(
        &self,
        key: &ProcessKey,
        query: RightsQuery<'_>,
        policy: GrantPolicy,
    ) -> Result<Option<ResourceHead>, AccessDenied> {
        let right = query.right_id(key);
        if self.holds(&right, policy) {
            return Ok(None);
        }
        let arrived_at = Instant::now();
        let resource = query.resource_id(key);
        let [of_right, of_resource] = [right, resource].map(|id| self.question_lock(id));
        let first = of_right.try_lock();
        if first.is_err() {
            // The question under way may confirm the right for all. If it does not, or takes long,
            // the others are about other resources, and do not wait for each other.
            drop(timeout(SILENCE, of_right.lock()).await);
        }
        let mut last_failure = of_resource.lock().await;
        // Clients send several requests at once; the first of them has asked.
        if self.holds(&right, policy) {
            return Ok(None);
        }
        if let Some((_, error)) = last_failure.as_ref().filter(|(at, _)| *at >= arrived_at) {
            return Err(error.clone().into());
        }
        let pushed = self.pushed.get(&pushed_id(key, query.registry, query.repository));
        if [right, resource].iter().any(|id| self.is_refused(id, pushed)) {
            return Err(AccessDenied::NotConfirmed);
        }
        let outcome = self.ask(query, policy, right, resource).await;
        drop(first);
        if let Err(AccessDenied::Upstream(error)) = &outcome {
            *last_failure = Some((Instant::now(), error.clone()));
        }
        outcome
    }

    /// Whether the registry refused this since the last push to the repository.
    fn is_refused(&self, id: &CredentialId, pushed: Option<Instant>) -> bool {
        let asked = self.refused.get(id);
        asked.is_some_and(|asked| pushed.is_none_or(|pushed| pushed < asked))
    }

    async fn ask(
        &self,
        query: RightsQuery<'_>,
        policy: GrantPolicy,
        right: CredentialId,
        resource: CredentialId,
    ) -> Result<Option<ResourceHead>, AccessDenied> {
        let stale = self.confirmed.get(&right);
        // A stale right holds while the circuit breaker of the upstream is open.
        if let Some(stale) = stale
            && query.registry.upstream().is_open()
        {
            self.extend(right, stale, policy);
            return Ok(None);
        }
        let asked_at = Instant::now();
        let outcome = match stale {
            None => probe(query, asked_at + WAIT).await,
            Some(_) => ask_unless_down(query, asked_at).await,
        };
        match (outcome, stale) {
            (Ok(head), _) => {
                self.note_confirmed(right, policy);
                Ok(head)
            }
            (Err(error), Some(stale)) if is_outage(&error) => {
                tracing::debug!(%error, "a stale right stands in");
                self.extend(right, stale, policy);
                Ok(None)
            }
            (Err(UpstreamError::Denied { .. }), _) => {
                self.remove(&right);
                self.refused.insert(right, asked_at, REFUSED_TTL);
                Err(AccessDenied::NotConfirmed)
            }
            (Err(UpstreamError::NotFound { .. }), _) => {
                // The 404 may be about this resource only, so no other one is refused; but the
                // stale right must not be served any longer.
                self.remove(&right);
                self.refused.insert(resource, asked_at, REFUSED_TTL);
                Err(AccessDenied::NotConfirmed)
            }
            (Err(error), _) => {
                if !is_about_load(&error) {
                    self.remove(&right);
                }
                Err(error.into())
            }
        }
    }

    fn note_confirmed(&self, right: CredentialId, policy: GrantPolicy) {
        let value = ConfirmedRight { confirmed_at: Instant::now(), failed_at: None };
        self.confirmed.insert(right, value, policy.ttl.saturating_add(policy.grace));
    }

    /// Lets a stale right hold for the rest of its grace period; the upstream is asked again after
    /// [`RETRY_PAUSE`].
    fn extend(&self, right: CredentialId, stale: ConfirmedRight, policy: GrantPolicy) {
        let total = policy.ttl.saturating_add(policy.grace);
        let left = total.saturating_sub(stale.confirmed_at.elapsed());
        let value = ConfirmedRight { failed_at: Some(Instant::now()), ..stale };
        self.confirmed.insert(right, value, left);
    }

    /// Whether the right holds without a question: it is fresh, or in its grace period and the
    /// upstream gave no answer a moment ago.
    fn holds(&self, right: &CredentialId, policy: GrantPolicy) -> bool {
        let Some(right) = self.confirmed.get(right) else { return false };
        let has_just_failed = right.failed_at.is_some_and(|at| at.elapsed() < RETRY_PAUSE);
        right.confirmed_at.elapsed() < policy.ttl || has_just_failed
    }

    fn question_lock(&self, right: CredentialId) -> Arc<QuestionLock> {
        let mut asking = self.asking.lock();
        if let Some(lock) = asking.get(&right).and_then(Weak::upgrade) {
            return lock;
        }
        // Removes the locks that no request holds, before the map would grow.
        if asking.len() >= asking.capacity() {
            asking.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(QuestionLock::default());
        asking.insert(right, Arc::downgrade(&lock));
        lock
    }
}

/// Asks. An upstream that answers nothing is found out before the client has waited for long.
async fn ask_unless_down(
    query: RightsQuery<'_>,
    asked_at: Instant,
) -> Result<Option<ResourceHead>, UpstreamError> {
    let mut question = pin!(probe(query, asked_at + WAIT));
    if let Ok(outcome) = timeout_at(asked_at + SILENCE, &mut question).await {
        return outcome;
    }
    let upstream = query.registry.upstream();
    tokio::select! {
        outcome = question => outcome,
        false = upstream.answers(asked_at + WAIT_WITH_GRACE) => {
            let host = upstream.host().to_owned();
            Err(UpstreamError::Unreachable { host, reason: "`/v2/` has no answer".to_owned() })
        }
    }
}

/// Whether the upstream is down for all clients, so that a stale right can stand in.
fn is_outage(error: &UpstreamError) -> bool {
    // A rejection with a reason is the registry's.
    let is_answer = matches!(
        error,
        UpstreamError::CredentialRefused { .. }
            | UpstreamError::Denied { .. }
            | UpstreamError::NotFound { .. }
            | UpstreamError::Rejected { said: Some(_), .. }
    );
    !is_answer && !is_about_load(error)
}

/// Whether the client itself may have brought it about, by asking too much.
fn is_about_load(error: &UpstreamError) -> bool {
    matches!(error, UpstreamError::Stalled { .. } | UpstreamError::Throttled { .. })
}

/// How long a client waits for its right to be confirmed. The pull after it takes up to 25 s, and
/// containerd gives up after 30.
const WAIT: Duration = Duration::from_secs(5);

/// After this the upstream is asked for `/v2/` as well, if a stale right can stand in, and other
/// questions about the right are not held back for this one.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a client waits where a stale right can stand in, and `/v2/` has no answer either.
const WAIT_WITH_GRACE: Duration = Duration::from_secs(2);

/// How long the upstream is not asked again after a question without an answer.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How long a refusal is cached: short, so that a client that is given a right gets in soon.
const REFUSED_TTL: Duration = Duration::from_secs(5);

/// As long as a refusal from before the push can be cached: a question that took all its time, and
/// then [`REFUSED_TTL`].
const PUSHED_TTL: Duration = WAIT.saturating_add(REFUSED_TTL);

/// A thousand clients with a hundred repositories each; at about 100 bytes, 10 MiB.
const RIGHTS_MAX: usize = 100_000;
