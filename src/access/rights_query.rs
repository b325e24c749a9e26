//! One question whether a client may act in a repository, and the hashes it is cached by.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use super::Action;
use super::process_key::ProcessKey;
use crate::http::Via;
use crate::oci::{Digest, RepositoryName, Resource};
use crate::registry::Registry;
use crate::upstream::{ClientCredential, CredentialId};

/// An action in a repository, and the client that asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RightsQuery<'q> {
    /// The client's own credential; `None` for an anonymous client.
    pub(super) client: Option<&'q ClientCredential>,
    /// Its address, whose share of the upstream the question takes.
    pub(super) address: IpAddr,
    pub(super) registry: &'q Registry,
    pub(super) repository: &'q RepositoryName,
    pub(super) action: Action,
    pub(super) resource: &'q Resource,
    pub(super) via: &'q Via,
    pub(super) lengths: &'q dyn KnownLengths,
}

/// The lengths of blobs by which a storage's answer about one is told from a page.
pub trait KnownLengths: fmt::Debug + Sync {
    /// The length in bytes of a blob of the repository, if a manifest of it states one.
    fn length<'a>(
        &'a self,
        registry: &'a Registry,
        repository: &'a RepositoryName,
        digest: &'a Digest,
    ) -> Pin<Box<dyn Future<Output = Option<u64>> + Send + 'a>>;
}

impl RightsQuery<'_> {
    /// The hash of the right: the action in the repository, for this credential.
    pub(super) fn right_id(&self, key: &ProcessKey) -> CredentialId {
        key.hash(&self.parts(b"right"))
    }

    /// The hash of the right to this one resource.
    pub(super) fn resource_id(&self, key: &ProcessKey) -> CredentialId {
        let resource = self.resource.path();
        let [kind, client, registry, host, repository, action] = self.parts(b"right to this");
        key.hash(&[kind, client, registry, host, repository, action, resource.as_bytes()])
    }

    /// The upstream's host is one of them: another upstream under the same registry name has
    /// confirmed nothing.
    fn parts<'p>(&'p self, kind: &'p [u8]) -> [&'p [u8]; 6] {
        [
            kind,
            self.client.and_then(ClientCredential::tag_bytes).unwrap_or_default(),
            self.registry.name().as_str().as_bytes(),
            self.registry.upstream().host().as_bytes(),
            self.repository.as_str().as_bytes(),
            self.action.as_str().as_bytes(),
        ]
    }
}

/// The hash under which pushes to a repository are noted.
pub(super) fn pushed_id(
    key: &ProcessKey,
    registry: &Registry,
    repository: &RepositoryName,
) -> CredentialId {
    key.hash(&[
        b"pushed",
        registry.name().as_str().as_bytes(),
        registry.upstream().host().as_bytes(),
        repository.as_str().as_bytes(),
    ])
}
