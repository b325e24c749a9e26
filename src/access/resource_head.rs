//! The answer by which a registry confirmed a client's right.
//!
//! It is the answer to a `HEAD` of the very resource that the client asks for, so the cache does
//! not have to ask the same again. It belongs to one request, and is never stored.

use http::HeaderMap;
use tokio::time::Instant;

use crate::oci::Resource;
use crate::upstream::{Answer, UpstreamIndex};

/// An upstream's answer about a resource, without its body.
#[derive(Clone, Debug)]
pub struct ResourceHead {
    /// The manifest or blob.
    pub resource: Resource,
    /// When it was asked for.
    pub asked_at: Instant,
    /// As they came.
    pub headers: HeaderMap,
    /// The length in bytes, if the upstream stated it.
    pub length: Option<u64>,
    /// Which upstream answered.
    pub place: UpstreamIndex,
}

impl ResourceHead {
    /// The facts about `resource` in an answer to a question of `asked_at`.
    pub(super) fn of(resource: &Resource, answer: Answer, asked_at: Instant) -> Self {
        let length = answer.length();
        let Answer { headers, place, .. } = answer;
        Self { resource: resource.clone(), asked_at, headers, length, place }
    }
}
