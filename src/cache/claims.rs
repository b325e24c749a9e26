//! What may be claimed to exist, where clients push.
//!
//! A client that is told that a repository has something does not upload it, and its manifest is
//! refused if that was wrong. To read, being named by a manifest is enough (`members.rs`); to claim
//! existence to who might push, the registry itself must have said so within `membership_ttl`. A
//! claim is never stale, and never a mirror's: when the registry cannot be asked, there is none.
//!
//! Claims are kept in memory alone. After a restart the registry is asked once more.

use std::sync::Arc;

use super::epoch::Epoch;
use super::key::RecordKey;
use super::members::warn_of;
use super::{Cache, MutableRecord, Shared};
use crate::access::Grant;
use crate::oci::{Digest, ManifestFacts, RepositoryName, Tag};
use crate::registry::Registry;

impl Shared {
    /// Whether the registry has said within `membership_ttl` that the repository has this.
    pub(super) fn is_claimable(&self, grant: &Grant, digest: &Digest) -> bool {
        let Some(ttl) = grant.registry().membership_ttl() else { return false };
        self.hot.claimed(grant, digest).is_some_and(|since| since.elapsed() < ttl)
    }

    /// Notes that the registry itself has said so, when it was asked at `asked`.
    pub(super) fn claim(&self, grant: &Grant, digest: &Digest, asked: Epoch) {
        let is_current = || self.epochs.is_current(|| RecordKey::contents(grant), asked);
        if grant.registry().membership_ttl().is_some() && is_current() {
            self.hot.put_claim(grant, digest);
        }
    }

    /// Notes that the registry does not have these in the repository: neither claimed nor served
    /// there until it says otherwise. Blocks.
    pub(super) fn deny(&self, grant: &Grant, digests: &[Digest]) {
        self.epochs.invalidate(&RecordKey::contents(grant), self.clock.now());
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let noted = self.store.drop_members(registry, repository, digests, self.clock.now());
        warn_of(noted, "cannot note that something is gone");
        self.forget_members(grant, digests);
        for digest in digests {
            self.hot.drop_claim(grant, digest);
            self.hot.drop_home(grant, digest);
        }
    }
}

/// What pushes change of it.
impl Cache {
    /// The present epoch, to be taken before the registry is asked for a change.
    pub fn epoch(&self) -> Epoch {
        self.shared.epochs.now()
    }

    /// The registry has taken a blob. If something was removed since it was asked, that may have been
    /// this: nothing is known then.
    pub async fn blob_pushed(&self, grant: &Grant, digest: &Digest, asked: Epoch) {
        let (shared, grant, digest) = (Arc::clone(&self.shared), grant.clone(), digest.clone());
        let note = move || {
            if shared.epochs.is_current(|| RecordKey::contents(&grant), asked) {
                shared.confirm(&grant, &digest, None);
                shared.claim(&grant, &digest, asked);
            }
        };
        // A panic in it has been reported; the registry has the blob all the same.
        drop(tokio::task::spawn_blocking(note).await);
    }

    /// The registry has taken a manifest.
    pub fn manifest_pushed(&self, grant: &Grant, digest: &Digest) {
        self.shared.claim(grant, digest, self.shared.epochs.now());
    }

    /// The registry has refused a manifest, most likely for what it lists: what is known to be there
    /// may not be.
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
                shared.hot.drop_manifest(&of, &gone);
            });
            shared.deny(&of, std::slice::from_ref(&gone));
            // What it named is another one's to vouch for now.
            shared.hot.drop_members(&of);
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
        drop(tokio::task::spawn_blocking(move || shared.deny(&grant, &digests)).await);
    }

    /// Repositories of a registry that were lately known to have this, those heard of last first.
    pub fn homes(&self, registry: &Registry, digest: &Digest) -> Vec<RepositoryName> {
        self.shared.hot.homes(registry.name(), digest)
    }

    /// How long a blob is, as far as that is known without asking.
    pub async fn length(&self, grant: &Grant, digest: &Digest) -> Option<u64> {
        let stored = self.shared.stored(digest).await.map(|blob| blob.len());
        match stored {
            Some(length) => Some(length),
            None => self.shared.membership(grant, digest).await?.size,
        }
    }
}
