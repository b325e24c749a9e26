//! How an answer is put together: its status, headers and body.
//!
//! Errors are the distribution-spec's JSON. A message names the upstream and the cause, and a
//! request id by which the operator finds the log line; it never has a credential or the query of
//! a URL, because no error type has one. Which error a client reads is decided in `error.rs`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LINK,
    LOCATION, WARNING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::cache::{CachedManifest, Decision, DigestHeaders, ListPage, ManifestHeaders, Pulled};
use crate::http::ReplyBody;
use crate::oci::{Digest, ErrorCode, RepositoryName};
use crate::push::PushAnswer;

/// An answer to a client, and what the log will say of it.
#[derive(Debug)]
pub(super) struct RouteReply {
    pub(super) response: Response<ReplyBody>,
    /// Set together with its header, so that the log and the client read the same.
    decision: Option<Decision>,
    /// The error, for the log.
    pub(super) fault: Option<ReplyFault>,
}

/// The error that a client reads, and the id by which the log line is found.
#[derive(Debug)]
pub(super) struct ReplyFault {
    pub(super) request_id: String,
    pub(super) message: String,
}

impl RouteReply {
    /// An answer without content.
    pub(super) fn bare(status: StatusCode) -> Self {
        let mut response = Response::new(ReplyBody::empty());
        *response.status_mut() = status;
        response.headers_mut().reserve(HEADERS);
        Self { response, decision: None, fault: None }
    }

    /// The answer to `/v2/` (distribution-spec, "Determining Support").
    pub(super) fn ping() -> Self {
        let mut reply = Self::json(StatusCode::OK, b"{}".to_vec());
        reply.set(API_VERSION, HeaderValue::from_static("registry/2.0"));
        reply
    }

    /// An error body of the distribution-spec ("Error Codes").
    pub(super) fn error(status: StatusCode, code: ErrorCode, message: String) -> Self {
        let request_id = format!("{:016x}", fastrand::u64(..));
        let detail = ErrorDetail { request_id: &request_id };
        let errors = [ErrorItem { code: code.as_str(), message: &message, detail }];
        // A struct of strings always serialises.
        let body = serde_json::to_vec(&ErrorBody { errors }).unwrap_or_default();
        let mut reply = Self::json(status, body);
        reply.fault = Some(ReplyFault { request_id, message });
        reply
    }

    /// Asks for a password (RFC 7617). The realm is the same for every host: people read it.
    pub(super) fn with_challenge(self) -> Self {
        let basic = HeaderValue::from_static(r#"Basic realm="larder", charset="UTF-8""#);
        self.with(WWW_AUTHENTICATE, basic)
    }

    /// Removes `Cache-Status`.
    pub(super) fn hide_cache_status(&mut self) {
        self.headers().remove(CACHE_STATUS);
    }

    /// The upstream's answer to a push. `code` is the one of an error that it did not explain.
    pub(super) fn pushed(answer: PushAnswer, location: Option<&str>, code: ErrorCode) -> Self {
        let PushAnswer { status, headers, error, host, is_mounted, .. } = answer;
        let mut reply = if status.is_success() {
            let mut reply = Self::bare(status);
            // A 204 has no `Content-Length` (RFC 9110, 8.6).
            if status != StatusCode::NO_CONTENT {
                reply.set_length(0);
            }
            reply
        } else {
            Self::error(status, code, format!("{host} answered {status}"))
        };
        if let Some(error) = error {
            reply.set_length(error.len() as u64);
            *reply.response.body_mut() = ReplyBody::full(error);
        }
        reply.headers().extend(headers);
        reply.set_decision(Decision::Relayed { mounted: is_mounted });
        if let Some(Ok(value)) = location.map(HeaderValue::from_str) {
            reply.set(LOCATION, value);
        }
        reply
    }

    /// Content with its digest and entity tag.
    pub(super) fn content(status: StatusCode, body: ReplyBody, digest: Option<&Digest>) -> Self {
        let mut reply = Self::bare(status);
        *reply.response.body_mut() = body;
        reply.set_digest(digest.and_then(DigestHeaders::of));
        reply
    }

    /// A manifest; by a tag, with its age, and with a warning when it is stale.
    pub(super) fn manifest(pulled: &Pulled<std::sync::Arc<CachedManifest>>) -> Self {
        let manifest = &pulled.what;
        let ManifestHeaders { length, media_type, digest } = manifest.headers.clone();
        let mut reply = Self::bare(StatusCode::OK);
        *reply.response.body_mut() = ReplyBody::full(manifest.body().clone());
        reply.set_digest(digest);
        reply.set(CONTENT_LENGTH, length);
        if let Some(media_type) = media_type {
            reply.set(CONTENT_TYPE, media_type);
        }
        if let Some(age) = pulled.age {
            reply.set_age(age);
        }
        reply.set_decision(pulled.decision);
        for warning in manifest.warnings.values() {
            reply.headers().append(WARNING, warning.clone());
        }
        reply
    }

    /// A page of a list; `link` is the path of the next one.
    pub(super) fn list(pulled: &Pulled<std::sync::Arc<ListPage>>, link: Option<&str>) -> Self {
        let list = &pulled.what;
        let mut reply = Self::json(StatusCode::OK, list.body.clone());
        if let Ok(value) = HeaderValue::from_str(&list.media_type) {
            reply.set(CONTENT_TYPE, value);
        }
        if let Some(Ok(value)) = list.filters_applied.as_deref().map(HeaderValue::from_str) {
            reply.set(FILTERS_APPLIED, value);
        }
        if let Some(link) = link
            && let Ok(value) = HeaderValue::from_str(&format!("<{link}>; rel=\"next\""))
        {
            reply.set(LINK, value);
        }
        if let Some(age) = pulled.age {
            reply.set_age(age);
        }
        reply.set_decision(pulled.decision);
        reply
    }

    /// The answer to `n=0`: no tags, and no link to more (distribution-spec, "Listing Tags").
    pub(super) fn no_tags(repository: &RepositoryName) -> Self {
        // A name has no character that JSON would escape.
        Self::json(StatusCode::OK, format!(r#"{{"name":"{repository}","tags":[]}}"#))
    }

    /// The headers of every blob: immutable, and opaque bytes whatever is in them.
    pub(super) fn set_blob_headers(&mut self) {
        self.set(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        self.set(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable"));
        self.set(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }

    fn set_digest(&mut self, headers: Option<DigestHeaders>) {
        if let Some(DigestHeaders { digest, etag }) = headers {
            self.set(CONTENT_DIGEST, digest);
            self.set(ETAG, etag);
        }
    }

    /// `Content-Length`, in bytes.
    pub(super) fn set_length(&mut self, length: u64) {
        self.set(CONTENT_LENGTH, HeaderValue::from(length));
    }

    /// `Age`, in whole seconds (RFC 9111, 5.1).
    pub(super) fn set_age(&mut self, age: Duration) {
        self.set(AGE, HeaderValue::from(age.as_secs()));
    }

    pub(super) fn set_content_range(&mut self, range: &str) {
        if let Ok(value) = HeaderValue::from_str(range) {
            self.set(CONTENT_RANGE, value);
        }
    }

    /// Sets `Cache-Status` (RFC 9211), and a warning where stale content is served.
    pub(super) fn set_decision(&mut self, decision: Decision) {
        self.decision = Some(decision);
        self.set(CACHE_STATUS, decision.to_header());
        if let Decision::Stale { .. } = decision {
            // RFC 7234, 5.5, in the form that the distribution-spec allows.
            let text = format!("299 - \"larder serves this stale: {}\"", decision.names().detail);
            if let Ok(value) = HeaderValue::from_str(&text) {
                self.set(WARNING, value);
            }
        }
    }

    /// The decision of the cache, if it took part in the answer.
    pub(super) fn decision(&self) -> Option<Decision> {
        self.decision
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.set(name, value);
        self
    }

    pub(super) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers().insert(name, value);
    }

    /// Removes the body and keeps the headers, for HEAD and 304.
    pub(super) fn remove_body(&mut self) {
        *self.response.body_mut() = ReplyBody::empty();
    }

    fn headers(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }

    fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut reply = Self::bare(status);
        reply.set_length(body.len() as u64);
        *reply.response.body_mut() = ReplyBody::full(body);
        reply.set(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    errors: [ErrorItem<'a>; 1],
}

#[derive(Serialize)]
struct ErrorItem<'a> {
    code: &'static str,
    message: &'a str,
    detail: ErrorDetail<'a>,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    request_id: &'a str,
}

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Headers of an answer with content, so that there is room for them at once.
const HEADERS: usize = 12;
