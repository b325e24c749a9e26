//! `manifests/<reference>`.

use http::{Method, StatusCode};

use super::reply::RouteReply;
use crate::access::Grant;
use crate::cache::Cache;
use crate::http::etag_matches;
use crate::oci::{AcceptSet, ErrorCode, Reference};

/// GET and HEAD; the caller takes the body from the answer to HEAD.
pub(super) async fn pull(
    cache: &Cache,
    grant: &Grant,
    reference: &Reference,
    request: &http::request::Parts,
) -> RouteReply {
    let headers = &request.headers;
    let lines = headers.get_all(http::header::ACCEPT).into_iter();
    let accept = AcceptSet::parse(lines.filter_map(|line| line.to_str().ok()));
    let pulled = if request.method == Method::HEAD {
        cache.manifest_head(grant, reference, &accept).await
    } else {
        cache.manifest(grant, reference, &accept).await
    };
    let pulled = match pulled {
        Ok(pulled) => pulled,
        Err(error) => return RouteReply::failed(&error, ErrorCode::ManifestUnknown),
    };
    let mut reply = RouteReply::manifest(&pulled);
    if pulled.what.digest().is_some_and(|digest| etag_matches(headers, digest.as_str())) {
        *reply.response.status_mut() = StatusCode::NOT_MODIFIED;
        reply.without_body();
    }
    reply
}
