//! Manifests by digest: memory, then disk, then the upstream.
//!
//! Content with a digest never changes, so it is fetched once. A manifest is served in a repository
//! only when it is held for that very repository; the same bytes warm from another one are not
//! fetched again, but the upstream is asked whether this one has them too.

use std::sync::Arc;

use bytes::Bytes;

use crate::access::Grant;
use crate::cache::disk::{records_of, warn_of};
use crate::cache::document::DocumentThreads;
use crate::cache::epoch::{Epoch, EpochTable};
use crate::cache::flight::{FlightTable, Sharing, ask_shared};
use crate::cache::key::RecordKey;
use crate::cache::manifest::content::settle_type;
use crate::cache::manifest::fetch::{
    FetchedManifest, ManifestHead, get_manifest, head_manifest, manifest_question,
};
use crate::cache::memory::{MemoryTable, MemoryUse};
use crate::cache::presence::PresenceTable;
use crate::cache::question::deadline;
use crate::cache::tasks::DetachedTasks;
use crate::cache::{
    CacheError, CachedManifest, Decision, ManifestContent, ManifestFault, MissReason, Pulled,
};
use crate::oci::{
    Algorithm, Digest, InvalidManifest, MANIFEST_BYTES_MAX, ManifestFacts, MediaType, Reference,
};
use crate::store::{RepositoryRecords, Store, VerifiedContent};
use crate::upstream::{ReadMethod, UpstreamIndex};

/// Pulls manifests by digest.
#[derive(Debug)]
pub(in crate::cache) struct ManifestPulls {
    store: Arc<Store>,
    epochs: Arc<EpochTable>,
    presence: Arc<PresenceTable>,
    documents: DocumentThreads,
    memory: MemoryTable<Arc<CachedManifest>>,
    flights: FlightTable<(RecordKey, Epoch), Arc<CachedManifest>>,
}

impl ManifestPulls {
    /// Keeps manifests in about `bytes_max` bytes of memory.
    pub(in crate::cache) fn new(
        store: Arc<Store>,
        epochs: Arc<EpochTable>,
        presence: Arc<PresenceTable>,
        documents: DocumentThreads,
        tasks: DetachedTasks,
        bytes_max: u64,
    ) -> Self {
        let bytes_of = |manifest: &Arc<CachedManifest>| manifest.body().len() + HEADERS_BYTES;
        let memory = MemoryTable::new("manifests", bytes_max, bytes_of);
        Self { store, epochs, presence, documents, memory, flights: FlightTable::new(tasks) }
    }

    /// The manifest, from the cache or from the upstream.
    pub(in crate::cache) async fn pull(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        if let Some(what) = self.find_held(grant, digest).await {
            return Ok(Pulled { what, decision: Decision::Hit, age: None });
        }
        let ask = |sharing: Sharing| {
            let key = RecordKey::digest(grant, digest);
            let epoch = self.epochs.of(|| key.clone());
            self.flights.join((sharing.key(key, grant), epoch), || {
                Arc::clone(self).fetch(grant.clone(), digest.clone())
            })
        };
        let reason = MissReason::of(self.store.was_evicted(digest));
        // Boxed, so that hits need no room for it.
        let (collapsed, answer) = Box::pin(ask_shared(grant, ask)).await;
        let decision = Decision::Miss { collapsed, unverified: false, reason };
        Ok(Pulled { what: answer?, decision, age: None })
    }

    /// The manifest, if the registry itself says, or has said within `membership_ttl`, that the
    /// repository has it.
    pub(in crate::cache) async fn pull_confirmed(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        // A GET of what is not held says as much as a HEAD would, and the client wants it next.
        let pulled = self.pull(grant, digest).await?;
        if self.presence.is_confirmed(grant, digest) {
            return Ok(pulled);
        }
        let since = self.epochs.now();
        let reference = Reference::Digest(digest.clone());
        let head = manifest_question(grant, &reference, ReadMethod::Head, None);
        // A mirror's word is not the registry's.
        match grant.registry().upstream().authoritative().ask(&head, deadline()).await {
            Ok(answer) if answer.is_of_manifest(&reference) => {
                self.presence.confirm_manifest(grant, digest, since).await;
            }
            // Any page may be a 200; the bytes are a proof.
            Ok(_) => {
                let got = get_manifest(grant, &reference, None, Vec::new()).await?;
                let what = self.accept(grant, got, Some(digest), since).await?;
                return Ok(Pulled { what, decision: Decision::Revalidated, age: None });
            }
            Err(error) if error.is_without_head() => {}
            Err(error) => return Err(error.into()),
        }
        let decision = match pulled.decision {
            Decision::Hit => Decision::Revalidated,
            decision => decision,
        };
        Ok(Pulled { decision, ..pulled })
    }

    /// The manifest that the upstream has just named for the repository by its digest, in `head`,
    /// an answer to a question of `since`. Bytes that another repository brought are not asked for
    /// again.
    pub(in crate::cache) async fn pull_named(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        head: ManifestHead,
        since: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        if let Some(held) = self.find_held(grant, digest).await {
            return Ok(held);
        }
        match self.store.content().small(digest, BYTES_MAX).await.ok().flatten() {
            Some(warm) => self.adopt(grant, head, warm, since).await,
            None => Ok(self.pull(grant, digest).await?.what),
        }
    }

    /// Holds bytes that another repository brought. The answer `head`, to a question of `since`,
    /// shows that this one has them too.
    async fn adopt(
        self: &Arc<Self>,
        grant: &Grant,
        head: ManifestHead,
        warm: VerifiedContent<Bytes>,
        since: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let digest = warm.digest().clone();
        let names_it = head.stated.as_ref() == Some(&digest);
        let kept = self.keep(grant, head.place, head.media_type, warm, since).await;
        if !names_it {
            return kept;
        }
        self.confirmed(grant, &digest, head.place, since, kept).await
    }

    /// Fetches the manifest of a tag where `HEAD` does not state its digest: one GET, hashed here.
    /// If the answer states a digest, it must be the right one.
    pub(in crate::cache) async fn fetch_by_tag(
        self: &Arc<Self>,
        grant: &Grant,
        reference: &Reference,
        accept: Option<&str>,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let since = self.epochs.now();
        let got = get_manifest(grant, reference, accept, Vec::new()).await?;
        self.accept(grant, got, None, since).await
    }

    /// Holds a manifest for the repository, in memory and on disk, unless the repository has lost
    /// it after `since`. A disk that does not take it is no error.
    ///
    /// # Errors
    ///
    /// [`CacheError::Manifest`] when it is none that could be served.
    pub(in crate::cache) async fn keep(
        self: &Arc<Self>,
        grant: &Grant,
        place: UpstreamIndex,
        header: Option<MediaType>,
        verified: VerifiedContent<Bytes>,
        since: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let fault = |reason: ManifestFault| manifest_fault(grant, place, reason);
        let facts = self.facts(&verified).await?.map_err(|error| fault(error.into()))?;
        let media_type = settle_type(header, &facts).map_err(fault)?;
        let content = ManifestContent::Verified(verified.clone());
        let manifest = Arc::new(CachedManifest::new(media_type, content));

        let (this, of, kept) = (Arc::clone(self), grant.clone(), Arc::clone(&manifest));
        let write = move |records: &RepositoryRecords| {
            let key = RecordKey::digest(&of, verified.digest());
            this.epochs.if_current(&key, since, || {
                this.memory.put(key.clone(), Arc::clone(&kept));
                let written = records.put_manifest(&kept.media_type, &verified);
                warn_of(records, written, "cannot store a manifest");
                this.presence.note_named(records, &of, &facts);
            });
            Ok(())
        };
        records_of(&self.store, grant).behind(write).await;
        Ok(manifest)
    }

    async fn facts(
        &self,
        manifest: &VerifiedContent<Bytes>,
    ) -> Result<Result<ManifestFacts, InvalidManifest>, CacheError> {
        let body = manifest.content().clone();
        self.documents.read(body.len(), move || ManifestFacts::read(&body)).await
    }

    /// Forgets that the repository has the manifest. Blocks.
    pub(in crate::cache) fn forget(
        &self,
        records: &RepositoryRecords,
        grant: &Grant,
        digest: &Digest,
    ) {
        warn_of(records, records.drop_manifest(digest), "cannot remove a manifest");
        self.memory.remove(&RecordKey::digest(grant, digest));
    }

    /// Has every look-up read from the store again.
    pub(in crate::cache) fn clear_memory(&self) {
        self.memory.clear();
    }

    /// How much memory it takes.
    pub(in crate::cache) fn usage(&self) -> MemoryUse {
        self.memory.usage()
    }

    /// The manifest if it is held for the repository.
    async fn find_held(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Option<Arc<CachedManifest>> {
        if let Some(manifest) = self.memory.get(&RecordKey::digest(grant, digest)) {
            return Some(manifest);
        }
        let (this, of, digest) = (Arc::clone(self), grant.clone(), digest.clone());
        let load = move |records: &RepositoryRecords| Ok(this.load(records, &of, &digest));
        records_of(&self.store, grant).blocking(load).await.ok().flatten()
    }

    /// Blocks.
    fn load(
        &self,
        records: &RepositoryRecords,
        grant: &Grant,
        digest: &Digest,
    ) -> Option<Arc<CachedManifest>> {
        let since = self.epochs.now();
        let kept = records.manifest(digest, BYTES_MAX).ok()??;
        // Earlier versions kept any type, and this one fetches such a manifest again.
        let (media_type, content) = Some(kept).filter(|(kind, _)| kind.is_manifest())?;
        let content = ManifestContent::Verified(content);
        let manifest = Arc::new(CachedManifest::new(media_type, content));
        let key = RecordKey::digest(grant, digest);
        self.epochs.if_current(&key, since, || {
            self.memory.put(key.clone(), Arc::clone(&manifest));
        });
        Some(manifest)
    }

    async fn fetch(
        self: Arc<Self>,
        grant: Grant,
        digest: Digest,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        // Another flight may have landed between the look-up and the start of this one.
        if let Some(manifest) = self.find_held(&grant, &digest).await {
            return Ok(manifest);
        }
        let since = self.epochs.now();
        let reference = Reference::Digest(digest.clone());
        // The bytes, if another repository brought them.
        let warm = self.store.content().small(&digest, BYTES_MAX).await.ok().flatten();
        // Named by an index that is held for the repository: that is enough to read it.
        if let Some(warm) = &warm
            && self.presence.find(&grant, &digest).await.is_some()
            && self.facts(warm).await?.is_ok_and(|facts| settle_type(None, &facts).is_ok())
        {
            let (place, warm) = (UpstreamIndex::Authoritative, warm.clone());
            return self.keep(&grant, place, None, warm, since).await;
        }
        CacheError::if_offline(&grant)?;
        if let Some(warm) = warm {
            match head_manifest(&grant, &reference, None, &self.epochs).await {
                Ok(head) if head.is_of(&reference) => {
                    return self.adopt(&grant, head, warm, since).await;
                }
                Ok(_) => {}
                Err(error) if error.is_without_head() => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.fetch_bytes(&grant, &digest, since).await
    }

    /// Asks one upstream after the other for the bytes, until one gives those of the digest.
    async fn fetch_bytes(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        since: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let reference = Reference::Digest(digest.clone());
        let mut failed = Vec::new();
        loop {
            let got = get_manifest(grant, &reference, None, failed.clone()).await?;
            let place = got.place;
            match self.accept(grant, got, Some(digest), since).await {
                // A wrong mirror is no reason to fail a pull.
                Err(error) if place != UpstreamIndex::Authoritative && !failed.contains(&place) => {
                    tracing::warn!(%digest, %error, "bad manifest; asking the next upstream");
                    failed.push(place);
                }
                accepted => {
                    return self.confirmed(grant, digest, place, since, accepted).await;
                }
            }
        }
    }

    /// The manifest that an answer to a question of `since` brought. If that was the registry's own
    /// answer, pushing clients are told for a while that the repository has it.
    async fn confirmed(
        &self,
        grant: &Grant,
        digest: &Digest,
        place: UpstreamIndex,
        since: Epoch,
        brought: Result<Arc<CachedManifest>, CacheError>,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let is_own = place == UpstreamIndex::Authoritative;
        if brought.is_ok() && is_own && grant.registry().takes_pushes() {
            self.presence.confirm_manifest(grant, digest, since).await;
        }
        brought
    }

    /// The answer of an upstream, if it is a manifest that can be served. Its digest is the one
    /// that was asked for, or the one that the upstream stated, or the hash of the bytes.
    async fn accept(
        self: &Arc<Self>,
        grant: &Grant,
        got: FetchedManifest,
        digest: Option<&Digest>,
        since: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let FetchedManifest { media_type, stated, body, place, warnings } = got;
        let fault = |reason| manifest_fault(grant, place, reason);
        let body = body.ok_or_else(|| fault(ManifestFault::TooLong { max: MANIFEST_BYTES_MAX }))?;
        let (wanted, length) = (digest.cloned().or(stated), body.len());
        if let Some(media_type) = media_type.as_ref().filter(|kind| kind.is_schema1()) {
            // Such a digest cannot be checked, so only the registry itself is believed.
            if let Some(digest) = digest.filter(|_| place != UpstreamIndex::Authoritative) {
                let reason = "they are of schema 1, which cannot be checked";
                return Err(corrupt(grant, place, digest, &reason));
            }
            let content = ManifestContent::Schema1(body, wanted);
            let manifest = Arc::new(CachedManifest::new(media_type.clone(), content));
            return Ok(manifest.with_warnings(&warnings));
        }
        let verify = move || match wanted {
            Some(digest) => VerifiedContent::check(&digest, body).map_err(|it| (digest, it)),
            None => Ok(VerifiedContent::hash(Algorithm::Sha256, body)),
        };
        let verified = self.documents.read(length, verify).await?;
        let verified =
            verified.map_err(|(digest, mismatch)| corrupt(grant, place, &digest, &mismatch))?;
        let kept = self.keep(grant, place, media_type, verified, since).await?;
        Ok(kept.with_warnings(&warnings))
    }
}

fn corrupt(
    grant: &Grant,
    place: UpstreamIndex,
    digest: &Digest,
    reason: &impl ToString,
) -> CacheError {
    let host = grant.registry().upstream().host_of(place).to_owned();
    CacheError::Corrupt { host, digest: digest.clone(), reason: reason.to_string() }
}

fn manifest_fault(grant: &Grant, place: UpstreamIndex, reason: ManifestFault) -> CacheError {
    CacheError::Manifest { host: grant.registry().upstream().host_of(place).to_owned(), reason }
}

/// The headers of a manifest in memory, about.
const HEADERS_BYTES: usize = 512;

const BYTES_MAX: u64 = MANIFEST_BYTES_MAX as u64;
