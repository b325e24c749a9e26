//! Answers pulls of blobs, whole and in ranges (distribution-spec, "Pulling blobs").
//!
//! Decides which bytes a `Range` selects (RFC 9110, 14). Their source is decided in `cache`.

use std::ops::Range;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::error::RequestError;
use super::reply::RouteReply;
use crate::access::Grant;
use crate::cache::{Blob, BlobNeed, Cache, CacheError, Decision, Pulled};
use crate::http::{
    MultipartBody, OwnConnection, RangeSelection, ReplyBody, etag_matches, range_applies,
};
use crate::oci::{Digest, ErrorCode};

/// Answers GET and HEAD.
pub(super) async fn pull(
    cache: &Cache,
    grant: &Grant,
    digest: &Digest,
    request: &http::request::Parts,
) -> Result<RouteReply, RequestError> {
    if request.method == Method::HEAD {
        return head(cache, grant, digest, &request.headers).await;
    }
    let range = range_of(&request.headers, digest);
    // Over HTTP/1.0 a client cannot tell that a body without a length was cut.
    let need = match range {
        Some(range) => BlobNeed::Range(range),
        None if request.version <= Version::HTTP_10 => BlobNeed::Length,
        None => BlobNeed::Bytes,
    };
    let pulled = cache.blob(grant, digest, need).await.map_err(failed)?;
    let own = request.extensions.get::<Arc<OwnConnection>>();
    let outlet = own.and_then(|own| own.outlet.clone());
    let presence = own.map(|own| &own.presence);
    let pulled = Pulled { what: pulled.what.through(outlet).read_while(presence), ..pulled };
    if !etag_matches(&request.headers, digest.as_str()) {
        return selected(pulled, digest, range);
    }
    let mut reply = whole(&pulled, digest);
    *reply.response.status_mut() = StatusCode::NOT_MODIFIED;
    reply.remove_body();
    Ok(reply)
}

async fn head(
    cache: &Cache,
    grant: &Grant,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<RouteReply, RequestError> {
    let pulled = cache.blob_head(grant, digest).await.map_err(failed)?;
    let not_modified = etag_matches(headers, digest.as_str());
    let status = if not_modified { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut reply = RouteReply::content(status, ReplyBody::empty(), Some(digest));
    reply.set_blob_headers();
    if let Some(total) = pulled.what.total {
        reply.set_length(total);
    }
    reply.set_decision(pulled.decision);
    Ok(reply)
}

fn failed(error: CacheError) -> RequestError {
    RequestError::Pull { error, absent: ErrorCode::BlobUnknown }
}

/// The `Range` to answer, if any: several such lines are ignored, and so is one whose `If-Range`
/// names another version.
fn range_of<'a>(headers: &'a HeaderMap, digest: &Digest) -> Option<&'a str> {
    let mut lines = headers.get_all(RANGE).into_iter();
    let line = lines.next()?;
    let applies = lines.next().is_none() && range_applies(headers, digest.as_str());
    line.to_str().ok().filter(|_| applies)
}

fn selected(
    pulled: Pulled<Blob>,
    digest: &Digest,
    range: Option<&str>,
) -> Result<RouteReply, RequestError> {
    let (Some(range), Some(total)) = (range, pulled.what.total()) else {
        return Ok(whole(&pulled, digest));
    };
    Ok(match RangeSelection::of(range, total) {
        RangeSelection::Whole => whole(&pulled, digest),
        RangeSelection::Footer(bytes) => part(&pulled, digest, bytes, total, true),
        RangeSelection::Part(bytes) => part(&pulled, digest, bytes, total, false),
        RangeSelection::Parts(parts) => several(pulled, digest, parts, total),
        RangeSelection::Unsatisfiable => {
            let mut reply = RouteReply::bare(StatusCode::RANGE_NOT_SATISFIABLE);
            reply.set_length(0);
            reply.set_content_range(&format!("bytes */{total}"));
            reply.set_decision(pulled.decision);
            reply
        }
        // Lazy pullers (stargz, SOCI, zstd:chunked) ask for less after this.
        RangeSelection::TooMuch => return Err(RequestError::TooManyRanges),
    })
}

/// One range. A footer of a blob that is not verified leaves as the upstream gave it.
fn part(
    pulled: &Pulled<Blob>,
    digest: &Digest,
    bytes: Range<u64>,
    total: u64,
    is_footer: bool,
) -> RouteReply {
    let (first, last, len) = (bytes.start, bytes.end - 1, bytes.end - bytes.start);
    let is_verified = pulled.what.is_verified() || bytes.end == total && !is_footer;
    let blob = &pulled.what;
    let source = if is_footer { blob.footer(bytes) } else { blob.part(bytes) };
    let body = ReplyBody::of(source, Some(len));
    let mut reply = partial(pulled.decision, digest, body, is_verified);
    reply.set_length(len);
    reply.set_content_range(&format!("bytes {first}-{last}/{total}"));
    reply
}

fn several(
    pulled: Pulled<Blob>,
    digest: &Digest,
    parts: Vec<Range<u64>>,
    total: u64,
) -> RouteReply {
    let Pulled { what: blob, decision, .. } = pulled;
    let is_verified = blob.is_verified() || parts.iter().all(|part| part.end == total);
    let multipart = MultipartBody::new(OCTET_STREAM, total);
    let content_type = multipart.content_type();
    let (body, len) = multipart.into_body(parts, move |part| blob.part(part));
    let mut reply = partial(decision, digest, body, is_verified);
    reply.set_length(len);
    if let Ok(value) = HeaderValue::from_str(&content_type) {
        reply.set(CONTENT_TYPE, value);
    }
    reply
}

fn partial(decision: Decision, digest: &Digest, body: ReplyBody, is_verified: bool) -> RouteReply {
    let mut reply = RouteReply::content(StatusCode::PARTIAL_CONTENT, body, Some(digest));
    reply.set_blob_headers();
    reply.set_decision(decision.of_part(is_verified));
    reply
}

fn whole(pulled: &Pulled<Blob>, digest: &Digest) -> RouteReply {
    let mut reply = RouteReply::content(StatusCode::OK, pulled.what.whole(), Some(digest));
    reply.set_blob_headers();
    if let Some(total) = pulled.what.total() {
        reply.set_length(total);
    }
    reply.set_decision(pulled.decision);
    reply
}

const OCTET_STREAM: &str = "application/octet-stream";
