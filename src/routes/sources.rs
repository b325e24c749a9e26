//! Where a client may have a blob mounted from.
//!
//! Only repositories of the very registry, and only such as the client may read right now: a mount
//! tells, and gives, what reading gives, and lasts. So a right that only a grace period holds up does
//! not do.

use super::door::{DoorQuery, enter};
use super::entrance::Entrance;
use crate::access::{AccessRequest, Action, Grant, Principal};
use crate::cache::Cache;
use crate::http::ClientPeer;
use crate::oci::{ApiCall, Digest, RepositoryName, Resource};
use crate::registry::RegistrySet;

/// What it takes to find out.
#[derive(Clone, Copy)]
pub(super) struct MountSources<'a> {
    pub(super) cache: &'a Cache,
    pub(super) entrance: &'a Entrance,
    /// Of the repository that the blob is to be mounted in.
    pub(super) grant: &'a Grant,
    pub(super) head: &'a http::request::Parts,
    pub(super) peer: &'a ClientPeer,
    pub(super) principal: &'a Principal,
    pub(super) table: &'a RegistrySet,
}

impl MountSources<'_> {
    /// Leave to read in the repository that `from` names to this client.
    pub(super) async fn named(&self) -> Option<Grant> {
        let uri = &self.head.uri;
        let query = uri.query()?;
        let from = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "from")?.1;
        // What stands before `/v2/` names the registry, and so does the first part of a name.
        let before = uri.path().find("/v2/").map(|at| &uri.path()[..at])?;
        let blob = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "mount")?.1;
        let path = format!("{before}/v2/{from}/blobs/{blob}");
        let host = self.entrance.host(self.head, self.table.has_hosts()).ok()?;
        let asked = DoorQuery { path: &path, query, host: host.as_ref() };
        let entered = enter(self.table, self.entrance.doors, asked).ok()?;
        let ApiCall::In(repository, resource) = entered.call else { return None };
        if entered.registry?.name() != self.grant.registry().name() {
            return None;
        }
        self.may_read(repository, &resource, true).await
    }

    /// Leave to read in repositories that are known to have it. The client has not named them, and must
    /// not be able to tell by the time it takes that there are such: nobody is asked about them.
    pub(super) async fn known(&self, digest: &Digest) -> Vec<Grant> {
        let mut known = Vec::new();
        for repository in self.cache.homes(self.grant.registry(), digest) {
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
        let (registry, address) = (self.grant.registry().clone(), self.peer.address);
        let action = Action::Pull;
        let wish = AccessRequest { registry, repository, action, resource, address, may_ask };
        let grant = self.entrance.access.grant(self.principal, wish).await.ok()?;
        grant.is_live().then_some(grant)
    }
}
