//! Manifests by tag: believed for a while, then asked after, and served stale when the upstream
//! cannot be asked.
//!
//! A tag is a record, tag → digest, with the time of its last check. How long it is believed, and
//! who waits for what, is decided in `belief`. What the upstream is asked is one `HEAD`. Its 404,
//! 401 and 403 about this repository are answers: the record goes. A 404 leaves one of its own,
//! that there is no such tag, which is believed, asked after and served stale like any other:
//! podman asks for `sha256-….sig` with each pull, and must get the same answer in an outage. Any
//! other failure is an outage, which the record survives.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::access::Grant;
use crate::cache::epoch::Epoch;
use crate::cache::error::warn_of;
use crate::cache::flight::Sharing;
use crate::cache::hot::HotTag;
use crate::cache::key::RecordKey;
use crate::cache::manifest::fetch::header_type;
use crate::cache::mutable::revalidate::{LastValidated, Purpose, Resolution};
use crate::cache::{
    BypassReason, CacheError, CachedManifest, Decision, ManifestContent, Pulled, Shared,
};
use crate::oci::{AcceptSet, Algorithm, Digest, Reference, Tag};
use crate::registry::TagPolicy;
use crate::store::TagRecord;
use crate::upstream::{self, ReadMethod};

/// The answer of the upstream about a tag.
#[derive(Clone, Debug)]
pub(in crate::cache) enum ResolvedTag {
    /// A manifest that is cached under this digest.
    Digest(Digest),
    /// A manifest that cannot be.
    Uncached(Arc<CachedManifest>),
}

/// How tags look to clients that cannot take what the full `Accept` list resolves to: each
/// `Accept` set has records of its own.
#[derive(Clone, Debug)]
struct AcceptView {
    /// A file name: part of the hash of the set.
    name: String,
    accept: String,
}

impl Shared {
    pub(in crate::cache) async fn manifest_by_tag(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        accept: &AcceptSet<'_>,
        reliance: Purpose,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let pulled = self.manifest_in_view(grant, tag, None, reliance).await?;
        if accept.takes(&pulled.what.media_type) {
            return Ok(pulled);
        }
        match AcceptView::of(accept) {
            Some(view) => self.manifest_in_view(grant, tag, Some(view), reliance).await,
            None => Ok(pulled),
        }
    }

    async fn manifest_in_view(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<AcceptView>,
        reliance: Purpose,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let known = self.tag_record(grant, tag, view.as_ref()).await;
        let ask = |company: Sharing| {
            let epoch = self.epochs.of(|| RecordKey::tag(grant, tag));
            let view_name = view.as_ref().map(|view| view.name.as_str());
            let key = company.key(RecordKey::tag_in_view(grant, tag, view_name), grant);
            let digest = known.as_ref().and_then(|known| known.digest.clone());
            let (shared, grant) = (Arc::clone(self), grant.clone());
            self.tags_asked.join((key, epoch), || {
                shared.revalidate(grant, tag.clone(), view.clone(), digest, epoch)
            })
        };
        let checked = known.as_ref().map(|known| &known.checked);
        let policy = policy(grant, tag, known.as_deref());
        match self.settle(grant, checked, (policy, reliance), ask).await? {
            Resolution::Validated(resolved, decision) => {
                self.served(grant, resolved, decision).await
            }
            Resolution::Cached { decision, age } => {
                let digest = known.as_ref().and_then(|known| known.digest.as_ref());
                self.recalled(grant, digest, decision, age).await
            }
        }
    }

    /// The content of a record: a manifest, or that there is no such tag.
    async fn recalled(
        self: &Arc<Self>,
        grant: &Grant,
        digest: Option<&Digest>,
        decision: Decision,
        age: Duration,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        match digest {
            Some(digest) => self.manifest_of(grant, digest, decision, age).await,
            None => Err(CacheError::absent(grant, None, decision, age)),
        }
    }

    async fn served(
        self: &Arc<Self>,
        grant: &Grant,
        resolved: ResolvedTag,
        decision: Decision,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        match resolved {
            ResolvedTag::Digest(digest) => {
                self.manifest_of(grant, &digest, decision, Duration::ZERO).await
            }
            ResolvedTag::Uncached(what) => {
                let decision = Decision::Bypass(BypassReason::NotCacheable);
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
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let pulled = self.manifest_by_digest(grant, digest).await?;
        let decision = if pulled.decision == Decision::Hit { decision } else { pulled.decision };
        Ok(Pulled { what: pulled.what, decision, age: Some(age) })
    }

    async fn tag_record(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<&AcceptView>,
    ) -> Option<Arc<HotTag>> {
        let name = view.map(|view| view.name.as_str());
        if let Some(hot) = self.hot.tags.get(&RecordKey::tag_in_view(grant, tag, name))
            && self.epochs.is_current(|| RecordKey::tag(grant, tag), hot.checked.epoch)
        {
            return Some(hot);
        }
        let (shared, grant, tag) = (Arc::clone(self), grant.clone(), tag.clone());
        let name = name.map(str::to_owned);
        let recall = move || {
            let (registry, repository) = (grant.registry().name(), grant.repository());
            let read = |epoch| {
                let record =
                    shared.store.tag(registry, repository, &tag, name.as_deref()).ok()??;
                let checked = LastValidated::earlier(record.checked_at, epoch);
                Some((Arc::new(HotTag { digest: record.digest, checked }), record.checked_at))
            };
            let keep = |hot: &Arc<HotTag>| {
                let key = RecordKey::tag_in_view(&grant, &tag, name.as_deref());
                shared.hot.tags.put(key, Arc::clone(hot));
            };
            shared.recall(&RecordKey::tag(&grant, &tag), read, keep)
        };
        tokio::task::spawn_blocking(recall).await.ok().flatten()
    }

    /// Asks the upstream what the tag is now, and keeps the answer.
    async fn revalidate(
        self: Arc<Self>,
        grant: Grant,
        tag: Tag,
        view: Option<AcceptView>,
        known: Option<Digest>,
        epoch: Epoch,
    ) -> Result<ResolvedTag, CacheError> {
        let resolved = self.resolve(&grant, &tag, view.as_ref(), known).await;
        let subject = RecordKey::tag(&grant, &tag);
        let name = view.map(|view| view.name);
        let digest = match &resolved {
            Ok(ResolvedTag::Digest(digest)) => Some(digest.clone()),
            Err(error) if error.refuses(&grant) => return resolved,
            // It may be only this client that may not know of it.
            Err(CacheError::Upstream(upstream::UpstreamError::NotFound { .. }))
                if !grant.uses_client_credential() =>
            {
                None
            }
            Err(error) if error.is_an_answer() => {
                let forget = move |shared: &Self| shared.drop_tag(&grant, &tag, name.as_deref());
                self.commit(subject, epoch, forget).await;
                return resolved;
            }
            Ok(ResolvedTag::Uncached(_)) | Err(_) => return resolved,
        };
        let keep = move |shared: &Self| {
            let checked = LastValidated::now(shared.clock.now(), epoch);
            shared.put_tag(&grant, &tag, name.as_deref(), digest, checked);
        };
        self.commit(subject, epoch, keep).await;
        resolved
    }

    async fn resolve(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<&AcceptView>,
        known: Option<Digest>,
    ) -> Result<ResolvedTag, CacheError> {
        let reference = Reference::Tag(tag.clone());
        let accept = view.map(|view| view.accept.as_str());
        let told = match self.ask_manifest(grant, &reference, ReadMethod::Head, accept).await {
            Ok(answer) => {
                let schema1 = header_type(&answer).is_some_and(|kind| kind.is_schema1());
                told_digest(&answer.headers).filter(|_| !schema1)
            }
            Err(error) if error.is_without_head() => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(digest) = told {
            if known.as_ref() == Some(&digest) {
                return Ok(ResolvedTag::Digest(digest));
            }
            match self.manifest_by_digest(grant, &digest).await {
                Ok(_) => return Ok(ResolvedTag::Digest(digest)),
                // Moved in between, or a registry that knows its manifests by tag only.
                Err(CacheError::Upstream(upstream::UpstreamError::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let manifest = self.get_manifest_by_tag(grant, &reference, accept).await?;
        Ok(match &manifest.content {
            ManifestContent::Verified(verified) => ResolvedTag::Digest(verified.digest().clone()),
            ManifestContent::Schema1(..) => ResolvedTag::Uncached(manifest),
        })
    }

    /// Blocks.
    fn put_tag(
        &self,
        grant: &Grant,
        tag: &Tag,
        name: Option<&str>,
        digest: Option<Digest>,
        checked: LastValidated,
    ) {
        let record = TagRecord { digest: digest.clone(), checked_at: checked.at };
        let key = RecordKey::tag_in_view(grant, tag, name);
        self.hot.tags.put(key, Arc::new(HotTag { digest, checked }));
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let put = self.store.put_tag(registry, repository, tag, name, &record);
        warn_of(put, "cannot keep a tag record");
    }

    /// Blocks.
    fn drop_tag(&self, grant: &Grant, tag: &Tag, name: Option<&str>) {
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let dropped = self.store.drop_tag(registry, repository, tag, name);
        warn_of(dropped, "cannot drop a tag record");
        self.hot.tags.remove(&RecordKey::tag_in_view(grant, tag, name));
    }
}

impl AcceptView {
    /// The view of a client; `None` for one that takes anything.
    fn of(accept: &AcceptSet<'_>) -> Option<Self> {
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
    let policy = grant.registry().tag_policy(tag);
    match known {
        Some(HotTag { digest: None, .. }) => {
            TagPolicy { ttl: policy.ttl.min(grant.registry().default_tag_policy().ttl), ..policy }
        }
        _ => policy,
    }
}

/// The digest that an upstream says a manifest has: a hint, until the bytes are hashed.
pub(in crate::cache) fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}
