//! What a registry said to a push, as far as clients are told.
//!
//! Headers that clients know are passed on, and no others: cookies, challenges and whatever names
//! the upstream stay here. Locations are made anew where the answer is presented.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::oci::{Digest, Reference};
use crate::upstream::UpstreamReply;

/// The answer to a push.
#[derive(Debug)]
pub struct PushAnswer {
    /// The registry's own.
    pub status: StatusCode,
    /// What of its headers clients know.
    pub headers: HeaderMap,
    /// Its error, if it gave one that is the specification's.
    pub error: Option<Bytes>,
    /// Who said it.
    pub host: String,
    /// Where the client finds what it asked for.
    pub place: Option<ContentLocation>,
    /// Whether the registry had it elsewhere, so that nothing was sent.
    pub is_mounted: bool,
}

/// A place in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentLocation {
    /// A blob that can be pulled now.
    Blob(Digest),
    /// A manifest that can be pulled now.
    Manifest(Reference),
    /// An upload that goes on: its sealed id.
    Upload(String),
}

impl PushAnswer {
    /// The answer, without a place.
    pub(super) fn of(said: UpstreamReply) -> Self {
        let mut headers = HeaderMap::new();
        let mut len = 0;
        for name in &PASSED_ON {
            for value in said.headers.get_all(name) {
                len += value.len();
                if len <= HEADER_BYTES_MAX {
                    headers.append(name, value.clone());
                }
            }
        }
        let UpstreamReply { status, error, host, .. } = said;
        Self { status, headers, error, host, place: None, is_mounted: false }
    }

    /// Whether the registry did what it was asked.
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn mounted(self) -> Self {
        Self { is_mounted: true, ..self }
    }

    pub(super) fn at(self, place: ContentLocation) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Says which digest it is about, where the registry does not: clients of Docker's need it.
    pub(super) fn about(mut self, digest: &Digest) -> Self {
        if let Ok(value) = HeaderValue::from_str(digest.as_str()) {
            self.headers.entry(CONTENT_DIGEST).or_insert(value);
        }
        self
    }
}

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What clients know of an answer to a push (distribution-spec, "Push").
const PASSED_ON: [HeaderName; 7] = [
    CONTENT_DIGEST,
    HeaderName::from_static("oci-chunk-min-length"),
    HeaderName::from_static("oci-subject"),
    HeaderName::from_static("oci-tag"),
    http::header::RANGE,
    http::header::RETRY_AFTER,
    http::header::WARNING,
];

/// As much as the specification gives warnings.
const HEADER_BYTES_MAX: usize = 8192;
