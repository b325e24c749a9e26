//! A blob's bytes from its upstreams: which of them, with which credential, and through cuts.

pub(super) mod download;
pub(super) mod origin;
pub(super) mod reader_credentials;
