//! Which digests a repository is known to have.
//!
//! Knowing a digest is no right to it: content is served in a repository only if the upstream put
//! it there, by naming it in a manifest that is held for the repository, or by answering 200 for
//! it. The files are the truth; this keeps them in memory, and both in step.

use std::io;
use std::sync::Arc;

use super::Shared;
use crate::access::Grant;
use crate::oci::{Digest, ManifestFacts};

/// That a repository has a digest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    /// The size that a manifest states for it.
    pub(super) size: Option<u64>,
}

impl Shared {
    /// Whether the repository is known to have the digest. Disk trouble is as good as no.
    pub(super) async fn membership(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Option<Membership> {
        let members = if let Some(members) = self.hot.members(grant) {
            members
        } else {
            let (shared, grant) = (Arc::clone(self), grant.clone());
            let load = move || shared.hot.members_or_load(&grant, || shared.load_members(&grant));
            tokio::task::spawn_blocking(load).await.ok()?
        };
        let size = members.lock().get(digest).copied();
        size.map(|size| Membership { size })
    }

    /// Notes that the upstream itself said that the repository has the blob, and of what size, if it
    /// said that. Blocks.
    pub(super) fn confirm(&self, grant: &Grant, digest: &Digest, size: Option<u64>) {
        self.hot.put_home(grant, digest);
        let members = self.hot.members_or_load(grant, || self.load_members(grant));
        if let Some(known) = members.lock().get_mut(digest) {
            *known = known.or(size);
            return;
        }
        let (registry, repository) = (grant.registry().name(), grant.repository());
        let noted = self.store.put_member(registry, repository, digest, self.clock.now());
        warn_of(noted, "cannot note a membership");
        members.lock().insert(digest.clone(), size);
        self.hot.weigh_members(grant, &members);
    }

    /// Notes everything that a manifest, which is held for the repository, names. Blocks.
    pub(super) fn confirm_named(&self, grant: &Grant, facts: &ManifestFacts) {
        let members = self.hot.members_or_load(grant, || self.load_members(grant));
        let before = members.lock().len();
        for descriptor in &facts.descriptors {
            members.lock().insert(descriptor.digest.clone(), descriptor.size);
            self.hot.put_home(grant, &descriptor.digest);
        }
        if members.lock().len() > before {
            self.hot.weigh_members(grant, &members);
        }
    }

    /// Takes these out of what is known in memory. Blocks.
    pub(super) fn forget_members(&self, grant: &Grant, digests: &[Digest]) {
        let members = self.hot.members_or_load(grant, || self.load_members(grant));
        let mut members = members.lock();
        for digest in digests {
            members.remove(digest);
        }
    }

    fn load_members(&self, grant: &Grant) -> crate::store::MemberSizes {
        let loaded = self.store.members(grant.registry().name(), grant.repository());
        loaded.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read memberships");
            crate::store::MemberSizes::new()
        })
    }
}

/// The disk never fails a pull, but its trouble is told.
pub(super) fn warn_of(result: io::Result<()>, what: &'static str) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}
