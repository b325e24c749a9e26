//! Changes that pushes and deletes make here, once the upstream has accepted them.
//!
//! Each is made before its client is told, so that a request from then on sees what was pushed, and
//! no answer to a question from before. Nothing here asks the upstream.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use crate::access::Grant;
use crate::cache::CacheError;
use crate::cache::disk::records_of;
use crate::cache::document::DocumentThreads;
use crate::cache::epoch::Epoch;
use crate::cache::key::RecordKey;
use crate::cache::manifest::by_digest::ManifestPulls;
use crate::cache::mutable::lists::ListPulls;
use crate::cache::mutable::revalidate::RecordValidation;
use crate::cache::mutable::tags::{PushedDigest, TagPulls};
use crate::cache::presence::PresenceTable;
use crate::oci::{Digest, ManifestFacts, MediaType, Tag};
use crate::store::{RepositoryRecords, VerifiedContent};
use crate::upstream::UpstreamIndex;

/// Makes the changes of pushes and deletes that the upstream has accepted.
#[derive(Debug)]
pub struct AcceptedChanges {
    pub(in crate::cache) validation: Arc<RecordValidation>,
    pub(in crate::cache) presence: Arc<PresenceTable>,
    pub(in crate::cache) manifests: Arc<ManifestPulls>,
    pub(in crate::cache) tags: Arc<TagPulls>,
    pub(in crate::cache) lists: Arc<ListPulls>,
}

impl AcceptedChanges {
    /// The threads that read large documents.
    pub fn documents(&self) -> &DocumentThreads {
        &self.validation.documents
    }

    /// The present epoch, to be taken before the registry is asked for a change.
    pub fn epoch(&self) -> Epoch {
        self.validation.epochs.now()
    }

    /// The registry has taken a blob. If something was removed since it was asked, that may have
    /// been this blob: nothing is known then.
    pub async fn blob_pushed(&self, grant: &Grant, digest: &Digest, since: Epoch) {
        self.presence.confirm(grant, digest, None, since).await;
    }

    /// The registry has taken this manifest, under these tags or none: it is held from now on, and
    /// the tags name it. A tag that another push or delete changed after `since` is forgotten, for
    /// the order of the answers does not tell which the registry took last. The repository's lists
    /// are to be asked for anew.
    ///
    /// # Errors
    ///
    /// [`CacheError::Manifest`] when it is none that could be served. The tags are forgotten then,
    /// as by [`AcceptedChanges::tags_changed`], and the push itself stands.
    pub async fn manifest_pushed(
        &self,
        grant: &Grant,
        media_type: Option<MediaType>,
        manifest: VerifiedContent<Bytes>,
        tags: &[Tag],
        since: Epoch,
    ) -> Result<(), CacheError> {
        let digest = manifest.digest().clone();
        let place = UpstreamIndex::Authoritative;
        // Before the tags: a tag that names what is not held would be asked for.
        let kept = self.manifests.keep(grant, place, media_type, manifest, since).await;
        for tag in tags {
            let pushed = kept.is_ok().then(|| PushedDigest { digest: digest.clone(), since });
            self.tags.overtake(grant, tag, pushed).await;
        }
        self.lists.overtake(grant).await;
        kept?;
        self.presence.confirm_manifest(grant, &digest, since).await;
        Ok(())
    }

    /// The registry has removed these tags, or taken a manifest for them that is not held here:
    /// they and the lists are to be asked for anew.
    pub async fn tags_changed(&self, grant: &Grant, tags: &[Tag]) {
        for tag in tags {
            self.tags.overtake(grant, tag, None).await;
        }
        self.lists.overtake(grant).await;
    }

    /// The registry has refused a manifest, most likely for a blob that it names: none of them is
    /// known to be there any more.
    pub async fn manifest_refused(&self, grant: &Grant, body: Bytes) {
        let facts = self.documents().read(body.len(), move || ManifestFacts::read(&body)).await;
        let Ok(Ok(facts)) = facts else { return };
        let named = facts.descriptors.into_iter().map(|descriptor| descriptor.digest).collect();
        self.presence.deny(grant, named).await;
    }

    /// The registry has removed a blob.
    pub async fn blob_deleted(&self, grant: &Grant, digest: &Digest) {
        self.presence.deny(grant, vec![digest.clone()]).await;
    }

    /// The registry has removed a manifest, and with it the tags that named it.
    pub async fn manifest_deleted(&self, grant: &Grant, digest: &Digest) {
        let (validation, manifests) = (Arc::clone(&self.validation), Arc::clone(&self.manifests));
        let (presence, of, digest) = (Arc::clone(&self.presence), grant.clone(), digest.clone());
        let forget = move |records: &RepositoryRecords| {
            let tags = records.tags_naming(&digest);
            let key = RecordKey::digest(&of, &digest);
            validation.epochs.exclusively(&key, || {
                validation.epochs.invalidate(&key, validation.clock.now());
                manifests.forget(records, &of, &digest);
            });
            presence.forget(records, &of, slice::from_ref(&digest));
            // The blobs that it named may be named by no other manifest.
            presence.reload(&of);
            Ok(tags.unwrap_or_else(|error| {
                let (registry, repository) = (records.registry(), records.repository());
                tracing::warn!(%registry, %repository, %digest, %error, "cannot find a manifest's tags");
                Vec::new()
            }))
        };
        let named = records_of(&self.validation.store, grant).blocking(forget).await;
        self.tags_changed(grant, &named.unwrap_or_default()).await;
    }
}
