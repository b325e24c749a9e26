//! An upstream's answer to a push, as far as clients read it.
//!
//! Headers that clients know are passed on, and no others: cookies, challenges and headers that
//! name the upstream are dropped. `Location` is written in `routes/pushes.rs`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::oci::{Digest, Reference};
use crate::upstream::UpstreamReply;

/// The answer to a push.
#[derive(Debug)]
pub struct PushAnswer {
    /// The upstream's status.
    pub status: StatusCode,
    /// Those of its headers that clients know.
    pub headers: HeaderMap,
    /// Its error body, if that is the one of the distribution-spec.
    pub error: Option<Bytes>,
    /// The host that answered.
    pub host: String,
    /// The content or upload that `Location` leads to.
    pub place: Option<ContentLocation>,
    /// Whether the blob was mounted, so that nothing was uploaded.
    pub is_mounted: bool,
}

/// The content or upload that an answer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentLocation {
    /// A blob, which can be pulled now.
    Blob(Digest),
    /// A manifest, which can be pulled now.
    Manifest(Reference),
    /// An upload that goes on, by its sealed id.
    Upload(String),
}

impl PushAnswer {
    /// The answer, without a location.
    pub(super) fn of(response: UpstreamReply) -> Self {
        let mut headers = HeaderMap::new();
        let mut len = 0;
        for name in &PASSED_ON {
            for value in response.headers.get_all(name) {
                len += value.len();
                if len <= HEADER_BYTES_MAX {
                    headers.append(name, value.clone());
                }
            }
        }
        let UpstreamReply { status, error, host, .. } = response;
        Self { status, headers, error, host, place: None, is_mounted: false }
    }

    /// Whether the upstream did what it was asked.
    pub fn is_success(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn mounted(self) -> Self {
        Self { is_mounted: true, ..self }
    }

    pub(super) fn at(self, place: ContentLocation) -> Self {
        Self { place: Some(place), ..self }
    }

    /// Adds `Docker-Content-Digest` if the upstream sent none: Docker's clients need it.
    pub(super) fn about(mut self, digest: &Digest) -> Self {
        if let Ok(value) = HeaderValue::from_str(digest.as_str()) {
            self.headers.entry(CONTENT_DIGEST).or_insert(value);
        }
        self
    }
}

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The headers that clients know of an answer to a push (distribution-spec, "Push").
const PASSED_ON: [HeaderName; 7] = [
    CONTENT_DIGEST,
    HeaderName::from_static("oci-chunk-min-length"),
    HeaderName::from_static("oci-subject"),
    HeaderName::from_static("oci-tag"),
    http::header::RANGE,
    http::header::RETRY_AFTER,
    http::header::WARNING,
];

/// In bytes, all values together: the limit of the distribution-spec for warnings.
const HEADER_BYTES_MAX: usize = 8192;
