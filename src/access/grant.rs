//! The proof that a client may do one action in one repository.
//!
//! Only `gate.rs` makes one for a client, after its checks; code that needs the right asks for the
//! value. Larder itself has one to fetch again what it held.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::resource_head::ResourceHead;
use super::rights_query::KnownLengths;
use super::{Action, Principal};
use crate::http::Via;
use crate::oci::{RepositoryName, Resource};
use crate::registry::Registry;
use crate::upstream::{ClientCredential, CredentialId};

/// Permission for one action in one repository of one registry.
///
/// Made by [`ListenerAccess::grant`](super::ListenerAccess::grant) for clients, and by
/// [`Grant::to_restore`] for Larder itself.
#[derive(Clone, Debug)]
pub struct Grant {
    registry: Arc<Registry>,
    repository: RepositoryName,
    action: Action,
    may_push: bool,
    via: Via,
    address: IpAddr,
    upstream: Option<UpstreamRight>,
    client: Option<ClientCredential>,
    head: Option<Arc<ResourceHead>>,
}

/// The upstream's own confirmation of a right.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpstreamRight {
    /// The hash under which the right is cached.
    pub(super) id: CredentialId,
    pub(super) is_fresh: bool,
    /// Whether the upstream has confirmed within `grant_ttl` that the client may read here.
    pub(super) is_reader: bool,
}

impl Grant {
    /// A grant to fetch what the repository has, for no client; `None` where the upstream is
    /// not asked with Larder's own credential, or not for this repository.
    pub fn to_restore(registry: &Arc<Registry>, repository: &RepositoryName) -> Option<Self> {
        let is_own = registry.grants().is_none() && registry.serves(repository);
        (is_own && !registry.is_offline()).then(|| Self {
            registry: Arc::clone(registry),
            repository: repository.clone(),
            action: Action::Pull,
            may_push: false,
            via: Via::default(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            upstream: None,
            client: None,
            head: None,
        })
    }

    /// A grant that the rules of the listener give.
    pub(super) fn by_rules(
        request: AccessRequest<'_>,
        principal: &Principal,
        may_push: bool,
    ) -> Self {
        let AccessRequest { registry, repository, action, address, .. } = request;
        let via = principal.via.clone();
        Self {
            registry,
            repository,
            action,
            may_push,
            via,
            address,
            upstream: None,
            client: None,
            head: None,
        }
    }

    /// A grant that the upstream gives to this client, by its answer `head` if it was asked for
    /// this request. Whether the client may push, the upstream decides when it does.
    pub(super) fn by_upstream(
        request: AccessRequest<'_>,
        principal: &Principal,
        right: UpstreamRight,
        head: Option<ResourceHead>,
    ) -> Self {
        let may_push = request.registry.takes_pushes();
        let client = principal.credential.clone();
        let head = head.map(Arc::new);
        Self { upstream: Some(right), client, head, ..Self::by_rules(request, principal, may_push) }
    }

    /// The registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The repository, by its name at the registry.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The `Via` of the client's request (RFC 9110, 7.6.3), for the upstream requests that it
    /// causes. A request that joins another one in flight adds nothing.
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// The client's address: upstream requests that it causes count as its own.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The action.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Whether the upstream confirmed the right of this very client, so that it holds for no other.
    pub fn uses_client_credential(&self) -> bool {
        self.upstream.is_some()
    }

    /// Whether the right is fresh. In its grace period a client may pull cached content, and do
    /// nothing else.
    pub fn is_live(&self) -> bool {
        self.upstream.is_none_or(|right| right.is_fresh)
    }

    /// Whether the client is known to have a right to read here, so that a 404 means that there is
    /// nothing, and not that the client must not know.
    pub fn is_of_reader(&self) -> bool {
        self.upstream.is_none_or(|right| right.is_reader)
    }

    /// Whether the client may push here as well: then an upload is skipped only for content that
    /// is certain to be there.
    pub fn may_push(&self) -> bool {
        self.may_push
    }

    /// The client's own credential, to be sent upstream; `None` for Larder's own, if it has any.
    pub fn client(&self) -> Option<&ClientCredential> {
        self.client.as_ref()
    }

    /// The upstream's answer about this resource that has just confirmed the right.
    pub fn head_of(&self, resource: &Resource) -> Option<&ResourceHead> {
        self.head.as_deref().filter(|head| head.resource == *resource)
    }

    pub(super) fn right_id(&self) -> Option<&CredentialId> {
        self.upstream.as_ref().map(|right| &right.id)
    }
}

/// An action that a client asks for.
#[derive(Debug)]
pub struct AccessRequest<'r> {
    /// The registry.
    pub registry: Arc<Registry>,
    /// The repository, by its name at the registry.
    pub repository: RepositoryName,
    /// The action.
    pub action: Action,
    /// The resource in the repository.
    pub resource: &'r Resource,
    /// The client's address.
    pub address: IpAddr,
    /// Whether the upstream may be asked to confirm the right, and waited for. Otherwise only a
    /// cached right counts.
    pub may_ask: bool,
    /// The lengths of blobs that are known, by which a storage's answer is told from a page.
    pub lengths: &'r dyn KnownLengths,
}
