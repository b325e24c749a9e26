//! `blobs/<digest>`, whole and in parts.

use http::header::RANGE;
use http::{HeaderMap, Method, StatusCode, Version};

use super::reply::Reply;
use crate::access::Grant;
use crate::cache::{Blob, Cache, Need, Pulled};
use crate::http::{Selection, etag_matches, range_applies};
use crate::oci::{Digest, ErrorCode};

/// GET and HEAD.
pub(super) async fn pull(
    cache: &Cache,
    grant: &Grant,
    digest: &Digest,
    request: &http::request::Parts,
) -> Reply {
    if request.method == Method::HEAD {
        return head(cache, grant, digest, &request.headers).await;
    }
    let range = range_of(&request.headers, digest);
    // HTTP/1.0 cannot show that a body without a length was cut off.
    let needs_length = range.is_some() || request.version <= Version::HTTP_10;
    let need = if needs_length { Need::Length } else { Need::Bytes };
    match cache.blob(grant, digest, need).await {
        Ok(pulled) if etag_matches(&request.headers, digest.as_str()) => {
            let mut reply = whole(pulled, digest);
            *reply.response.status_mut() = StatusCode::NOT_MODIFIED;
            reply.without_body();
            reply
        }
        Ok(pulled) => selected(pulled, digest, range),
        Err(error) => Reply::failed(&error, ErrorCode::BlobUnknown),
    }
}

async fn head(cache: &Cache, grant: &Grant, digest: &Digest, headers: &HeaderMap) -> Reply {
    let pulled = match cache.blob_head(grant, digest).await {
        Ok(pulled) => pulled,
        Err(error) => return Reply::failed(&error, ErrorCode::BlobUnknown),
    };
    let not_modified = etag_matches(headers, digest.as_str());
    let status = if not_modified { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut reply = Reply::content(status, crate::http::ReplyBody::empty(), Some(digest));
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

fn selected(pulled: Pulled<Blob>, digest: &Digest, range: Option<&str>) -> Reply {
    let (Some(range), Some(total)) = (range, pulled.what.total()) else {
        return whole(pulled, digest);
    };
    match Selection::of(range, total) {
        Selection::Whole => whole(pulled, digest),
        Selection::Part(part) => {
            let decision = pulled.decision;
            let (first, len) = (part.start, part.end - part.start);
            let last = part.end - 1;
            let body = pulled.what.into_body(Some(part));
            let mut reply = Reply::content(StatusCode::PARTIAL_CONTENT, body, Some(digest));
            reply.blob_headers();
            reply.length(len);
            reply.content_range(&format!("bytes {first}-{last}/{total}"));
            reply.decided(decision);
            reply
        }
        Selection::Unsatisfiable => {
            let mut reply = Reply::bare(StatusCode::RANGE_NOT_SATISFIABLE);
            reply.length(0);
            reply.content_range(&format!("bytes */{total}"));
            reply.decided(pulled.decision);
            reply
        }
        // Lazy pullers (stargz, SOCI, zstd:chunked) take this as a word to ask one by one.
        Selection::Many => Reply::error(
            StatusCode::BAD_REQUEST,
            ErrorCode::Unsupported,
            "one range in a request, please".to_owned(),
        ),
    }
}

fn whole(pulled: Pulled<Blob>, digest: &Digest) -> Reply {
    let (decision, total) = (pulled.decision, pulled.what.total());
    let body = pulled.what.into_body(None);
    let mut reply = Reply::content(StatusCode::OK, body, Some(digest));
    reply.blob_headers();
    if let Some(total) = total {
        reply.length(total);
    }
    reply.decided(decision);
    reply
}
