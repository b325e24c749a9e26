//! A request that changes something at a registry, and what the registry says to it.
//!
//! Whatever the registry says is handed on: it alone decides what becomes of a push. Only what is no
//! answer of its own is an error here. A body that comes as a stream is sent once; before its first
//! byte is asked for, there is a token and a connection, because a refusal after it cannot be met.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, VIA};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use url::Url;

use super::answer::is_error;
use super::backoff::LimitClass;
use super::body::AnswerBody;
use super::redirect::{HOPS_MAX, RedirectRefusal, is_redirect, next};
use super::request::place;
use super::scope::TokenScope;
use super::transport::{CallKind, CallPurpose, UpstreamTransport, host_of};
use super::{ClientCredential, UploadBody, UploadLocation, UpstreamError, UpstreamMeter};
use crate::http::{Incoming, ReplyBody, Via};
use crate::oci::{RepositoryName, Resource};

/// A request that changes something, or asks how far a change is.
pub struct ChangeCall {
    /// DELETE, GET, PATCH, POST or PUT.
    pub method: Method,
    /// In which repository, by its name at the upstream.
    pub repository: RepositoryName,
    /// What of it.
    pub target: ChangeTarget,
    /// Arguments that are added, encoded; empty for none.
    pub query: String,
    /// The repository that a blob is to be mounted from, which takes leave to read there.
    pub source: Option<RepositoryName>,
    /// What the body is: its type, and which part.
    pub headers: HeaderMap,
    /// The body.
    pub payload: ChangePayload,
    /// With whose credential; `None` for Larder's own.
    pub client: Option<ClientCredential>,
    /// Through which other instances of Larder the request came that makes us ask.
    pub via: Via,
}

/// What a change is to be made to.
pub enum ChangeTarget {
    /// An upload under way.
    Upload(UploadLocation),
    /// Anything else.
    Resource(Resource),
}

/// The body of a change.
pub enum ChangePayload {
    /// None.
    Empty,
    /// Bytes at hand, which can be sent again.
    Small(Bytes),
    /// Bytes that come as they are sent.
    Streamed(UploadBody),
}

/// What the registry said.
pub struct ChangeResponse {
    /// Any status but a redirect.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// An error of the distribution-spec, if it is one.
    pub error: Option<Bytes>,
    /// Whether it had all of the body when it said so.
    pub is_body_sent: bool,
    /// Who said it.
    pub host: String,
    /// Whether it is not the upstream itself, but where it led.
    pub(super) is_foreign: bool,
    /// Where that was.
    url: Url,
}

/// A change as HTTP.
pub(super) struct ChangeRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) scope: TokenScope,
    pub(super) via: Via,
    /// Whether it goes to another origin than the upstream's, where no credential of it goes.
    pub(super) is_foreign: bool,
    is_repeatable: bool,
}

impl ChangeRequest {
    pub(super) fn of(base: &Url, change: ChangeCall) -> (Self, ChangePayload) {
        let ChangeCall { method, repository, target, query, source, payload, client, via, .. } =
            change;
        let mut headers = change.headers;
        // An upload that is begun twice is one that nobody goes on with, a manifest put twice is put.
        // A part of an upload, or its end, is another thing the second time.
        let is_repeatable = match &target {
            ChangeTarget::Resource(_) => method != Method::DELETE,
            ChangeTarget::Upload(_) => method == Method::GET,
        };
        let mut url = match target {
            ChangeTarget::Resource(resource) => place(base, &repository, &resource, ""),
            ChangeTarget::Upload(location) => location.url().clone(),
        };
        if !query.is_empty() {
            let query = [url.query().unwrap_or_default(), &query].join("&");
            url.set_query(Some(query.trim_start_matches('&')));
        }
        // Gateways refuse a POST or PUT that does not say how long it is (RFC 9110, 8.6).
        if payload.is_empty() && method != Method::GET && method != Method::DELETE {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let scope = if method == Method::DELETE {
            TokenScope::delete(&repository)
        } else {
            TokenScope::push(&repository, source.as_ref())
        };
        let scope = scope.of(client);
        let is_foreign = url.origin() != base.origin();
        (Self { method, url, headers, scope, via, is_foreign, is_repeatable }, payload)
    }

    /// Whether it may be sent again when no answer came.
    pub(super) fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }
}

impl ChangePayload {
    fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Small(bytes) => bytes.is_empty(),
            Self::Streamed(_) => false,
        }
    }

    /// The same once more, where that is possible.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Small(bytes) => Some(Self::Small(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }
}

impl ChangeResponse {
    /// Where the upload goes on; `base` is the upstream.
    pub(super) fn location(&self, base: &Url) -> Result<UploadLocation, UpstreamError> {
        UploadLocation::read(base, &self.url, &self.headers).map_err(|refusal| match refusal {
            RedirectRefusal::Forbidden { target, reason } => UpstreamError::Forbidden {
                host: self.host.clone(),
                target,
                reason: reason.to_owned(),
            },
            RedirectRefusal::Malformed(reason) => UpstreamError::Unexpected {
                host: self.host.clone(),
                status: self.status,
                reason: reason.to_owned(),
            },
        })
    }

    /// Whether the upstream itself wants to know who asks, or who asks may not.
    pub(super) fn is_refusal(&self) -> bool {
        let refused = matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        refused && !self.is_foreign
    }

    async fn read(
        response: Response<Incoming>,
        url: Url,
        (is_foreign, is_body_sent): (bool, bool),
        meter: Arc<UpstreamMeter>,
    ) -> Self {
        let (head, body) = response.into_parts();
        let host = host_of(&url);
        let body = AnswerBody::new(body, head.status, host.clone(), None, meter);
        let is_failure = head.status.is_client_error() || head.status.is_server_error();
        let error = if is_failure { body.collect(ERROR_BYTES_MAX).await.ok() } else { None };
        let error = error.filter(|body| is_error(body));
        let (status, headers) = (head.status, head.headers);
        Self { status, headers, error, is_body_sent, host, is_foreign, url }
    }
}

impl UpstreamTransport {
    /// Sends `errand` to where it goes, with a credential if that is the upstream itself.
    pub(super) async fn change(
        &self,
        errand: &ChangeRequest,
        payload: ChangePayload,
        authorization: Option<&HeaderValue>,
    ) -> Result<ChangeResponse, UpstreamError> {
        let who = errand.scope.who();
        self.check(&errand.url, LimitClass::Push, who)?;
        let _permits = self.push_permits().await?;
        let (mut url, mut is_foreign) = (errand.url.clone(), errand.is_foreign);
        let mut again = payload.again();
        let mut payload = Some(payload);
        for _ in 0..=HOPS_MAX {
            let Some(body) = payload.take() else { break };
            let mut headers = errand.headers.clone();
            headers.extend(errand.via.header(self.instance).map(|value| (VIA, value)));
            if let Some(value) = authorization.filter(|_| !is_foreign) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let purpose = if is_foreign { CallPurpose::Redirect } else { CallPurpose::Registry };
            let (body, watch) = match body {
                ChangePayload::Empty => (ReplyBody::empty(), None),
                ChangePayload::Small(bytes) => (ReplyBody::full(bytes), None),
                ChangePayload::Streamed(streamed) => {
                    let (body, watch) = streamed.watched();
                    (body, Some(watch))
                }
            };
            let request = (&errand.method, &url, headers, body);
            let response = self
                .exchange(
                    request,
                    CallKind { purpose, class: LimitClass::Push, who },
                    watch.as_ref(),
                )
                .await?
                .response;
            let is_body_sent =
                watch.as_ref().is_none_or(super::outgoing::UploadStallTimer::is_sent);
            if let Some(watch) = &watch {
                watch.stop();
            }
            if !is_redirect(response.status()) {
                let meter = Arc::clone(&self.meter);
                return Ok(
                    ChangeResponse::read(response, url, (is_foreign, is_body_sent), meter).await
                );
            }
            let (host, status) = (host_of(&url), response.status());
            // Others would turn it into a GET.
            if !matches!(status.as_u16(), 307 | 308) {
                break;
            }
            url = next(&url, response.headers()).map_err(|refusal| match refusal {
                RedirectRefusal::Forbidden { target, reason } => {
                    UpstreamError::Forbidden { host, target, reason: reason.to_owned() }
                }
                RedirectRefusal::Malformed(reason) => {
                    UpstreamError::Unexpected { host, status, reason: reason.to_owned() }
                }
            })?;
            is_foreign = is_foreign || url.origin() != self.url.origin();
            payload = again.take();
            again = payload.as_ref().and_then(ChangePayload::again);
        }
        Err(UpstreamError::Unexpected {
            host: self.host.clone(),
            status: StatusCode::TEMPORARY_REDIRECT,
            reason: "it redirects what cannot be sent again".to_owned(),
        })
    }
}

/// The longest error that is passed on, in bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;
