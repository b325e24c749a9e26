//! A change to a registry, as the push path describes it.
//!
//! It alone decides what becomes of a push: any answer but a redirect is handed on as an
//! [`UpstreamReply`](super::UpstreamReply).

use std::net::IpAddr;

use http::{HeaderMap, Method};

use super::identity::ClientCredential;
use super::location::UploadLocation;
use super::payload::ChangePayload;
use crate::http::Via;
use crate::oci::{RepositoryName, Resource};

/// A request that changes something, or asks how far a change is.
pub struct ChangeCall {
    /// DELETE, GET, PATCH, POST or PUT.
    pub method: Method,
    /// In which repository of the registry.
    pub repository: RepositoryName,
    /// The part of it that is changed.
    pub target: ChangeTarget,
    /// Arguments that are added, encoded; empty for none.
    pub query: String,
    /// The repository that a blob is to be mounted from, which takes the right to read there. It
    /// becomes the argument `from`, by its name at the upstream.
    pub source: Option<RepositoryName>,
    /// They describe the body: its type, and which part it is.
    pub headers: HeaderMap,
    /// The body.
    pub payload: ChangePayload,
    /// With whose credential; `None` for Larder's own.
    pub client: Option<ClientCredential>,
    /// The client whose share of the token servers it takes.
    pub asker: Option<IpAddr>,
    /// Through which other instances of Larder the request came that makes us ask.
    pub via: Via,
}

/// The thing that a change is made to.
pub enum ChangeTarget {
    /// An upload under way.
    Upload(UploadLocation),
    /// Anything else.
    Resource(Resource),
}

impl ChangeCall {
    /// Whether it may be sent again when no answer came. An upload that is begun twice is one that
    /// no client goes on with, and a manifest put twice is put. A part of an upload, or its end,
    /// means something else the second time.
    pub(super) fn is_repeatable(&self) -> bool {
        match &self.target {
            ChangeTarget::Resource(_) => self.method != Method::DELETE,
            ChangeTarget::Upload(_) => self.method == Method::GET,
        }
    }
}
