//! What upstreams have confirmed of clients that ask with credentials of their own.
//!
//! A right is confirmed by one thing only: the registry's own 2xx to a `HEAD` of a manifest or blob in
//! the repository, asked with the client's credential. That a token was issued confirms nothing, for
//! token servers issue them with fewer actions than were asked for; nor does a 404, which may mean
//! that the client may not know.
//!
//! A right is remembered for `grant_ttl`. After that it is asked for again; if the upstream cannot be
//! asked, it holds for `grant_grace` more. What is remembered is a hash under a key of this process,
//! and ends with it. That a right was not confirmed is remembered for seconds, and not across a push:
//! what was not there to be asked after is there now.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::Action;
use super::probe::probe;
use super::process_key::ProcessKey;
use super::ttl_map::TtlMap;
use crate::http::Via;
use crate::oci::{Reference, RepositoryName, Resource};
use crate::registry::{GrantPolicy, Registry};
use crate::upstream::{self, ClientCredential, CredentialId};

/// The rights that were confirmed, over all listeners and across reloads.
#[derive(Debug)]
pub(super) struct ConfirmedRights {
    confirmed: TtlMap<ConfirmedRight>,
    /// When the registry was asked.
    unconfirmed: TtlMap<Instant>,
    /// When something was last pushed to a repository, by whomever.
    pushed: TtlMap<Instant>,
    /// One question at a time for each right.
    asking: Mutex<HashMap<CredentialId, Weak<AsyncMutex<()>>>>,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct RightsQuery<'w> {
    /// With whose credential; `None` for none at all.
    pub(super) client: Option<&'w ClientCredential>,
    pub(super) registry: &'w Registry,
    pub(super) repository: &'w RepositoryName,
    pub(super) action: Action,
    /// To what.
    pub(super) resource: &'w Resource,
    pub(super) via: &'w Via,
}

#[derive(Clone, Copy, Debug)]
struct ConfirmedRight {
    confirmed: Instant,
    /// When the upstream was last asked in vain.
    in_vain: Option<Instant>,
}

/// Why a right is not confirmed.
#[derive(Clone, Debug)]
pub(super) enum RightsError {
    /// The registry did not confirm it.
    Not,
    /// The upstream could not be asked, or knows no such credential.
    Error(upstream::UpstreamError),
}

impl ConfirmedRights {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            confirmed: TtlMap::new(RIGHTS_MAX),
            unconfirmed: TtlMap::new(RIGHTS_MAX),
            pushed: TtlMap::new(RIGHTS_MAX),
            asking: Mutex::default(),
        }
    }

    /// Whether this right is remembered, and is not too old.
    pub(super) fn holds(&self, tag: &CredentialId, policy: GrantPolicy) -> bool {
        let right = self.confirmed.get(tag);
        right.is_some_and(|right| right.confirmed.elapsed() < policy.ttl)
    }

    /// Remembers that the registry itself has let somebody do this.
    pub(super) fn note(&self, tag: CredentialId, policy: GrantPolicy) {
        let right = ConfirmedRight { confirmed: Instant::now(), in_vain: None };
        self.confirmed.put(tag, right, policy.ttl.saturating_add(policy.grace));
    }

    /// Forgets a right: the registry has refused it.
    pub(super) fn forget(&self, tag: &CredentialId) {
        self.confirmed.forget(tag);
    }

    /// Notes that something was pushed to a repository: what was said before of what is not there holds
    /// no more.
    pub(super) fn note_pushed(
        &self,
        keyed: &ProcessKey,
        registry: &Registry,
        into: &RepositoryName,
    ) {
        self.pushed.put(repository_tag(keyed, registry, into), Instant::now(), PUSHED_FOR);
    }

    /// Sees to it that the right is confirmed. Gives what it is remembered by.
    pub(super) async fn confirm(
        &self,
        keyed: &ProcessKey,
        wish: RightsQuery<'_>,
        policy: GrantPolicy,
    ) -> Result<CredentialId, RightsError> {
        let tag = wish.tag(keyed);
        if self.holds_now(&tag, policy) {
            return Ok(tag);
        }
        let turn = self.turn(tag);
        let _turn = turn.lock().await;
        // Clients send several requests at once; the first of them has settled it.
        if self.holds_now(&tag, policy) {
            return Ok(tag);
        }
        let for_this = wish.tag_for_this(keyed);
        let pushed = self.pushed.get(&repository_tag(keyed, wish.registry, wish.repository));
        let is_refused = |tag| {
            let asked = self.unconfirmed.get(tag);
            asked.is_some_and(|asked| pushed.is_none_or(|pushed| pushed < asked))
        };
        if is_refused(&tag) || is_refused(&for_this) {
            return Err(RightsError::Not);
        }
        self.ask(wish, policy, (tag, for_this)).await.map(|()| tag)
    }

    async fn ask(
        &self,
        wish: RightsQuery<'_>,
        policy: GrantPolicy,
        (tag, for_this): (CredentialId, CredentialId),
    ) -> Result<(), RightsError> {
        let (old, begin) = (self.confirmed.get(&tag), Instant::now());
        let is_in_vain = old.is_some() && wish.registry.upstream().is_open();
        let wait = if old.is_some() { WAIT_WITH_GRACE } else { WAIT };
        let error = if is_in_vain {
            None
        } else {
            match probe(wish, Instant::now() + wait).await {
                Ok(()) => {
                    self.note(tag, policy);
                    return Ok(());
                }
                Err(error) => Some(error),
            }
        };
        match (error, old) {
            (Some(error @ upstream::UpstreamError::CredentialRefused { .. }), _) => {
                self.forget(&tag);
                Err(RightsError::Error(error))
            }
            (Some(upstream::UpstreamError::Denied { .. }), _) => {
                self.forget(&tag);
                self.unconfirmed.put(tag, begin, UNCONFIRMED_FOR);
                Err(RightsError::Not)
            }
            (Some(upstream::UpstreamError::NotFound { .. }), _) => {
                // It may be that only this does not exist, so nothing is said of the repository; but
                // what was confirmed is too old to go on with.
                self.forget(&tag);
                self.unconfirmed.put(for_this, begin, UNCONFIRMED_FOR);
                Err(RightsError::Not)
            }
            (_, Some(old)) => {
                let left = policy.ttl.saturating_add(policy.grace);
                let left = left.saturating_sub(old.confirmed.elapsed());
                let right = ConfirmedRight { in_vain: Some(Instant::now()), ..old };
                self.confirmed.put(tag, right, left);
                Ok(())
            }
            (Some(error), None) => Err(RightsError::Error(error)),
            (None, None) => Err(RightsError::Not),
        }
    }

    /// Whether the right need not be asked for now: it is young enough, or the upstream was asked in
    /// vain a moment ago and it is not too old for that.
    fn holds_now(&self, tag: &CredentialId, policy: GrantPolicy) -> bool {
        let Some(right) = self.confirmed.get(tag) else { return false };
        let was_in_vain = right.in_vain.is_some_and(|at| at.elapsed() < IN_VAIN_FOR);
        right.confirmed.elapsed() < policy.ttl || was_in_vain
    }

    fn turn(&self, tag: CredentialId) -> Arc<AsyncMutex<()>> {
        let mut asking = self.asking.lock();
        if let Some(turn) = asking.get(&tag).and_then(Weak::upgrade) {
            return turn;
        }
        // Those that nobody waits for any more.
        if asking.len() >= asking.capacity() {
            asking.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(AsyncMutex::new(()));
        asking.insert(tag, Arc::downgrade(&turn));
        turn
    }
}

impl RightsQuery<'_> {
    /// What the right is remembered by.
    pub(super) fn tag(&self, keyed: &ProcessKey) -> CredentialId {
        keyed.tag(&self.parts(b"right"))
    }

    /// The same for the thing at hand only.
    fn tag_for_this(&self, keyed: &ProcessKey) -> CredentialId {
        let resource = match self.resource {
            Resource::Blob(digest) => format!("blobs/{digest}"),
            Resource::Manifest(Reference::Digest(digest)) => format!("manifests/{digest}"),
            Resource::Manifest(Reference::Tag(tag)) => format!("manifests/{tag}"),
            Resource::Referrers(digest) => format!("referrers/{digest}"),
            Resource::Tags => "tags/list".to_owned(),
            Resource::Upload(_) => "blobs/uploads/".to_owned(),
        };
        let [kind, who, registry, host, repository, action] = self.parts(b"right to this");
        keyed.tag(&[kind, who, registry, host, repository, action, resource.as_bytes()])
    }

    /// With the upstream's host: another upstream of the same name has confirmed nothing.
    fn parts<'p>(&'p self, kind: &'p [u8]) -> [&'p [u8]; 6] {
        [
            kind,
            self.client.and_then(ClientCredential::tag_bytes).unwrap_or_default(),
            self.registry.name().as_str().as_bytes(),
            self.registry.upstream().host().as_bytes(),
            self.repository.as_str().as_bytes(),
            self.action.as_str().as_bytes(),
        ]
    }
}

/// What pushes to a repository are remembered by.
fn repository_tag(
    keyed: &ProcessKey,
    registry: &Registry,
    repository: &RepositoryName,
) -> CredentialId {
    let host = registry.upstream().host().as_bytes();
    keyed.tag(&[
        b"pushed",
        registry.name().as_str().as_bytes(),
        host,
        repository.as_str().as_bytes(),
    ])
}

/// How long a client waits for its right to be confirmed. What comes after takes up to 25 s, and
/// containerd gives up after 30.
const WAIT: Duration = Duration::from_secs(5);

/// The same where an older confirmation can stand in.
const WAIT_WITH_GRACE: Duration = Duration::from_secs(2);

/// For how long nobody asks again after a question in vain.
const IN_VAIN_FOR: Duration = Duration::from_secs(5);

/// For how long it is remembered that a right was not confirmed: who is given a right gets in soon.
const UNCONFIRMED_FOR: Duration = Duration::from_secs(5);

/// As long as anything is remembered that was said before: a question that took all its time, and then
/// for as long as it is remembered.
const PUSHED_FOR: Duration = WAIT.saturating_add(UNCONFIRMED_FOR);

/// A thousand clients with a hundred repositories each; at about 100 bytes, 10 MiB.
const RIGHTS_MAX: usize = 100_000;
