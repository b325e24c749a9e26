//! Manifests by digest: memory, then disk, then the upstream.
//!
//! Content with a digest never changes, so it is fetched once. A manifest is served in a repository
//! only when it is held for that very repository; the same bytes warm from another one are not
//! fetched again, but the upstream is asked whether this one has them too.

use std::sync::Arc;

use bytes::Bytes;

use crate::access::Grant;
use crate::cache::epoch::Epoch;
use crate::cache::error::warn_of;
use crate::cache::flight::{Sharing, told};
use crate::cache::key::RecordKey;
use crate::cache::manifest::content::settle_type;
use crate::cache::manifest::fetch::{FetchedManifest, header_type, question};
use crate::cache::question::deadline;
use crate::cache::{
    CacheError, CachedManifest, Decision, MANIFEST_BYTES_MAX, ManifestContent, ManifestFault,
    Pulled, Shared,
};
use crate::oci::{Algorithm, Digest, ManifestFacts, MediaType, Reference};
use crate::store::VerifiedContent;
use crate::upstream::{ReadMethod, UpstreamIndex};

impl Shared {
    pub(in crate::cache) async fn manifest_by_digest(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        if let Some(what) = self.held_manifest(grant, digest).await {
            return Ok(Pulled { what, decision: Decision::Hit, age: None });
        }
        let ask = |company: Sharing| {
            let key = RecordKey::digest(grant, digest);
            let epoch = self.epochs.of(|| key.clone());
            self.manifests_asked.join((company.key(key, grant), epoch), || {
                Arc::clone(self).fetch_manifest(grant.clone(), digest.clone())
            })
        };
        let (collapsed, answer) = told(grant, ask).await;
        let what = answer?;
        Ok(Pulled { what, decision: Decision::Miss { collapsed, unverified: false }, age: None })
    }

    /// The manifest, if the registry itself says, or has said lately, that the repository has it.
    pub(in crate::cache) async fn claimed_manifest(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        if self.presence.is_confirmed(grant, digest)
            && let Some(what) = self.held_manifest(grant, digest).await
        {
            return Ok(Pulled { what, decision: Decision::Hit, age: None });
        }
        let since = self.epochs.now();
        let reference = Reference::Digest(digest.clone());
        let head = question(grant, &reference, ReadMethod::Head, None);
        // A mirror's word is not the registry's.
        match grant.registry().upstream().authoritative().ask(&head, deadline()).await {
            Ok(_) => self.presence.confirm_manifest(grant, digest, since).await,
            Err(error) if error.is_without_head() => {}
            Err(error) => return Err(error.into()),
        }
        let pulled = self.manifest_by_digest(grant, digest).await?;
        let decision = match pulled.decision {
            Decision::Hit => Decision::Revalidated,
            decision => decision,
        };
        Ok(Pulled { decision, ..pulled })
    }

    /// The manifest if it is held for the repository.
    async fn held_manifest(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Option<Arc<CachedManifest>> {
        if let Some(manifest) = self.hot.manifests.get(&RecordKey::digest(grant, digest)) {
            return Some(manifest);
        }
        let (shared, grant, digest) = (Arc::clone(self), grant.clone(), digest.clone());
        let read = move || shared.read_manifest(&grant, &digest);
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Blocks.
    fn read_manifest(&self, grant: &Grant, digest: &Digest) -> Option<Arc<CachedManifest>> {
        let asked = self.epochs.now();
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let media_type = self.store.manifest_type(registry, repository, digest).ok()??;
        let content = ManifestContent::Verified(self.store.small(digest, MAX).ok()??);
        let manifest = Arc::new(CachedManifest { media_type, content });
        let subject = RecordKey::digest(grant, digest);
        self.epochs.if_current(&subject, asked, || {
            self.hot.manifests.put(subject.clone(), Arc::clone(&manifest));
        });
        Some(manifest)
    }

    async fn fetch_manifest(
        self: Arc<Self>,
        grant: Grant,
        digest: Digest,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        // Another flight may have landed between the look-up and the start of this one.
        if let Some(manifest) = self.held_manifest(&grant, &digest).await {
            return Ok(manifest);
        }
        let asked = self.epochs.now();
        let reference = Reference::Digest(digest.clone());
        let warm = self.warm_elsewhere(&digest).await;
        // Named by an index that is held for the repository: that is enough to read it.
        if let Some(warm) = warm.clone().filter(says_its_type)
            && self.presence.find(&grant, &digest).await.is_some()
        {
            return self.keep(grant, None, warm, asked).await;
        }
        CacheError::if_offline(&grant)?;
        if let Some(warm) = warm {
            match self.ask_manifest(&grant, &reference, ReadMethod::Head, None).await {
                Ok(answer) => return self.keep(grant, header_type(&answer), warm, asked).await,
                Err(error) if error.is_without_head() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut failed = Vec::new();
        loop {
            let got = self.get_manifest(&grant, &reference, None, failed.clone()).await?;
            let place = got.place;
            match self.accept(&grant, got, Some(&digest), asked).await {
                // That a mirror is wrong is no reason to fail a pull.
                Err(error) if place != UpstreamIndex::Authoritative && !failed.contains(&place) => {
                    tracing::warn!(%digest, %error, "asking the next upstream for a manifest");
                    failed.push(place);
                }
                accepted => return accepted,
            }
        }
    }

    /// The answer of an upstream, if it is a manifest that can be served. Its digest is the one that
    /// was asked for, or the one that was told, or ours.
    async fn accept(
        self: &Arc<Self>,
        grant: &Grant,
        got: FetchedManifest,
        digest: Option<&Digest>,
        asked: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let FetchedManifest { media_type, told, body, place } = got;
        let fault = |reason| manifest_fault(grant, place, reason);
        let body = body.ok_or_else(|| fault(ManifestFault::TooLong { max: MANIFEST_BYTES_MAX }))?;
        let wanted = digest.cloned().or(told);
        if let Some(media_type) = media_type.as_ref().filter(|kind| kind.is_schema1()) {
            // What has such a digest cannot be checked, so only the registry itself is believed.
            if let Some(digest) = digest.filter(|_| place != UpstreamIndex::Authoritative) {
                let reason = "they are of schema 1, which cannot be checked";
                return Err(corrupt(grant, place, digest, &reason));
            }
            return Ok(schema1(media_type.clone(), body, wanted));
        }
        let digest = wanted.unwrap_or_else(|| Digest::of(Algorithm::Sha256, &body));
        let verified = check(grant, place, &digest, body)?;
        self.keep_from(grant.clone(), place, (media_type, verified), asked).await
    }

    /// The bytes, if another repository brought them.
    async fn warm_elsewhere(self: &Arc<Self>, digest: &Digest) -> Option<VerifiedContent<Bytes>> {
        let (shared, digest) = (Arc::clone(self), digest.clone());
        let read = move || shared.store.small(&digest, MAX).ok().flatten();
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Holds a manifest for the repository, in memory and, if the disk takes it, there; unless it
    /// has been deleted since the question.
    pub(in crate::cache) async fn keep(
        self: &Arc<Self>,
        grant: Grant,
        header: Option<MediaType>,
        verified: VerifiedContent<Bytes>,
        asked: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        self.keep_from(grant, UpstreamIndex::Authoritative, (header, verified), asked).await
    }

    async fn keep_from(
        self: &Arc<Self>,
        grant: Grant,
        place: UpstreamIndex,
        (header, verified): (Option<MediaType>, VerifiedContent<Bytes>),
        asked: Epoch,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let fault = |reason: ManifestFault| manifest_fault(&grant, place, reason);
        let facts = ManifestFacts::read(verified.content()).map_err(|error| fault(error.into()))?;
        let media_type = settle_type(header, &facts).map_err(fault)?;
        let content = ManifestContent::Verified(verified.clone());
        let manifest = Arc::new(CachedManifest { media_type, content });

        let (shared, kept) = (Arc::clone(self), Arc::clone(&manifest));
        let write = move || {
            let subject = RecordKey::digest(&grant, verified.digest());
            shared.epochs.if_current(&subject, asked, || {
                shared.hot.manifests.put(subject.clone(), Arc::clone(&kept));
                shared.write_manifest(&grant, &kept.media_type, &verified, &facts);
            });
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(|_| CacheError::Internal("the manifest was not stored"))?;
        Ok(manifest)
    }

    /// Blocks.
    fn write_manifest(
        &self,
        grant: &Grant,
        media_type: &MediaType,
        verified: &VerifiedContent<Bytes>,
        facts: &ManifestFacts,
    ) {
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let digest = verified.digest();
        // The content before the record of it: a record without content would be asked for.
        let written = self
            .store
            .put_small(verified)
            .and_then(|()| self.store.put_manifest_type(registry, repository, digest, media_type));
        warn_of(written, "cannot store a manifest");
        self.presence.note_named(grant, facts);
    }

    /// A manifest by tag where `HEAD` does not tell its digest: one GET, hashed by us. A digest
    /// that the answer tells must be the right one.
    pub(in crate::cache) async fn get_manifest_by_tag(
        self: &Arc<Self>,
        grant: &Grant,
        reference: &Reference,
        accept: Option<&str>,
    ) -> Result<Arc<CachedManifest>, CacheError> {
        let asked = self.epochs.now();
        let got = self.get_manifest(grant, reference, accept, Vec::new()).await?;
        self.accept(grant, got, None, asked).await
    }
}

fn check(
    grant: &Grant,
    place: UpstreamIndex,
    digest: &Digest,
    body: Bytes,
) -> Result<VerifiedContent<Bytes>, CacheError> {
    let checked = VerifiedContent::check(digest, body);
    checked.map_err(|mismatch| corrupt(grant, place, digest, &mismatch))
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

fn says_its_type(manifest: &VerifiedContent<Bytes>) -> bool {
    ManifestFacts::read(manifest.content()).is_ok_and(|facts| settle_type(None, &facts).is_ok())
}

const MAX: u64 = MANIFEST_BYTES_MAX as u64;

fn manifest_fault(grant: &Grant, place: UpstreamIndex, reason: ManifestFault) -> CacheError {
    CacheError::Manifest { host: grant.registry().upstream().host_of(place).to_owned(), reason }
}

fn schema1(media_type: MediaType, body: Bytes, told: Option<Digest>) -> Arc<CachedManifest> {
    Arc::new(CachedManifest { media_type, content: ManifestContent::Schema1(body, told) })
}
