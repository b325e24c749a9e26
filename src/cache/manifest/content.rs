//! A manifest as it is served, and which kind it is.
//!
//! Bytes stay as they came. The kind is the header's word unless that says nothing, then the body's
//! own, then that of its members; two different specific words are a fault (CVE-2021-41190: one
//! digest, two readings).

use std::sync::Arc;

use bytes::Bytes;

use super::headers::ManifestHeaders;
use super::last_use::LastUse;
use crate::cache::{ManifestFault, UpstreamWarnings};
use crate::oci::{Digest, ManifestFacts, MediaType};
use crate::store::VerifiedContent;

/// A manifest to be served.
#[derive(Clone, Debug)]
pub struct CachedManifest {
    /// Which kind it is.
    pub media_type: MediaType,
    /// Its bytes, and what is known of them.
    pub content: ManifestContent,
    /// The warnings that the upstream has just given.
    pub warnings: UpstreamWarnings,
    /// Its headers in every answer.
    pub headers: ManifestHeaders,
    pub(in crate::cache) last_use: LastUse,
}

/// The bytes of a manifest.
#[derive(Clone, Debug)]
pub enum ManifestContent {
    /// Docker's schema 1: the digest is not over these bytes, so they cannot be verified and are
    /// never stored. The upstream's own `Docker-Content-Digest`, if it gave one.
    Schema1(Bytes, Option<Digest>),
    /// Any other.
    Verified(VerifiedContent<Bytes>),
}

impl CachedManifest {
    /// A manifest of this kind, about which nothing was warned.
    pub(in crate::cache) fn new(media_type: MediaType, content: ManifestContent) -> Self {
        let headers = ManifestHeaders::of(content.body().len(), &media_type, content.digest());
        let (warnings, last_use) = Default::default();
        Self { media_type, content, warnings, headers, last_use }
    }

    /// The manifest with these warnings. A manifest in memory has none.
    pub(in crate::cache) fn with_warnings(
        self: Arc<Self>,
        warnings: &UpstreamWarnings,
    ) -> Arc<Self> {
        if warnings.values().is_empty() {
            return self;
        }
        Arc::new(Self { warnings: warnings.clone(), ..(*self).clone() })
    }

    /// The bytes.
    pub fn body(&self) -> &Bytes {
        self.content.body()
    }

    /// The digest that clients are told.
    pub fn digest(&self) -> Option<&Digest> {
        self.content.digest()
    }
}

impl ManifestContent {
    pub(super) fn body(&self) -> &Bytes {
        match self {
            Self::Schema1(bytes, _) => bytes,
            Self::Verified(verified) => verified.content(),
        }
    }

    pub(super) fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Schema1(_, digest) => digest.as_ref(),
            Self::Verified(verified) => Some(verified.digest()),
        }
    }
}

/// Settles which kind a manifest is.
pub(in crate::cache) fn settle_type(
    header: Option<MediaType>,
    facts: &ManifestFacts,
) -> Result<MediaType, ManifestFault> {
    let header = header.filter(MediaType::is_manifest);
    let body = facts.media_type.clone().filter(MediaType::is_manifest);
    match (header, body) {
        (Some(header), Some(body)) if header != body => {
            Err(ManifestFault::TwoTypes { header, body })
        }
        (Some(media_type), _) | (None, Some(media_type)) => Ok(media_type),
        (None, None) => facts.shape.clone().ok_or(ManifestFault::Untyped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "application/vnd.x+json";

    #[test]
    fn the_kind_is_what_header_and_body_agree_on() {
        let settle = |header: Option<&str>, body: Option<&str>| {
            let facts = ManifestFacts {
                media_type: body.map(|text| text.parse().unwrap()),
                shape: None,
                descriptors: Vec::new(),
            };
            settle_type(header.map(|text| text.parse().unwrap()), &facts)
                .map(|media_type| media_type.to_string())
        };
        assert_eq!(settle(Some(X), None).unwrap(), X);
        assert_eq!(
            settle(Some("application/vnd.x+json; charset=utf-8"), Some("Application/VND.X+json"))
                .unwrap(),
            X
        );
        assert_eq!(settle(Some("text/plain"), Some(X)).unwrap(), X);
        assert_eq!(settle(None, Some(X)).unwrap(), X);
        assert!(matches!(
            settle(Some(X), Some("application/vnd.y+json")),
            Err(ManifestFault::TwoTypes { .. })
        ));
        for no_manifest in
            ["application/json", "text/html", "image/svg+xml", "application/vnd.x+xml"]
        {
            let settled = settle(Some(no_manifest), None);
            assert!(matches!(settled, Err(ManifestFault::Untyped)), "{no_manifest}");
            assert_eq!(settle(Some(no_manifest), Some(X)).unwrap(), X);
            assert_eq!(settle(Some(X), Some(no_manifest)).unwrap(), X);
        }
    }
}
