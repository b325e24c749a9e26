//! Manifests by tag: fresh for a while, then revalidated, and served stale in an outage.
//!
//! A tag is a record, tag → digest, with the time of its last validation. For how long it is fresh,
//! and which clients wait for a revalidation, is decided in `revalidate`. The upstream is asked one
//! `HEAD`. Its 404, 401 and 403 about this repository are answers, and remove the record. A 404 is
//! kept as a negative record, which is fresh, revalidated and served stale like any other: podman
//! asks for `sha256-….sig` with each pull, and must get the same answer in an outage. Any other
//! failure is an outage, which the record survives.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Grant;
use crate::cache::disk::warn_of;
use crate::cache::epoch::Epoch;
use crate::cache::flight::{FlightTable, Sharing};
use crate::cache::key::RecordKey;
use crate::cache::manifest::by_digest::ManifestPulls;
use crate::cache::manifest::fetch::head_manifest;
use crate::cache::memory::{MemoryTable, MemoryUse};
use crate::cache::mutable::revalidate::{LastValidated, Purpose, RecordValidation, Resolution};
use crate::cache::tasks::DetachedTasks;
use crate::cache::{
    BypassReason, CacheError, CachedManifest, Decision, ManifestContent, Pulled, UpstreamWarnings,
};
use crate::oci::{AcceptSet, Algorithm, Digest, Reference, Tag};
use crate::registry::TagPolicy;
use crate::store::{RepositoryRecords, TagRecord};
use crate::upstream;

/// The answer of the upstream about a tag.
#[derive(Clone, Debug)]
enum ResolvedTag {
    /// A manifest that is cached under this digest, and the warnings about it.
    Digest(Digest, UpstreamWarnings),
    /// A manifest that cannot be.
    Uncached(Arc<CachedManifest>),
}

/// How tags look to clients that cannot take the manifest that the full `Accept` list resolves to:
/// each set of types of manifests has records of its own.
#[derive(Clone, Debug)]
struct AcceptView {
    /// A file name: part of the hash of the set.
    name: String,
    accept: String,
}

/// A tag's record in memory.
#[derive(Clone, Debug)]
struct CachedTag {
    /// The manifest that it names; `None` when there was no such tag.
    digest: Option<Digest>,
    validated: LastValidated,
    /// Those that the upstream gave then.
    warnings: UpstreamWarnings,
}

/// A digest that a push has given a tag.
#[derive(Clone, Debug)]
pub(in crate::cache) struct PushedDigest {
    pub(in crate::cache) digest: Digest,
    /// The epoch in which the upstream was asked to take the push.
    pub(in crate::cache) since: Epoch,
}

/// Pulls manifests by tag.
#[derive(Debug)]
pub(in crate::cache) struct TagPulls {
    validation: Arc<RecordValidation>,
    manifests: Arc<ManifestPulls>,
    memory: MemoryTable<Arc<CachedTag>>,
    flights: FlightTable<(RecordKey, Epoch), ResolvedTag>,
}

impl TagPulls {
    /// Keeps records in about `bytes_max` bytes of memory.
    pub(in crate::cache) fn new(
        validation: Arc<RecordValidation>,
        manifests: Arc<ManifestPulls>,
        tasks: DetachedTasks,
        bytes_max: u64,
    ) -> Self {
        let memory = MemoryTable::new("tags", bytes_max, |_| 0);
        Self { validation, manifests, memory, flights: FlightTable::new(tasks) }
    }

    /// The manifest that the tag names, of a type that the client takes, where there is one.
    pub(in crate::cache) async fn pull(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        accept: &AcceptSet<'_>,
        purpose: Purpose,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let pulled = self.pull_view(grant, tag, None, purpose).await?;
        if accept.takes(&pulled.what.media_type) {
            return Ok(pulled);
        }
        self.pull_view(grant, tag, Some(AcceptView::of(accept)), purpose).await
    }

    /// Forgets the records of a tag. A digest that was pushed takes their place; but if another
    /// push or delete of the tag came in between, the order of the answers does not tell which of
    /// them the upstream took last.
    pub(in crate::cache) async fn overtake(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        pushed: Option<PushedDigest>,
    ) {
        let record_key = RecordKey::tag(grant, tag);
        let (this, of, tag) = (Arc::clone(self), grant.clone(), tag.clone());
        let overtake = move |records: &RepositoryRecords| {
            let RecordValidation { epochs, clock, .. } = &*this.validation;
            let key = RecordKey::tag(&of, &tag);
            epochs.exclusively(&key, || {
                let named = pushed.filter(|pushed| {
                    epochs.is_current(|| key.clone(), pushed.since)
                        || this.names(&key, &pushed.digest)
                });
                let now = clock.now();
                let validated = LastValidated::now(now, epochs.invalidate(&key, now));
                warn_of(records, records.drop_views(&tag), "cannot remove a tag's other records");
                match named {
                    Some(PushedDigest { digest, .. }) => {
                        let warnings = UpstreamWarnings::default();
                        let record = CachedTag { digest: Some(digest), validated, warnings };
                        this.put(records, key.clone(), &tag, None, record);
                    }
                    None => this.remove(records, &key, &tag, None),
                }
            });
            Ok(())
        };
        self.validation.overtake(grant, &record_key, overtake).await;
    }

    /// Has every look-up read from the store again.
    pub(in crate::cache) fn clear_memory(&self) {
        self.memory.clear();
    }

    /// How much memory it takes.
    pub(in crate::cache) fn usage(&self) -> MemoryUse {
        self.memory.usage()
    }

    async fn pull_view(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<AcceptView>,
        purpose: Purpose,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let known = self.find(grant, tag, view.as_ref()).await;
        let ask = |sharing: Sharing| {
            let epoch = self.validation.epochs.of(|| RecordKey::tag(grant, tag));
            let view_name = view.as_ref().map(|view| view.name.as_str());
            let key = sharing.key(RecordKey::tag_in_view(grant, tag, view_name), grant);
            let digest = known.as_ref().and_then(|known| known.digest.clone());
            let (this, grant) = (Arc::clone(self), grant.clone());
            self.flights.join((key, epoch), || {
                this.revalidate(grant, tag.clone(), view.clone(), digest, epoch)
            })
        };
        let validated = known.as_ref().map(|known| &known.validated);
        let policy = policy(grant, tag, known.as_deref());
        // An absence is no content: a client that waits for the tag would wait in vain.
        let is_held = known.as_ref().is_some_and(|known| known.digest.is_some());
        match self.validation.resolve(grant, validated, policy, purpose, is_held, ask).await? {
            Resolution::Validated(ResolvedTag::Digest(digest, warnings), decision) => {
                let pulled = self.pull_named(grant, &digest, decision, Duration::ZERO).await?;
                Ok(Pulled { what: pulled.what.with_warnings(&warnings), ..pulled })
            }
            Resolution::Validated(ResolvedTag::Uncached(what), _) => {
                let decision = Decision::Bypass(BypassReason::NotCacheable);
                Ok(Pulled { what, decision, age: None })
            }
            Resolution::Cached { decision, age } => {
                let absent = || CacheError::absent(grant, None, decision, age);
                let known = known.ok_or_else(absent)?;
                let digest = known.digest.as_ref().ok_or_else(absent)?;
                let pulled = self.pull_named(grant, digest, decision, age).await?;
                Ok(Pulled { what: pulled.what.with_warnings(&known.warnings), ..pulled })
            }
        }
    }

    /// The manifest that a record names. It is normally held; if it was lost, that is a miss.
    async fn pull_named(
        &self,
        grant: &Grant,
        digest: &Digest,
        decision: Decision,
        age: Duration,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let pulled = self.manifests.pull(grant, digest).await?;
        let decision = if pulled.decision == Decision::Hit { decision } else { pulled.decision };
        Ok(Pulled { what: pulled.what, decision, age: Some(age) })
    }

    /// The record in memory or on disk.
    async fn find(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &Tag,
        view: Option<&AcceptView>,
    ) -> Option<Arc<CachedTag>> {
        let name = view.map(|view| view.name.as_str());
        let key = RecordKey::tag_in_view(grant, tag, name);
        if let Some(cached) = self.memory.get(&key)
            && self
                .validation
                .epochs
                .is_current(|| RecordKey::tag(grant, tag), cached.validated.epoch)
        {
            return Some(cached);
        }
        let (this, tag_read, name) = (Arc::clone(self), tag.clone(), name.map(str::to_owned));
        let of = grant.clone();
        let read = move |records: &RepositoryRecords, epoch| {
            let Some(record) = records.tag(&tag_read, name.as_deref())? else { return Ok(None) };
            let validated = LastValidated::earlier(record.checked_at, epoch)
                .doubtful_if(record.is_doubtful, &of);
            let warnings = UpstreamWarnings::default();
            let cached = CachedTag { digest: record.digest, validated, warnings };
            Ok(Some((Arc::new(cached), validated)))
        };
        let keep = move |cached: &Arc<CachedTag>| this.memory.put(key, Arc::clone(cached));
        self.validation.load(grant, RecordKey::tag(grant, tag), read, keep).await
    }

    /// Asks the upstream which manifest the tag names now, and stores the answer.
    async fn revalidate(
        self: Arc<Self>,
        grant: Grant,
        tag: Tag,
        view: Option<AcceptView>,
        known: Option<Digest>,
        epoch: Epoch,
    ) -> Result<ResolvedTag, CacheError> {
        let resolved = self.resolve(&grant, &tag, view.as_ref(), known).await;
        // The record to store: a digest, an absence, or none.
        let named = match &resolved {
            Ok(ResolvedTag::Digest(digest, _)) => Some(Some(digest.clone())),
            Err(error) if error.refuses(&grant) => return resolved,
            // Another client may be shown a tag that this client's credential does not show.
            Err(CacheError::Upstream(upstream::UpstreamError::NotFound {
                is_proven: true,
                ..
            })) if !grant.uses_client_credential() => Some(None),
            Err(error) if error.is_an_answer() => None,
            Ok(ResolvedTag::Uncached(_)) | Err(_) => return resolved,
        };
        let warnings = resolved.as_ref().map(ResolvedTag::warnings).unwrap_or_default();
        let name = view.map(|view| view.name);
        let this = Arc::clone(&self);
        let (epoch_key, key) =
            (RecordKey::tag(&grant, &tag), RecordKey::tag_in_view(&grant, &tag, name.as_deref()));
        let write = move |records: &RepositoryRecords| match named {
            Some(digest) => {
                let validated = LastValidated::now(this.validation.clock.now(), epoch);
                let record = CachedTag { digest, validated, warnings };
                this.put(records, key, &tag, name.as_deref(), record);
            }
            None => this.retire(records, &key, &tag, name.as_deref()),
        };
        self.validation.store_if_current(&grant, epoch_key, epoch, write).await;
        resolved
    }

    async fn resolve(
        &self,
        grant: &Grant,
        tag: &Tag,
        view: Option<&AcceptView>,
        known: Option<Digest>,
    ) -> Result<ResolvedTag, CacheError> {
        let reference = Reference::Tag(tag.clone());
        let accept = view.map(|view| view.accept.as_str());
        let epochs = &self.validation.epochs;
        let since = epochs.now();
        let head = match head_manifest(grant, &reference, accept, epochs).await {
            Ok(head) => Some(head),
            Err(error) if error.is_without_head() => None,
            Err(error) => return Err(error.into()),
        };
        let warnings = head.as_ref().map(|head| head.warnings.clone()).unwrap_or_default();
        if let Some(head) = head
            && let Some(digest) = head.stated.clone()
        {
            if known.as_ref() == Some(&digest) {
                return Ok(ResolvedTag::Digest(digest, warnings));
            }
            match self.manifests.pull_named(grant, &digest, head, since).await {
                Ok(manifest) => {
                    return Ok(ResolvedTag::Digest(digest, warnings.or(&manifest.warnings)));
                }
                // Moved in between, or a registry that knows its manifests by tag only.
                Err(CacheError::Upstream(upstream::UpstreamError::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let manifest = self.manifests.fetch_by_tag(grant, &reference, accept).await?;
        Ok(match &manifest.content {
            ManifestContent::Verified(verified) => {
                ResolvedTag::Digest(verified.digest().clone(), warnings.or(&manifest.warnings))
            }
            ManifestContent::Schema1(..) => ResolvedTag::Uncached(manifest),
        })
    }

    /// Whether the tag names this digest, as far as is known in memory: then the order of two
    /// pushes does not matter.
    fn names(&self, key: &RecordKey, digest: &Digest) -> bool {
        self.memory.get(key).is_some_and(|cached| cached.digest.as_ref() == Some(digest))
    }

    /// Blocks.
    fn put(
        &self,
        records: &RepositoryRecords,
        key: RecordKey,
        tag: &Tag,
        view: Option<&str>,
        cached: CachedTag,
    ) {
        let (digest, checked_at) = (cached.digest.clone(), cached.validated.at);
        let record = TagRecord { digest, checked_at, is_doubtful: false };
        self.memory.put(key, Arc::new(cached));
        warn_of(records, records.put_tag(tag, view, &record), "cannot store a tag record");
    }

    /// Removes the record of a tag that the upstream no longer has or shows. Blocks.
    fn retire(&self, records: &RepositoryRecords, key: &RecordKey, tag: &Tag, view: Option<&str>) {
        warn_of(records, records.retire_tag(tag, view), "cannot remove a tag record");
        self.memory.remove(key);
    }

    /// Blocks.
    fn remove(&self, records: &RepositoryRecords, key: &RecordKey, tag: &Tag, view: Option<&str>) {
        warn_of(records, records.drop_tag(tag, view), "cannot remove a tag record");
        self.memory.remove(key);
    }
}

impl ResolvedTag {
    fn warnings(&self) -> UpstreamWarnings {
        match self {
            Self::Digest(_, warnings) => warnings.clone(),
            Self::Uncached(manifest) => manifest.warnings.clone(),
        }
    }
}

impl AcceptView {
    /// The view of a client.
    fn of(accept: &AcceptSet<'_>) -> Self {
        let accept = accept.to_header();
        let name = Digest::of(Algorithm::Sha256, accept.as_bytes()).hex()[..16].to_owned();
        Self { name, accept }
    }
}

/// How long a record is fresh.
fn policy(grant: &Grant, tag: &Tag, known: Option<&CachedTag>) -> TagPolicy {
    match known {
        Some(CachedTag { digest: None, .. }) => grant.registry().absent_tag_policy(tag),
        _ => grant.registry().tag_policy(tag),
    }
}
