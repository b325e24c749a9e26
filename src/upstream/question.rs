//! A question to an upstream, and its answer.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::body::AnswerBody;
use super::identity::ClientCredential;
use crate::http::{ContentRange, Via};
use crate::oci::{Digest, MediaType, Reference, RepositoryName, Resource};

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
    /// The client whose share of the upstream it takes; `None` if it is Larder's own.
    pub asker: Option<IpAddr>,
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
            asker: None,
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
    /// Whether another host gave it, to which a redirect led.
    pub is_foreign: bool,
}

impl Answer {
    /// The length of the whole, in bytes, also where this is a part of it; `None` if the upstream
    /// does not tell.
    pub fn length(&self) -> Option<u64> {
        length_of_whole(self.status, &self.headers)
    }

    /// Whether it is about this blob, of `length` bytes where that is known. A 200 alone is not:
    /// login and maintenance pages answer it to every path.
    pub fn is_of_blob(&self, digest: &Digest, length: Option<u64>) -> bool {
        match stated_digest(&self.headers) {
            Some(stated) if stated.algorithm() == digest.algorithm() => stated == *digest,
            // Any page may be empty.
            _ => self.length().is_some_and(|it| it > 0 && Some(it) == length) && !self.is_page(),
        }
    }

    /// Whether it is about this manifest, and not some page.
    pub fn is_of_manifest(&self, reference: &Reference) -> bool {
        let (stated, kind) = (stated_digest(&self.headers), stated_type(&self.headers));
        is_of_manifest(reference, stated.as_ref(), kind.as_ref())
    }

    /// Whether it is a page for people.
    pub fn is_page(&self) -> bool {
        stated_type(&self.headers).is_some_and(|it| it.as_str() == "text/html")
    }
}

/// Whether an answer with this digest and type is about the manifest: it states the very digest, or
/// none and a manifest's type.
pub fn is_of_manifest(
    reference: &Reference,
    stated: Option<&Digest>,
    media_type: Option<&MediaType>,
) -> bool {
    match (stated, reference) {
        (Some(stated), Reference::Digest(digest)) => stated == digest,
        (Some(_), Reference::Tag(_)) => true,
        (None, _) => media_type.is_some_and(MediaType::is_manifest),
    }
}

/// The digest that an upstream states for its content: a hint, until the bytes are hashed.
pub fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// The media type that an upstream states.
pub fn stated_type(headers: &HeaderMap) -> Option<MediaType> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.parse().ok()
}

/// The length of the whole that an answer gives, all of it or a part (RFC 9110, 8.6 and 14.4).
pub(super) fn length_of_whole(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    if status == StatusCode::PARTIAL_CONTENT {
        return ContentRange::of(headers)?.total;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
