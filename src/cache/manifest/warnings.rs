//! Warnings of an upstream about an image, for the clients that pull it (distribution-spec,
//! "Warnings").

use std::sync::Arc;

use http::header::WARNING;
use http::{HeaderMap, HeaderValue};

use crate::access::Grant;

/// Values of `Warning`, each as the specification has it: `299 - "text"`.
#[derive(Clone, Debug, Default)]
pub struct UpstreamWarnings {
    values: Arc<[HeaderValue]>,
}

impl UpstreamWarnings {
    /// The warnings in an answer, up to 4,096 bytes. An answer to a client's own credential counts
    /// as without: its text may be about that client, and others share what is cached.
    pub(in crate::cache) fn of(grant: &Grant, headers: &HeaderMap) -> Self {
        let mut len = 0;
        let is_passed_on = |value: &&HeaderValue| {
            len += value.len();
            len <= BYTES_MAX && is_warning(value.as_bytes())
        };
        let all = headers.get_all(WARNING).iter().filter(|_| !grant.uses_client_credential());
        Self { values: all.filter(is_passed_on).cloned().collect() }
    }

    /// These, or `others` if there are none.
    pub(in crate::cache) fn or(self, others: &Self) -> Self {
        if self.values.is_empty() { others.clone() } else { self }
    }

    /// The values.
    pub fn values(&self) -> &[HeaderValue] {
        &self.values
    }
}

fn is_warning(value: &[u8]) -> bool {
    let text = value.strip_prefix(b"299 - \"").and_then(|rest| rest.strip_suffix(b"\""));
    text.is_some_and(|text| !text.contains(&b'"'))
}

/// The most bytes of warnings that registries may send.
const BYTES_MAX: usize = 4096;
