//! Content that may be reported to exist, where clients push.
//!
//! A client that is told that a repository has something does not upload it, and its manifest is
//! refused if that was wrong. To read, being named by a manifest is enough (`members.rs`); to claim
//! existence to who might push, the registry itself must have said so within `membership_ttl`. A
//! claim is never stale, and never a mirror's: when the registry cannot be asked, there is none.
//!
//! Claims are kept in memory alone. After a restart the registry is asked once more.

use std::sync::Arc;

use crate::access::Grant;
use crate::cache::epoch::Epoch;
use crate::cache::error::warn_of;
use crate::cache::key::RecordKey;
use crate::cache::{Cache, MutableRecord};
use crate::oci::{Digest, ManifestFacts, RepositoryName, Tag};
use crate::registry::Registry;

/// The changes of pushes.
impl Cache {
    /// The present epoch, to be taken before the registry is asked for a change.
    pub fn epoch(&self) -> Epoch {
        self.shared.epochs.now()
    }

    /// The registry has taken a blob. If something was removed since it was asked, that may have
    /// been this: nothing is known then.
    pub async fn blob_pushed(&self, grant: &Grant, digest: &Digest, asked: Epoch) {
        self.shared.presence.confirm(grant, digest, None, asked).await;
    }

    /// The registry has taken a manifest.
    pub async fn manifest_pushed(&self, grant: &Grant, digest: &Digest, asked: Epoch) {
        self.shared.presence.confirm_manifest(grant, digest, asked).await;
    }

    /// The registry has refused a manifest, most likely for what it lists: what is known to be
    /// there may not be.
    pub async fn manifest_refused(&self, grant: &Grant, body: &[u8]) {
        let Ok(facts) = ManifestFacts::read(body) else { return };
        let listed = facts.descriptors.into_iter().map(|descriptor| descriptor.digest).collect();
        self.denied(grant, listed).await;
    }

    /// The registry has removed a blob.
    pub async fn blob_deleted(&self, grant: &Grant, digest: &Digest) {
        self.denied(grant, vec![digest.clone()]).await;
    }

    /// The registry has removed a tag.
    pub async fn tag_deleted(&self, grant: &Grant, tag: &Tag) {
        self.raise(grant, &[MutableRecord::Tag(tag.clone()), MutableRecord::Lists]).await;
    }

    /// The registry has removed a manifest, and with it the tags that meant it.
    pub async fn manifest_deleted(&self, grant: &Grant, digest: &Digest) {
        let (shared, of, gone) = (Arc::clone(&self.shared), grant.clone(), digest.clone());
        let forget = move || {
            let (registry, repository) = (of.registry().name(), of.repository());
            let tags = shared.store.tags_naming(registry, repository, &gone);
            let subject = RecordKey::digest(&of, &gone);
            shared.epochs.exclusively(&subject, || {
                shared.epochs.invalidate(&subject, shared.clock.now());
                let dropped = shared.store.drop_manifest(registry, repository, &gone);
                warn_of(dropped, "cannot drop a manifest");
                shared.hot.manifests.remove(&subject);
            });
            shared.presence.deny(&of, std::slice::from_ref(&gone));
            // What it named is another one's to vouch for now.
            shared.presence.reload(&of);
            tags.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot look for the tags of a manifest");
                Vec::new()
            })
        };
        let tags = tokio::task::spawn_blocking(forget).await.unwrap_or_default();
        let mut what: Vec<_> = tags.into_iter().map(MutableRecord::Tag).collect();
        what.push(MutableRecord::Lists);
        self.raise(grant, &what).await;
    }

    async fn denied(&self, grant: &Grant, digests: Vec<Digest>) {
        let (shared, grant) = (Arc::clone(&self.shared), grant.clone());
        // As above.
        drop(tokio::task::spawn_blocking(move || shared.presence.deny(&grant, &digests)).await);
    }

    /// Repositories of a registry that were lately known to have this, those heard of last first.
    pub fn homes(&self, registry: &Registry, digest: &Digest) -> Vec<RepositoryName> {
        self.shared.presence.repositories_with(registry.name(), digest)
    }

    /// How long a blob is, as far as that is known without asking.
    pub async fn length(&self, grant: &Grant, digest: &Digest) -> Option<u64> {
        let stored = self.shared.blobs.rechecks.find(digest).await.map(|blob| blob.len());
        match stored {
            Some(length) => Some(length),
            None => self.shared.presence.find(grant, digest).await?.size,
        }
    }
}
