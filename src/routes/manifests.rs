//! Answers pulls of manifests (distribution-spec, "Pulling manifests").
//!
//! Reads `Accept` and `If-None-Match`; which manifest is served is decided in `cache`.

use http::{Method, StatusCode};

use super::error::RequestError;
use super::reply::RouteReply;
use crate::access::Grant;
use crate::cache::Cache;
use crate::http::etag_matches;
use crate::oci::{AcceptSet, ErrorCode, Reference};

/// Answers GET and HEAD; the caller removes the body of the answer to HEAD.
pub(super) async fn pull(
    cache: &Cache,
    grant: &Grant,
    reference: &Reference,
    request: &http::request::Parts,
) -> Result<RouteReply, RequestError> {
    let headers = &request.headers;
    let lines = headers.get_all(http::header::ACCEPT).into_iter();
    let accept = AcceptSet::parse(lines.filter_map(|line| line.to_str().ok()));
    let pulled = if request.method == Method::HEAD {
        cache.manifest_head(grant, reference, &accept).await
    } else {
        cache.manifest(grant, reference, &accept).await
    };
    let absent = ErrorCode::ManifestUnknown;
    let pulled = pulled.map_err(|error| RequestError::Pull { error, absent })?;
    let mut reply = RouteReply::manifest(&pulled);
    if pulled.what.digest().is_some_and(|digest| etag_matches(headers, digest.as_str())) {
        *reply.response.status_mut() = StatusCode::NOT_MODIFIED;
        reply.remove_body();
    }
    Ok(reply)
}
