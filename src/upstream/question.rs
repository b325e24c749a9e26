//! A question to an upstream, and its answer.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::body::AnswerBody;
use super::identity::ClientCredential;
use crate::http::{ContentRange, Via};
use crate::oci::{Reference, RepositoryName, Resource};

/// An idempotent request to a registry.
#[derive(Clone, Debug)]
pub struct Question {
    /// GET or HEAD.
    pub method: ReadMethod,
    /// In which repository of the registry.
    pub repository: RepositoryName,
    /// The resource in it.
    pub resource: Resource,
    /// The arguments, encoded; empty for none. For lists.
    pub query: String,
    /// The `Accept` header, for manifests.
    pub accept: Option<String>,
    /// From which byte on; 0 asks for the whole without a `Range` header.
    pub from: u64,
    /// Up to which byte, without it; `None` asks for all that follow. An upstream may send more.
    pub until: Option<u64>,
    /// Which upstreams have failed with it before, and are asked last.
    pub failed: Vec<UpstreamIndex>,
    /// With whose credential; `None` for Larder's own.
    pub client: Option<ClientCredential>,
    /// Since when the token that is shown has to have been asked for; `None`: any that is good.
    pub token_since: Option<Instant>,
    /// Through which other instances of Larder the request came that makes us ask.
    pub via: Via,
}

impl Question {
    /// One about all of a resource, to any upstream, with Larder's own credential.
    pub fn new(method: ReadMethod, repository: RepositoryName, resource: Resource) -> Self {
        Self {
            method,
            repository,
            resource,
            query: String::new(),
            accept: None,
            from: 0,
            until: None,
            failed: Vec::new(),
            client: None,
            token_since: None,
            via: Via::default(),
        }
    }

    /// Whether it may be answered differently tomorrow: a record is kept of the answer.
    pub(super) fn is_mutable(&self) -> bool {
        match &self.resource {
            Resource::Manifest(Reference::Tag(_)) | Resource::Referrers(_) | Resource::Tags => true,
            Resource::Blob(_) | Resource::Manifest(Reference::Digest(_)) | Resource::Upload(_) => {
                false
            }
        }
    }

    /// The time by which a rate limit must be over to be waited out, if the question was asked at
    /// `start` and has to be answered by `deadline`.
    pub(super) fn limit_deadline(&self, start: Instant, deadline: Instant) -> Instant {
        let is_for_larder = self.via != Via::default();
        if is_for_larder { deadline.min(start + LIMIT_WAIT_OF_LARDER) } else { deadline }
    }

    /// Whether a list is asked for.
    pub(super) fn is_for_list(&self) -> bool {
        matches!(self.resource, Resource::Referrers(_) | Resource::Tags)
    }
}

/// How long a rate limit is waited out for another Larder. It gives up a silent upstream after 15
/// s, and waits by itself if it is told of the limit before.
const LIMIT_WAIT_OF_LARDER: Duration = Duration::from_secs(10);

/// The two idempotent methods that registries know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadMethod {
    /// With the body.
    Get,
    /// Without it.
    Head,
}

/// One of the upstreams of a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamIndex {
    /// The one whose answers are the registry's.
    #[default]
    Authoritative,
    /// The mirror of this number.
    Mirror(usize),
}

/// A 200 or 206.
#[derive(Debug)]
pub struct Answer {
    /// 200 or 206.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// The bytes; empty for HEAD.
    pub body: AnswerBody,
    /// Which upstream gave it.
    pub place: UpstreamIndex,
}

impl Answer {
    /// The length of the whole, in bytes, also where this is a part of it; `None` if the upstream
    /// does not tell.
    pub fn length(&self) -> Option<u64> {
        length_of_whole(self.status, &self.headers)
    }
}

/// The length of the whole that an answer gives, all of it or a part (RFC 9110, 8.6 and 14.4).
pub(super) fn length_of_whole(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    if status == StatusCode::PARTIAL_CONTENT {
        return ContentRange::of(headers)?.total;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
