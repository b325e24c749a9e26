//! Manifests: what one is, and how it is come by, by its digest and from an upstream.

pub(super) mod by_digest;
pub(super) mod content;
pub(super) mod fetch;
pub(super) mod headers;
pub(super) mod last_use;
pub(super) mod warnings;
