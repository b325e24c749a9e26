//! The headers that a manifest has in every answer, made once: a hit copies references to them.

use http::HeaderValue;

use crate::oci::{Digest, MediaType};

/// The values of the headers of a manifest.
#[derive(Clone, Debug)]
pub struct ManifestHeaders {
    /// `Content-Length`, in bytes.
    pub length: HeaderValue,
    /// `Content-Type`.
    pub media_type: Option<HeaderValue>,
    /// `Docker-Content-Digest` and `ETag`; `None` without a digest.
    pub digest: Option<DigestHeaders>,
}

/// The values of the headers of content with a digest.
#[derive(Clone, Debug)]
pub struct DigestHeaders {
    /// `Docker-Content-Digest`.
    pub digest: HeaderValue,
    /// `ETag`: the digest in quotes (RFC 9110, 8.8.3).
    pub etag: HeaderValue,
}

impl ManifestHeaders {
    /// The headers of a manifest of this length, in bytes.
    pub(super) fn of(length: usize, media_type: &MediaType, digest: Option<&Digest>) -> Self {
        Self {
            length: HeaderValue::from(length),
            media_type: HeaderValue::from_str(media_type.as_str()).ok(),
            digest: digest.and_then(DigestHeaders::of),
        }
    }
}

impl DigestHeaders {
    /// The headers of content with this digest, which has no character that a header may not have.
    pub fn of(digest: &Digest) -> Option<Self> {
        let quoted = ["\"", digest.as_str(), "\""].concat();
        let etag = HeaderValue::try_from(quoted).ok()?;
        Some(Self { digest: HeaderValue::from_str(digest.as_str()).ok()?, etag })
    }
}
