//! Every status, header and error body that a client can get.
//!
//! Errors are the distribution-spec's JSON. A message names the upstream and the cause, and a
//! request id by which the operator finds the log line; it never has a credential or the query of
//! a URL, for no error type has one.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LINK,
    LOCATION, RETRY_AFTER, WARNING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::door::ResolveError;
use super::entrance::BadHost;
use crate::access::{AccessDenied, LoginError};
use crate::cache::{CacheError, CachedManifest, Decision, ListPage, Pulled};
use crate::http::{ForwardingLoop, ReplyBody};
use crate::oci::{Digest, ErrorCode, NotACall, RepositoryName};
use crate::push;
use crate::push::PushAnswer;
use crate::upstream;

/// An answer on its way, and what the log will say of it.
#[derive(Debug)]
pub(super) struct RouteReply {
    pub(super) response: Response<ReplyBody>,
    /// Set where the header is, so that the two cannot differ.
    decision: Option<Decision>,
    /// What went wrong, for the log.
    pub(super) fault: Option<ReplyFault>,
    /// What the upstream refused to who asked, if that is what went wrong.
    pub(super) refusal: Option<UpstreamRefusal>,
}

/// What an upstream refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamRefusal {
    /// The credential, everywhere.
    Credential,
    /// The repository.
    Repository,
}

/// What went wrong.
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
        Self { response, decision: None, fault: None, refusal: None }
    }

    /// `{}`, which says that there is a registry here.
    pub(super) fn ping() -> Self {
        let mut reply = Self::json(StatusCode::OK, b"{}".to_vec());
        reply.set(API_VERSION, HeaderValue::from_static("registry/2.0"));
        reply
    }

    /// An error of the distribution-spec.
    pub(super) fn error(status: StatusCode, code: ErrorCode, message: String) -> Self {
        let request_id = format!("{:016x}", fastrand::u64(..));
        let detail = ErrorDetail { request_id: &request_id };
        let errors = [ErrorItem { code: code.as_str(), message: &message, detail }];
        // A struct of strings always serialises; the body is for people in any case.
        let body = serde_json::to_vec(&ErrorBody { errors }).unwrap_or_default();
        let mut reply = Self::json(status, body);
        reply.fault = Some(ReplyFault { request_id, message });
        reply
    }

    /// A request that leads nowhere.
    pub(super) fn not_entered(error: &ResolveError) -> Self {
        let (status, code) = match error {
            ResolveError::NotACall(NotACall::Digest(_)) => {
                (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid)
            }
            ResolveError::NotACall(NotACall::Encoding | NotACall::Name(_)) => {
                (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid)
            }
            ResolveError::NotACall(NotACall::Reference(_)) => {
                (StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid)
            }
            ResolveError::NotACall(NotACall::TooLong) => {
                (StatusCode::URI_TOO_LONG, ErrorCode::NameInvalid)
            }
            ResolveError::NotACall(NotACall::Catalogue | NotACall::NoSuchRoute) => {
                (StatusCode::NOT_FOUND, ErrorCode::Unsupported)
            }
            ResolveError::BadHost(BadHost::Foreign) => {
                (StatusCode::MISDIRECTED_REQUEST, ErrorCode::Unsupported)
            }
            ResolveError::BadHost(BadHost::Invalid | BadHost::Missing | BadHost::Several) => {
                (StatusCode::BAD_REQUEST, ErrorCode::Unsupported)
            }
            ResolveError::TwoNamespaces => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
            ResolveError::Closed(_)
            | ResolveError::NoDefault
            | ResolveError::UnknownRegistry(_) => (StatusCode::NOT_FOUND, ErrorCode::NameUnknown),
        };
        Self::error(status, code, error.to_string())
    }

    /// A request whose end another reader may see elsewhere.
    pub(super) fn oddly_coded() -> Self {
        let message = "`Transfer-Encoding` is not one `chunked`".to_owned();
        let mut reply = Self::error(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message);
        reply.set(http::header::CONNECTION, HeaderValue::from_static("close"));
        reply
    }

    /// A method that the route does not have, or not where nobody pushes. `methods` are those it has.
    pub(super) fn not_allowed(message: &str, methods: &str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut reply = Self::error(status, ErrorCode::Unsupported, message.to_owned());
        if let Ok(methods) = HeaderValue::from_str(methods) {
            reply.set(http::header::ALLOW, methods);
        }
        reply
    }

    /// A request that has been here before.
    pub(super) fn looped(error: ForwardingLoop) -> Self {
        Self::error(StatusCode::LOOP_DETECTED, ErrorCode::Unavailable, error.to_string())
    }

    /// What is not there, for a client that may not know whether it is: in all but the log the same as
    /// an upstream's own 404.
    pub(super) fn absent(host: &str, code: ErrorCode, refused: &AccessDenied) -> Self {
        let absent = upstream::UpstreamError::NotFound { host: host.to_owned(), said: None };
        let mut reply = Self::failed(&absent.into(), code);
        if let Some(fault) = &mut reply.fault {
            fault.message = refused.to_string();
        }
        reply
    }

    /// Says that a login would be of use.
    pub(super) fn challenges(&mut self) {
        let basic = HeaderValue::from_static(r#"Basic realm="larder", charset="UTF-8""#);
        self.set(WWW_AUTHENTICATE, basic);
    }

    /// Keeps to itself how the answer came about.
    pub(super) fn says_not_how(&mut self) {
        self.headers().remove(CACHE_STATUS);
    }

    /// What the client has to present. The realm is the same for every host: it is shown to people.
    pub(super) fn challenge(message: &impl ToString) -> Self {
        let (status, code) = (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
        let mut reply = Self::error(status, code, message.to_string());
        reply.challenges();
        reply
    }

    /// A login that is turned away.
    pub(super) fn turned(turned: LoginError) -> Self {
        let (status, code, wait) = match turned {
            LoginError::BadCredentials => return Self::challenge(&turned),
            LoginError::DuplicateHeader => (StatusCode::BAD_REQUEST, ErrorCode::Unauthorized, None),
            LoginError::Busy => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, Some(1)),
            LoginError::RateLimited { wait } => {
                let wait = Some(wait.as_secs().max(1));
                (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, wait)
            }
        };
        let mut reply = Self::error(status, code, turned.to_string());
        if let Some(wait) = wait {
            reply.set(RETRY_AFTER, HeaderValue::from(wait));
        }
        reply
    }

    /// What the client may not do. Who may not know of a repository reads what would be read of one
    /// that does not exist at all; the log says why.
    pub(super) fn refused(host: &str, refused: &AccessDenied) -> Self {
        match refused {
            AccessDenied::NoRuleForAction | AccessDenied::ReadOnly { .. } => {
                let (status, code) = (StatusCode::FORBIDDEN, ErrorCode::Denied);
                return Self::error(status, code, refused.to_string());
            }
            AccessDenied::Excluded
            | AccessDenied::LoginRequired
            | AccessDenied::NotConfirmed
            | AccessDenied::NoRuleForRepository
            | AccessDenied::Turned(_)
            | AccessDenied::Upstream(_) => {}
        }
        let message = format!("{host} does not have it");
        let mut reply = Self::error(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, message);
        if let Some(fault) = &mut reply.fault {
            fault.message = refused.to_string();
        }
        reply
    }

    /// A pull that cannot be answered. `absent` is the code for what is not there.
    pub(super) fn failed(error: &CacheError, absent: ErrorCode) -> Self {
        let (status, code) = status_of(error, absent);
        let mut reply = Self::error(status, code, error.to_string());
        reply.refusal = match error {
            CacheError::Upstream(upstream::UpstreamError::CredentialRefused { .. }) => {
                Some(UpstreamRefusal::Credential)
            }
            CacheError::Upstream(upstream::UpstreamError::Denied { .. }) => {
                Some(UpstreamRefusal::Repository)
            }
            _ => None,
        };
        if let CacheError::Upstream(upstream::UpstreamError::Throttled {
            wait: Some(wait), ..
        }) = error
        {
            reply.set(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        if let CacheError::Absent { said: Some(said), .. }
        | CacheError::Upstream(upstream::UpstreamError::NotFound {
            said: Some(said), ..
        }) = error
        {
            reply.length(said.len() as u64);
            *reply.response.body_mut() = ReplyBody::full(said.clone());
        }
        if let CacheError::Absent { decision, age, .. } = error {
            reply.set(AGE, HeaderValue::from(age.as_secs()));
            reply.decided(*decision);
        }
        reply
    }

    /// What a registry said to a push. `absent` is the code of a 404 that it does not explain.
    pub(super) fn pushed(answer: PushAnswer, location: Option<&str>, absent: ErrorCode) -> Self {
        let PushAnswer { status, headers, error, host, is_mounted, .. } = answer;
        let mut reply = if status.is_success() {
            let mut reply = Self::bare(status);
            // 204 has none (RFC 9110, 8.6).
            if status != StatusCode::NO_CONTENT {
                reply.length(0);
            }
            reply
        } else {
            let code = code_of(status, absent);
            Self::error(status, code, format!("{host} answered {status}"))
        };
        if let Some(error) = error {
            reply.length(error.len() as u64);
            *reply.response.body_mut() = ReplyBody::full(error);
        }
        reply.headers().extend(headers);
        reply.decided(Decision::Relayed { mounted: is_mounted });
        if let Some(Ok(value)) = location.map(HeaderValue::from_str) {
            reply.set(LOCATION, value);
        }
        reply
    }

    /// A push that is not passed on, or to which nothing was said. `invalid` is the code for a request
    /// that makes no sense.
    pub(super) fn not_pushed(error: &push::PushError, invalid: ErrorCode) -> Self {
        let (status, code) = match error {
            push::PushError::Body(_) | push::PushError::Invalid(_) => {
                (StatusCode::BAD_REQUEST, invalid)
            }
            push::PushError::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
            push::PushError::Internal(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unavailable)
            }
            push::PushError::Range(_) => {
                (StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::BlobUploadInvalid)
            }
            push::PushError::TooLong { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid)
            }
            push::PushError::UnknownUpload => (StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown),
            push::PushError::Upstream(upstream::UpstreamError::Denied { status, .. }) => {
                (*status, code_of(*status, ErrorCode::NameUnknown))
            }
            push::PushError::Upstream(error) => status_of_upstream(error, ErrorCode::NameUnknown),
        };
        let mut reply = Self::error(status, code, error.to_string());
        if let push::PushError::Upstream(upstream::UpstreamError::Throttled {
            wait: Some(wait),
            ..
        }) = error
        {
            reply.set(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        reply
    }

    /// Content by digest: what all answers for it have in common.
    pub(super) fn content(status: StatusCode, body: ReplyBody, digest: Option<&Digest>) -> Self {
        let mut reply = Self::bare(status);
        *reply.response.body_mut() = body;
        if let Some(digest) = digest {
            if let Ok(value) = HeaderValue::from_str(digest.as_str()) {
                reply.set(CONTENT_DIGEST, value);
            }
            if let Ok(value) = HeaderValue::try_from(["\"", digest.as_str(), "\""].concat()) {
                reply.set(ETAG, value);
            }
        }
        reply
    }

    /// A manifest. For a tag, with its age and a warning when it is stale.
    pub(super) fn manifest(pulled: &Pulled<std::sync::Arc<CachedManifest>>) -> Self {
        let manifest = &pulled.what;
        let body = ReplyBody::full(manifest.body().clone());
        let mut reply = Self::content(StatusCode::OK, body, manifest.digest());
        reply.length(manifest.body().len() as u64);
        if let Ok(value) = HeaderValue::from_str(manifest.media_type.as_str()) {
            reply.set(CONTENT_TYPE, value);
        }
        if let Some(age) = pulled.age {
            reply.set(AGE, HeaderValue::from(age.as_secs()));
        }
        reply.decided(pulled.decision);
        reply
    }

    /// A page of a list; `link` is where the next one is.
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
        reply.set(NOSNIFF, HeaderValue::from_static("nosniff"));
        if let Some(age) = pulled.age {
            reply.set(AGE, HeaderValue::from(age.as_secs()));
        }
        reply.decided(pulled.decision);
        reply
    }

    /// The answer to `n=0`: no tags, and no link to more (distribution-spec, "Listing Tags").
    pub(super) fn no_tags(repository: &RepositoryName) -> Self {
        // A name holds no character that JSON would escape.
        Self::json(StatusCode::OK, format!(r#"{{"name":"{repository}","tags":[]}}"#))
    }

    /// Blobs never change, and are bytes whatever is in them.
    pub(super) fn blob_headers(&mut self) {
        self.set(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        self.set(CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable"));
        self.set(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self.set(NOSNIFF, HeaderValue::from_static("nosniff"));
    }

    pub(super) fn length(&mut self, length: u64) {
        self.set(CONTENT_LENGTH, HeaderValue::from(length));
    }

    pub(super) fn content_range(&mut self, range: &str) {
        if let Ok(value) = HeaderValue::from_str(range) {
            self.set(CONTENT_RANGE, value);
        }
    }

    /// Says how the request was answered.
    pub(super) fn decided(&mut self, decision: Decision) {
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

    /// How it was, if the cache had a part in it.
    pub(super) fn decision(&self) -> Option<Decision> {
        self.decision
    }

    pub(super) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers().insert(name, value);
    }

    /// The headers stay, the content goes: for HEAD and 304.
    pub(super) fn without_body(&mut self) {
        *self.response.body_mut() = ReplyBody::empty();
    }

    fn headers(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }

    fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut reply = Self::bare(status);
        reply.length(body.len() as u64);
        *reply.response.body_mut() = ReplyBody::full(body);
        reply.set(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply
    }
}

/// The one place where a fault becomes a status.
fn status_of(error: &CacheError, absent: ErrorCode) -> (StatusCode, ErrorCode) {
    match error {
        CacheError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unavailable),
        CacheError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, ErrorCode::Unavailable),
        CacheError::Absent { .. } | CacheError::Offline { .. } => (StatusCode::NOT_FOUND, absent),
        CacheError::Corrupt { .. } | CacheError::Manifest { .. } | CacheError::NoLength { .. } => {
            (StatusCode::BAD_GATEWAY, ErrorCode::Unavailable)
        }
        CacheError::Upstream(error) => status_of_upstream(error, absent),
    }
}

fn status_of_upstream(
    error: &upstream::UpstreamError,
    absent: ErrorCode,
) -> (StatusCode, ErrorCode) {
    match error {
        upstream::UpstreamError::Stalled { .. } => {
            (StatusCode::GATEWAY_TIMEOUT, ErrorCode::Unavailable)
        }
        // The ring is closed further up. Who asked us shall not ask again either.
        upstream::UpstreamError::Unexpected { status, .. }
            if *status == StatusCode::LOOP_DETECTED =>
        {
            (StatusCode::LOOP_DETECTED, ErrorCode::Unavailable)
        }
        upstream::UpstreamError::NotFound { .. } => (StatusCode::NOT_FOUND, absent),
        // A mirror must not challenge: dockerd would offer Docker Hub's password to whoever asks.
        // Docker Hub itself says 401 for what does not exist.
        upstream::UpstreamError::Denied { status, .. } if *status == StatusCode::UNAUTHORIZED => {
            (StatusCode::NOT_FOUND, absent)
        }
        upstream::UpstreamError::Denied { .. } => (StatusCode::FORBIDDEN, ErrorCode::Denied),
        upstream::UpstreamError::Throttled { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests)
        }
        upstream::UpstreamError::Interrupted { .. } => {
            (StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid)
        }
        upstream::UpstreamError::CredentialRefused { .. }
        | upstream::UpstreamError::Forbidden { .. }
        | upstream::UpstreamError::RangeNotSatisfiable { .. }
        | upstream::UpstreamError::Unexpected { .. }
        | upstream::UpstreamError::Unreachable { .. } => {
            (StatusCode::BAD_GATEWAY, ErrorCode::Unavailable)
        }
    }
}

/// The code that goes with a status, where nobody says a better one.
fn code_of(status: StatusCode, absent: ErrorCode) -> ErrorCode {
    match status {
        StatusCode::UNAUTHORIZED => ErrorCode::Unauthorized,
        StatusCode::FORBIDDEN => ErrorCode::Denied,
        StatusCode::NOT_FOUND => absent,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::Unsupported,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::SizeInvalid,
        StatusCode::TOO_MANY_REQUESTS => ErrorCode::TooManyRequests,
        status if status.is_server_error() => ErrorCode::Unavailable,
        _ => ErrorCode::BlobUploadInvalid,
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
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
