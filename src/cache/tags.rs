//! Manifests by tag: believed for a while, then asked after, and served stale when the upstream
//! cannot be asked.
//!
//! A tag is a record, tag → digest, with the time of its last check. What the upstream is asked is
//! one `HEAD`, shared by all who wait. Its 404, 401 and 403 about this repository are answers: the
//! record goes. A 404 leaves one of its own, that there is no such tag, which is believed, asked
//! after and served stale like any other: podman asks for `sha256-….sig` with each pull, and must
//! get the same answer in an outage. Any other failure is an outage, which the record survives.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::time::{Instant, timeout};

use super::hot::{HotTag, question_key};
use super::manifests::{header_type, is_without_head};
use super::members::warn_of;
use super::{Bypass, Content, Decision, Error, Manifest, Pulled, Shared, StaleReason};
use crate::access::Grant;
use crate::oci::{AcceptSet, Algorithm, Digest, Reference, Tag};
use crate::registry::TagPolicy;
use crate::store::TagRecord;
use crate::upstream::{self, Method};

/// What the upstream made of a tag.
#[derive(Clone, Debug)]
pub(super) enum Resolved {
    /// A manifest that is cached under this digest.
    Digest(Digest),
    /// A manifest that cannot be.
    Uncached(Arc<Manifest>),
}

/// How tags look to clients that cannot take what the full `Accept` list resolves to: each
/// `Accept` set has records of its own.
#[derive(Clone, Debug)]
struct View {
    /// A file name: part of the hash of the set.
    name: String,
    accept: String,
}

impl Shared {
    pub(super) async fn manifest_by_tag(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        accept: &AcceptSet,
    ) -> Result<Pulled<Arc<Manifest>>, Error> {
        let pulled = self.manifest_in_view(grant, tag, None).await?;
        match View::of(accept) {
            Some(view) if !accept.takes(&pulled.what.media_type) => {
                self.manifest_in_view(grant, tag, Some(view)).await
            }
            _ => Ok(pulled),
        }
    }

    async fn manifest_in_view(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<View>,
    ) -> Result<Pulled<Arc<Manifest>>, Error> {
        let known = self.tag_record(grant, tag, view.as_ref()).await;
        let policy = policy(grant, tag, known.as_deref());
        if let Some(known) = &known
            && self.tag_age(known, policy) <= policy.ttl
        {
            return self.recalled(grant, known, Decision::Hit, self.tag_age(known, policy)).await;
        }
        if let Err(offline) = Error::if_offline(grant) {
            let known = known.ok_or(offline)?;
            let age = self.tag_age(&known, policy);
            let since = age.saturating_sub(policy.ttl);
            let decision = Decision::Stale { since, reason: StaleReason::Offline };
            return self.recalled(grant, &known, decision, age).await;
        }
        let reference = Reference::Tag(tag.clone());
        let key = question_key(grant, &reference, view.as_ref().map(|view| view.name.as_str()));
        let (collapsed, answer) = self.tags_asked.join(key, || {
            let digest = known.as_ref().and_then(|known| known.record.digest.clone());
            Arc::clone(self).revalidate(grant.clone(), tag.clone(), view.clone(), digest)
        });
        let Some(known) = known else {
            return self
                .served(
                    grant,
                    answer.landed().await?,
                    Decision::Miss { collapsed, unverified: false },
                )
                .await;
        };
        let is_too_old = self.is_too_old(&known, policy);
        let patience = self.patience.with(grant.registry(), is_too_old);
        let reason = match timeout(patience, answer.landed()).await {
            Ok(Ok(resolved)) => return self.served(grant, resolved, Decision::Revalidated).await,
            Ok(Err(error)) if error.is_an_answer() => return Err(error),
            Ok(Err(error)) if is_too_old => return Err(error),
            Ok(Err(error)) => stale_reason(&error),
            Err(_) if is_too_old => return Err(self.too_slow(grant)),
            Err(_) => self.patience.lost(grant.registry(), patience),
        };
        let age = self.tag_age(&known, policy);
        let decision = Decision::Stale { since: age.saturating_sub(policy.ttl), reason };
        self.recalled(grant, &known, decision, age).await
    }

    /// What a record says: a manifest, or that there is no such tag.
    async fn recalled(
        self: &Arc<Self>,
        grant: &Grant,
        known: &HotTag,
        decision: Decision,
        age: Duration,
    ) -> Result<Pulled<Arc<Manifest>>, Error> {
        match &known.record.digest {
            Some(digest) => self.manifest_of(grant, digest, decision, age).await,
            None => Err(Error::absent(grant, None, decision, age)),
        }
    }

    async fn served(
        self: &Arc<Self>,
        grant: &Grant,
        resolved: Resolved,
        decision: Decision,
    ) -> Result<Pulled<Arc<Manifest>>, Error> {
        match resolved {
            Resolved::Digest(digest) => {
                self.manifest_of(grant, &digest, decision, Duration::ZERO).await
            }
            Resolved::Uncached(what) => {
                let decision = Decision::Bypass(Bypass::NotCacheable);
                Ok(Pulled { what, decision, age: None })
            }
        }
    }

    /// The manifest that a record names. It is normally held; if it was lost, that is a miss.
    async fn manifest_of(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        decision: Decision,
        age: Duration,
    ) -> Result<Pulled<Arc<Manifest>>, Error> {
        let pulled = self.manifest_by_digest(grant, digest).await?;
        let decision = if pulled.decision == Decision::Hit { decision } else { pulled.decision };
        Ok(Pulled { what: pulled.what, decision, age: Some(age) })
    }

    async fn tag_record(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<&View>,
    ) -> Option<Arc<HotTag>> {
        let name = view.map(|view| view.name.as_str());
        if let Some(hot) = self.hot.tag(grant, tag, name) {
            return Some(hot);
        }
        let (shared, grant, tag) = (Arc::clone(self), grant.clone(), tag.clone());
        let name = name.map(str::to_owned);
        let read = move || {
            let (registry, repository) = (grant.registry().name(), grant.repository());
            let record = shared.store.tag(registry, repository, &tag, name.as_deref()).ok()??;
            let hot = Arc::new(HotTag { record, checked: None });
            shared.hot.put_tag(&grant, &tag, name.as_deref(), Arc::clone(&hot));
            Some(hot)
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Asks the upstream what the tag is now, and keeps the answer.
    async fn revalidate(
        self: Arc<Self>,
        grant: Grant,
        tag: Tag,
        view: Option<View>,
        known: Option<Digest>,
    ) -> Result<Resolved, Error> {
        let asked = Instant::now();
        let resolved = self.resolve(&grant, &tag, view.as_ref(), known).await;
        self.patience.heard(grant.registry(), asked, resolved.as_ref().err());
        let name = view.map(|view| view.name);
        match &resolved {
            Ok(Resolved::Digest(digest)) => {
                self.put_tag(grant, tag, name, Some(digest.clone())).await;
            }
            Err(Error::Upstream(upstream::Error::NotFound { .. })) => {
                self.put_tag(grant, tag, name, None).await;
            }
            Err(error) if error.is_an_answer() => self.drop_tag(grant, tag, name).await,
            Ok(Resolved::Uncached(_)) | Err(_) => {}
        }
        resolved
    }

    async fn resolve(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<&View>,
        known: Option<Digest>,
    ) -> Result<Resolved, Error> {
        let reference = Reference::Tag(tag.clone());
        let accept = view.map(|view| view.accept.as_str());
        let told = match self.ask_manifest(grant, &reference, Method::Head, accept).await {
            Ok(answer) => {
                let schema1 = header_type(&answer).is_some_and(|kind| kind.is_schema1());
                told_digest(&answer.headers).filter(|_| !schema1)
            }
            Err(error) if is_without_head(&error) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(digest) = told {
            if known.as_ref() == Some(&digest) {
                return Ok(Resolved::Digest(digest));
            }
            match self.manifest_by_digest(grant, &digest).await {
                Ok(_) => return Ok(Resolved::Digest(digest)),
                // Moved in between, or a registry that knows its manifests by tag only.
                Err(Error::Upstream(upstream::Error::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let manifest = self.get_manifest_by_tag(grant, &reference, accept).await?;
        Ok(match &manifest.content {
            Content::Verified(verified) => Resolved::Digest(verified.digest().clone()),
            Content::Schema1(..) => Resolved::Uncached(manifest),
        })
    }

    async fn put_tag(
        self: &Arc<Self>,
        grant: Grant,
        tag: Tag,
        name: Option<String>,
        digest: Option<Digest>,
    ) {
        let record = TagRecord { digest, checked_at: self.clock.now() };
        let hot = HotTag { record: record.clone(), checked: Some(Instant::now()) };
        self.hot.put_tag(&grant, &tag, name.as_deref(), Arc::new(hot));
        let shared = Arc::clone(self);
        let write = move || {
            let (registry, repository) = (grant.registry().name(), grant.repository());
            let put = shared.store.put_tag(registry, repository, &tag, name.as_deref(), &record);
            warn_of(put, "cannot keep a tag record");
        };
        // A panic in it has been reported; the record is in memory all the same.
        drop(tokio::task::spawn_blocking(write).await);
    }

    async fn drop_tag(self: &Arc<Self>, grant: Grant, tag: Tag, name: Option<String>) {
        let shared = Arc::clone(self);
        let remove = move || {
            let (registry, repository) = (grant.registry().name(), grant.repository());
            let dropped = shared.store.drop_tag(registry, repository, &tag, name.as_deref());
            warn_of(dropped, "cannot drop a tag record");
            shared.hot.drop_tag(&grant, &tag, name.as_deref());
        };
        // As above.
        drop(tokio::task::spawn_blocking(remove).await);
    }

    /// How long ago a record was checked. By the clock that does not jump where it can; a wall
    /// clock that went backwards makes a record just stale, so that it is asked after.
    pub(super) fn age(
        &self,
        checked_at: SystemTime,
        checked: Option<Instant>,
        policy: TagPolicy,
    ) -> Duration {
        let by_wall_clock = || {
            let age = self.clock.now().duration_since(checked_at);
            age.unwrap_or(policy.ttl.saturating_add(Duration::from_secs(1)))
        };
        checked.map_or_else(by_wall_clock, |checked| checked.elapsed())
    }

    fn tag_age(&self, known: &HotTag, policy: TagPolicy) -> Duration {
        self.age(known.record.checked_at, known.checked, policy)
    }

    fn is_too_old(&self, known: &HotTag, policy: TagPolicy) -> bool {
        self.tag_age(known, policy) > policy.ttl.saturating_add(policy.max_stale)
    }

    pub(super) fn too_slow(&self, grant: &Grant) -> Error {
        let host = grant.registry().upstream().host().to_owned();
        Error::TimedOut { host, waited: self.options.stale_wait }
    }
}

impl View {
    /// The view of a client; `None` for one that takes anything.
    fn of(accept: &AcceptSet) -> Option<Self> {
        let accept = accept.to_header();
        if accept.is_empty() {
            return None;
        }
        let name = Digest::of(Algorithm::Sha256, accept.as_bytes()).hex()[..16].to_owned();
        Some(Self { name, accept })
    }
}

/// How long a record is believed. A tag that was not there may come to be at any moment, so for how
/// long others of its name are believed does not count.
fn policy(grant: &Grant, tag: &Tag, known: Option<&HotTag>) -> TagPolicy {
    let policy = grant.registry().tags_of(tag);
    match known {
        Some(HotTag { record: TagRecord { digest: None, .. }, .. }) => {
            TagPolicy { ttl: policy.ttl.min(grant.registry().tags().ttl), ..policy }
        }
        _ => policy,
    }
}

/// The digest that an upstream says a manifest has: a hint, until the bytes are hashed.
pub(super) fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

pub(super) fn stale_reason(error: &Error) -> StaleReason {
    match error {
        Error::Upstream(upstream::Error::CredentialRefused { .. }) => {
            StaleReason::CredentialRefused
        }
        Error::Upstream(upstream::Error::Throttled { .. }) => StaleReason::Throttled,
        _ => StaleReason::Unavailable,
    }
}
