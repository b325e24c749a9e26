//! One call to the authoritative upstream that changes something there.
//!
//! Mirrors are never sent a push. Which calls a push takes is decided in the files above this one.

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{PushAnswer, PushError};
use crate::access::Grant;
use crate::upstream::{ChangeCall, ChangePayload, ChangeTarget, UpstreamError, UpstreamReply};

/// A call that changes something in the repository of `grant`.
pub(super) fn change(
    grant: &Grant,
    method: Method,
    target: ChangeTarget,
    payload: ChangePayload,
) -> ChangeCall {
    let mut headers = HeaderMap::new();
    if !matches!(payload, ChangePayload::Empty) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    ChangeCall {
        method,
        repository: grant.repository().clone(),
        target,
        query: String::new(),
        source: None,
        headers,
        payload,
        client: grant.client().cloned(),
        asker: Some(grant.address()),
        via: grant.via().clone(),
    }
}

/// Sends a call to the authoritative upstream.
pub(super) async fn send(grant: &Grant, change: ChangeCall) -> Result<UpstreamReply, PushError> {
    Ok(grant.registry().upstream().authoritative().change(change).await?)
}

/// The answer to a POST, with 202 for an upload that has begun. Some registries say so with another
/// status and a `Location`; a login page has none.
pub(super) fn begun_as_202(mut response: UpstreamReply) -> UpstreamReply {
    let may_begin = matches!(response.status, StatusCode::OK | StatusCode::NO_CONTENT);
    if may_begin && response.headers.contains_key(LOCATION) {
        response.status = StatusCode::ACCEPTED;
    }
    response
}

/// The answer to a push that the upstream did not accept. A success that the protocol gives no
/// meaning here is none.
pub(super) fn refused(response: UpstreamReply) -> Result<PushAnswer, PushError> {
    if response.status.is_client_error() || response.status.is_server_error() {
        return Ok(PushAnswer::of(response));
    }
    Err(unexpected(&response, "it does not say that it has taken what it was sent"))
}

/// The error of an upstream that answered before it had received all of the body.
pub(super) fn too_early(response: &UpstreamReply) -> PushError {
    unexpected(response, "it answered before it had received all of the body")
}

fn unexpected(response: &UpstreamReply, reason: &str) -> PushError {
    let UpstreamReply { host, status, .. } = response;
    let error = UpstreamError::Unexpected {
        host: host.clone(),
        status: *status,
        reason: reason.to_owned(),
    };
    error.into()
}
