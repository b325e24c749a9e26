//! Headers that keep a browser from running what an answer holds.
//!
//! Tenants and upstreams decide what is in a manifest or blob, and Larder's host may be one that a
//! browser is logged in to.

use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue};

/// Sets the headers: no type is guessed from the bytes, and a document loads, runs and frames
/// nothing (Content Security Policy Level 3, `sandbox`).
pub fn set_inert(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = "default-src 'none'; frame-ancestors 'none'; sandbox";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}
