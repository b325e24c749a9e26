//! The repositories that a client may mount a blob from.
//!
//! They are repositories of the same registry that the client may read now: a mount reveals, and
//! gives for good, what a pull gives. A right in its grace period is not enough. Which of them is
//! tried, and in what order, is decided in `push/mount.rs`.

use std::sync::Arc;

use super::door::{DoorQuery, resolve};
use super::entrance::Entrance;
use crate::access::{AccessRequest, Action, Grant, Principal};
use crate::cache::Cache;
use crate::http::ClientPeer;
use crate::oci::{ApiCall, Digest, RepositoryName, Resource};
use crate::registry::RegistrySet;

/// A request to mount a blob, and the means to answer it.
#[derive(Clone, Copy)]
pub(super) struct MountSources<'a> {
    pub(super) cache: &'a Cache,
    pub(super) entrance: &'a Entrance,
    /// For the repository that the blob is mounted in.
    pub(super) grant: &'a Grant,
    pub(super) head: &'a http::request::Parts,
    pub(super) peer: &'a ClientPeer,
    pub(super) principal: &'a Principal,
    pub(super) registries: &'a RegistrySet,
}

impl MountSources<'_> {
    /// A grant to pull from the repository that `from` names, by this client's door.
    pub(super) async fn named(&self) -> Option<Grant> {
        let uri = &self.head.uri;
        let query = uri.query()?;
        let from = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "from")?.1;
        // The part before `/v2/` names the registry, and so may the first part of `from`.
        let before = uri.path().find("/v2/").map(|at| &uri.path()[..at])?;
        let blob = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "mount")?.1;
        let path = format!("{before}/v2/{from}/blobs/{blob}");
        let host = self.entrance.host(self.head, self.registries.has_hosts()).ok()?;
        let query = DoorQuery { path: &path, query, host: host.as_ref() };
        let target = resolve(self.registries, self.entrance.doors, query).ok()?;
        let ApiCall::In(repository, resource) = target.call else { return None };
        if target.registry?.name() != self.grant.registry().name() {
            return None;
        }
        self.may_read(repository, &resource, true).await
    }

    /// Grants to pull from other repositories that have the blob. The client has not named them and
    /// must not learn of them from the time that the answer takes, so no upstream is asked.
    pub(super) async fn known(&self, digest: &Digest) -> Vec<Grant> {
        let mut known = Vec::new();
        for repository in self.cache.repositories_with(self.grant.registry(), digest) {
            known.extend(self.may_read(repository, &Resource::Blob(digest.clone()), false).await);
        }
        known
    }

    async fn may_read(
        &self,
        repository: RepositoryName,
        resource: &Resource,
        may_ask: bool,
    ) -> Option<Grant> {
        let request = AccessRequest {
            registry: Arc::clone(self.grant.registry()),
            repository,
            action: Action::Pull,
            resource,
            address: self.peer.address,
            may_ask,
            lengths: self.cache,
        };
        let grant = self.entrance.access.grant(self.principal, request).await.ok()?;
        grant.is_live().then_some(grant)
    }
}
