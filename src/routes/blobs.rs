//! `blobs/<digest>`, whole and in parts.

use std::ops::Range;

use http::header::{CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::reply::RouteReply;
use crate::access::Grant;
use crate::cache::{Blob, BlobNeed, Cache, Pulled};
use crate::http::{
    MultipartBody, RANGES_MAX, RangeSelection, ReplyBody, SendfileQueue, etag_matches,
    range_applies,
};
use crate::oci::{Digest, ErrorCode};

/// GET and HEAD.
pub(super) async fn pull(
    cache: &Cache,
    grant: &Grant,
    digest: &Digest,
    request: &http::request::Parts,
) -> RouteReply {
    if request.method == Method::HEAD {
        return head(cache, grant, digest, &request.headers).await;
    }
    let range = range_of(&request.headers, digest);
    // HTTP/1.0 cannot show that a body without a length was cut off.
    let need = match range {
        Some(range) => BlobNeed::Range(range),
        None if request.version <= Version::HTTP_10 => BlobNeed::Length,
        None => BlobNeed::Bytes,
    };
    let outlet = request.extensions.get::<SendfileQueue>().cloned();
    let pulled = cache.blob(grant, digest, need).await;
    match pulled.map(|it| Pulled { what: it.what.through(outlet), ..it }) {
        Ok(pulled) if etag_matches(&request.headers, digest.as_str()) => {
            let mut reply = whole(&pulled, digest);
            *reply.response.status_mut() = StatusCode::NOT_MODIFIED;
            reply.without_body();
            reply
        }
        Ok(pulled) => selected(&pulled, digest, range),
        Err(error) => RouteReply::failed(&error, ErrorCode::BlobUnknown),
    }
}

async fn head(cache: &Cache, grant: &Grant, digest: &Digest, headers: &HeaderMap) -> RouteReply {
    let pulled = match cache.blob_head(grant, digest).await {
        Ok(pulled) => pulled,
        Err(error) => return RouteReply::failed(&error, ErrorCode::BlobUnknown),
    };
    let not_modified = etag_matches(headers, digest.as_str());
    let status = if not_modified { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut reply = RouteReply::content(status, ReplyBody::empty(), Some(digest));
    reply.blob_headers();
    if let Some(total) = pulled.what.total {
        reply.length(total);
    }
    reply.decided(pulled.decision);
    reply
}

/// The `Range` that is to be obeyed. More than one such line is none.
fn range_of<'a>(headers: &'a HeaderMap, digest: &Digest) -> Option<&'a str> {
    let mut lines = headers.get_all(RANGE).into_iter();
    let line = lines.next()?;
    let is_obeyed = lines.next().is_none() && range_applies(headers, digest.as_str());
    line.to_str().ok().filter(|_| is_obeyed)
}

fn selected(pulled: &Pulled<Blob>, digest: &Digest, range: Option<&str>) -> RouteReply {
    let (Some(range), Some(total)) = (range, pulled.what.total()) else {
        return whole(pulled, digest);
    };
    match RangeSelection::of(range, total) {
        RangeSelection::Whole => whole(pulled, digest),
        RangeSelection::Part(bytes) => part(pulled, digest, bytes, total),
        RangeSelection::Parts(parts) => several(pulled, digest, parts, total),
        RangeSelection::Unsatisfiable => {
            let mut reply = RouteReply::bare(StatusCode::RANGE_NOT_SATISFIABLE);
            reply.length(0);
            reply.content_range(&format!("bytes */{total}"));
            reply.decided(pulled.decision);
            reply
        }
        // Lazy pullers (stargz, SOCI, zstd:chunked) take this as a word to ask for less.
        RangeSelection::TooMuch => {
            let message = format!("more than {RANGES_MAX} ranges, or more bytes than there are");
            RouteReply::error(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
        }
    }
}

fn part(pulled: &Pulled<Blob>, digest: &Digest, bytes: Range<u64>, total: u64) -> RouteReply {
    let (first, last, len) = (bytes.start, bytes.end - 1, bytes.end - bytes.start);
    let is_verified = pulled.what.is_verified() || bytes.end == total;
    let body = ReplyBody::of(pulled.what.part(bytes), Some(len));
    let mut reply = partial(pulled, digest, body, is_verified);
    reply.length(len);
    reply.content_range(&format!("bytes {first}-{last}/{total}"));
    reply
}

fn several(
    pulled: &Pulled<Blob>,
    digest: &Digest,
    parts: Vec<Range<u64>>,
    total: u64,
) -> RouteReply {
    let is_verified = pulled.what.is_verified() || parts.iter().all(|part| part.end == total);
    let multipart = MultipartBody::new(OCTET_STREAM, total);
    let content_type = multipart.content_type();
    let (body, len) = multipart.into_body(parts, |part| pulled.what.part(part));
    let mut reply = partial(pulled, digest, body, is_verified);
    reply.length(len);
    if let Ok(value) = HeaderValue::from_str(&content_type) {
        reply.set(CONTENT_TYPE, value);
    }
    reply
}

fn partial(
    pulled: &Pulled<Blob>,
    digest: &Digest,
    body: ReplyBody,
    is_verified: bool,
) -> RouteReply {
    let mut reply = RouteReply::content(StatusCode::PARTIAL_CONTENT, body, Some(digest));
    reply.blob_headers();
    reply.decided(pulled.decision.of_part(is_verified));
    reply
}

fn whole(pulled: &Pulled<Blob>, digest: &Digest) -> RouteReply {
    let mut reply = RouteReply::content(StatusCode::OK, pulled.what.whole(), Some(digest));
    reply.blob_headers();
    if let Some(total) = pulled.what.total() {
        reply.length(total);
    }
    reply.decided(pulled.decision);
    reply
}

const OCTET_STREAM: &str = "application/octet-stream";
