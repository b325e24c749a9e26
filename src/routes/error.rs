//! Why a request is not answered with what it asks for, and what the client reads instead.
//!
//! This is the one place that decides between 401, 403 and 404: a client that must not know of a
//! repository reads the 404 of one that does not exist, and only the log says why. Whether access
//! is denied is decided in `access`; how an answer is put together, in `reply.rs`.

use http::header::{ALLOW, CONNECTION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use super::reply::RouteReply;
use crate::access::{AccessDenied, allowed_methods};
use crate::cache::CacheError;
use crate::http::{ForwardingLoop, RANGES_MAX, ReplyBody};
use crate::oci::{ApiCall, ErrorCode, InvalidPage, NotACall, Resource};
use crate::push::PushError;
use crate::registry::{Door, Registry};
use crate::upstream::UpstreamError;

/// Why a request is not answered with what it asks for.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The client may not do this, or its login is refused.
    #[error(transparent)]
    Access(#[from] AccessDenied),
    /// The request names its registry by a door that is closed at this listener.
    #[error("this way of naming a registry is disabled on this address (`doors`)")]
    ClosedDoor(Door),
    /// `ns` is given with different values.
    #[error("`ns` is given more than once")]
    ConflictingNamespaces,
    /// A page of another site has sent a request that would change something.
    #[error("requests that change something are not taken from pages of other sites")]
    CrossSite,
    /// The request names a host that this listener does not serve.
    #[error("this host is not served on this address (`names`)")]
    ForeignHost,
    /// The request has passed this instance before.
    #[error(transparent)]
    ForwardingLoop(ForwardingLoop),
    /// The text in the place of the host is no host.
    #[error("the request's host is not `host` or `host:port`")]
    InvalidHost,
    /// The page of a list cannot be read from the query.
    #[error(transparent)]
    InvalidPage(#[from] InvalidPage),
    /// The route does not have this method.
    #[error("the protocol has no such method here")]
    MethodNotAllowed,
    /// The request has no host (RFC 9112, 3.2; RFC 9113, 8.3.1).
    #[error("the request names no host")]
    MissingHost,
    /// The request has two hosts, and another reader might take the other one.
    #[error("the request names more than one host")]
    MultipleHosts,
    /// No registry is named, and none is the default.
    #[error("the request names no registry, and none is the `default`")]
    NoDefaultRegistry,
    /// The path is not one of the protocol's.
    #[error(transparent)]
    NotACall(#[from] NotACall),
    /// The cache has no answer to a pull.
    #[error("{error}")]
    Pull {
        error: CacheError,
        /// The code of a 404 that the upstream did not explain.
        absent: ErrorCode,
    },
    /// A push is not sent on, or has no answer.
    #[error("{error}")]
    Push {
        error: PushError,
        /// The code of a malformed request.
        invalid: ErrorCode,
    },
    /// The header asks for too many ranges, or for more bytes than the blob has.
    #[error("more than {RANGES_MAX} ranges, or more bytes than there are")]
    TooManyRanges,
    /// Another reader may see the end of the body elsewhere (RFC 9112, 6.1).
    #[error("`Transfer-Encoding` is not one `chunked`")]
    TransferCoding,
    /// The path begins with a name or alias of a registry, which has another prefix.
    #[error("`{0}` is no prefix here: its registry has another one, or none")]
    UnknownPrefix(String),
    /// The named registry is not configured.
    #[error("registry `{0}` is not configured here")]
    UnknownRegistry(String),
}

/// The parts of a request that its error answer depends on, as far as they were understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorContext<'a> {
    pub(super) call: Option<&'a ApiCall>,
    pub(super) registry: Option<&'a Registry>,
    /// Whether the listener asks clients for a password.
    pub(super) challenges: bool,
}

impl RequestError {
    /// The denial of a client whose own credential the upstream has refused. What it refuses to a
    /// credential that it knows is the answer to a push.
    pub(super) fn client_denial(&self) -> Option<AccessDenied> {
        match self {
            Self::Pull { error: CacheError::Upstream(error), .. }
            | Self::Push { error: PushError::Upstream(error), .. }
                if matches!(error, UpstreamError::CredentialRefused { .. }) =>
            {
                Some(AccessDenied::BadCredentials)
            }
            Self::Pull { error: CacheError::Upstream(UpstreamError::Denied { .. }), .. } => {
                Some(AccessDenied::NotConfirmed)
            }
            _ => None,
        }
    }

    /// The answer to the request.
    pub(super) fn to_reply(&self, context: ErrorContext<'_>) -> RouteReply {
        let error = |status, code| RouteReply::error(status, code, self.to_string());
        match self {
            Self::Access(denied) => context.denied(denied),
            Self::ClosedDoor(_)
            | Self::NoDefaultRegistry
            | Self::UnknownPrefix(_)
            | Self::UnknownRegistry(_) => error(StatusCode::NOT_FOUND, ErrorCode::NameUnknown),
            Self::ConflictingNamespaces => error(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
            Self::CrossSite => error(StatusCode::FORBIDDEN, ErrorCode::Denied),
            Self::ForeignHost => error(StatusCode::MISDIRECTED_REQUEST, ErrorCode::Unsupported),
            Self::ForwardingLoop(_) => error(StatusCode::LOOP_DETECTED, ErrorCode::Unavailable),
            Self::InvalidHost | Self::MissingHost | Self::MultipleHosts | Self::TooManyRanges => {
                error(StatusCode::BAD_REQUEST, ErrorCode::Unsupported)
            }
            Self::InvalidPage(InvalidPage::TooLong) => {
                error(StatusCode::URI_TOO_LONG, ErrorCode::SizeInvalid)
            }
            Self::InvalidPage(_) => {
                error(StatusCode::BAD_REQUEST, ErrorCode::PaginationNumberInvalid)
            }
            Self::MethodNotAllowed => context.not_allowed(&self.to_string()),
            Self::NotACall(path) => {
                let (status, code) = status_of_path(path);
                error(status, code)
            }
            Self::Pull { error, absent } => failed_pull(error, *absent),
            Self::Push { error, invalid } => failed_push(error, *invalid),
            Self::TransferCoding => error(StatusCode::BAD_REQUEST, ErrorCode::Unsupported)
                .with(CONNECTION, HeaderValue::from_static("close")),
        }
    }
}

impl ErrorContext<'_> {
    /// The answer to a client that may not do what it asks for, or whose login is refused.
    fn denied(self, denied: &AccessDenied) -> RouteReply {
        let error = |status, code| RouteReply::error(status, code, denied.to_string());
        match denied {
            AccessDenied::BadCredentials => challenge(denied),
            AccessDenied::DuplicateHeader => {
                error(StatusCode::BAD_REQUEST, ErrorCode::Unauthorized)
            }
            // A client that is never challenged cannot log in.
            AccessDenied::LoginRequired if self.challenges => challenge(denied),
            AccessDenied::Excluded
            | AccessDenied::LoginRequired
            | AccessDenied::NoRuleForRepository => self.hidden(ErrorCode::NameUnknown, denied),
            AccessDenied::LoginQueueFull => {
                let reply = error(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable);
                reply.with(RETRY_AFTER, HeaderValue::from(1))
            }
            AccessDenied::NoRuleForAction => error(StatusCode::FORBIDDEN, ErrorCode::Denied),
            AccessDenied::NotConfirmed => self.hidden(self.absent(), denied),
            AccessDenied::RateLimited { wait } => {
                let reply = error(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests);
                reply.with(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)))
            }
            AccessDenied::ReadOnly { .. } => self.not_allowed(&denied.to_string()),
            AccessDenied::Upstream(error) => failed_pull(&error.clone().into(), self.absent()),
        }
    }

    /// The 404 of a repository that does not exist, for a client that must not know of it. The log
    /// says why.
    fn hidden(self, code: ErrorCode, denied: &AccessDenied) -> RouteReply {
        let host = self.registry.map_or("", |registry| registry.upstream().host());
        let message = format!("{host} does not have it");
        let mut reply = RouteReply::error(StatusCode::NOT_FOUND, code, message);
        if let Some(fault) = &mut reply.fault {
            fault.message = denied.to_string();
        }
        reply
    }

    /// A 405, with the methods of the route (RFC 9110, 15.5.6).
    fn not_allowed(self, message: &str) -> RouteReply {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let reply = RouteReply::error(status, ErrorCode::Unsupported, message.to_owned());
        let takes_pushes = self.registry.is_some_and(Registry::takes_pushes);
        let methods = self.call.map(|call| allowed_methods(call, takes_pushes));
        match HeaderValue::try_from(methods.unwrap_or_default()) {
            Ok(methods) => reply.with(ALLOW, methods),
            Err(_) => reply,
        }
    }

    /// The code of a 404 about the resource.
    fn absent(self) -> ErrorCode {
        match self.call {
            Some(ApiCall::In(_, Resource::Blob(_))) => ErrorCode::BlobUnknown,
            Some(ApiCall::In(_, Resource::Manifest(_))) => ErrorCode::ManifestUnknown,
            Some(ApiCall::In(..) | ApiCall::Ping) | None => ErrorCode::NameUnknown,
        }
    }

    /// The answer to a push with the client's own credential. An upstream's 401 becomes a challenge
    /// of Larder where clients are challenged, and a 404 elsewhere.
    pub(super) fn with_client_credential(self, reply: RouteReply) -> RouteReply {
        if reply.response.status() != StatusCode::UNAUTHORIZED {
            return reply;
        }
        if self.challenges {
            return reply.with_challenge();
        }
        self.hidden(self.absent(), &AccessDenied::NotConfirmed)
    }
}

/// A 401 that asks for a password.
fn challenge(denied: &AccessDenied) -> RouteReply {
    let (status, code) = (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized);
    RouteReply::error(status, code, denied.to_string()).with_challenge()
}

fn failed_pull(error: &CacheError, absent: ErrorCode) -> RouteReply {
    let (status, code) = status_of_pull(error, absent);
    let mut reply = RouteReply::error(status, code, error.to_string());
    if let CacheError::Upstream(error) = error {
        reply = with_retry_after(reply, error);
    }
    if let CacheError::Absent { said: Some(said), .. }
    | CacheError::Upstream(
        UpstreamError::NotFound { said: Some(said), .. }
        | UpstreamError::Rejected { said: Some(said), .. },
    ) = error
    {
        reply.set_length(said.len() as u64);
        *reply.response.body_mut() = ReplyBody::full(said.clone());
    }
    if let CacheError::Absent { decision, age, .. } = error {
        reply.set_age(*age);
        reply.set_decision(*decision);
    }
    reply
}

fn failed_push(error: &PushError, invalid: ErrorCode) -> RouteReply {
    let (status, code) = match error {
        PushError::Busy => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests),
        PushError::Body(_) | PushError::Invalid(_) => (StatusCode::BAD_REQUEST, invalid),
        PushError::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        PushError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unavailable),
        PushError::Range(_) => (StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::BlobUploadInvalid),
        PushError::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid),
        PushError::UnknownUpload => (StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown),
        PushError::Upstream(UpstreamError::Denied { status, .. }) => {
            (*status, code_of_status(*status, ErrorCode::NameUnknown))
        }
        PushError::Upstream(error) => status_of_upstream(error, ErrorCode::NameUnknown),
    };
    let reply = RouteReply::error(status, code, error.to_string());
    match error {
        PushError::Busy => reply.with(RETRY_AFTER, HeaderValue::from(1)),
        PushError::Upstream(error) => with_retry_after(reply, error),
        _ => reply,
    }
}

fn with_retry_after(reply: RouteReply, error: &UpstreamError) -> RouteReply {
    match error {
        UpstreamError::Throttled { wait: Some(wait), .. } => {
            reply.with(RETRY_AFTER, HeaderValue::from(wait.as_secs()))
        }
        UpstreamError::LoginOutdated { .. } => reply.with(RETRY_AFTER, HeaderValue::from(1)),
        _ => reply,
    }
}

fn status_of_path(error: &NotACall) -> (StatusCode, ErrorCode) {
    match error {
        NotACall::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        NotACall::Encoding | NotACall::Name(_) => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
        NotACall::Reference(_) => (StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid),
        NotACall::TooLong => (StatusCode::URI_TOO_LONG, ErrorCode::NameInvalid),
        NotACall::Catalogue | NotACall::NoSuchRoute => {
            (StatusCode::NOT_FOUND, ErrorCode::Unsupported)
        }
    }
}

fn status_of_pull(error: &CacheError, absent: ErrorCode) -> (StatusCode, ErrorCode) {
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

fn status_of_upstream(error: &UpstreamError, absent: ErrorCode) -> (StatusCode, ErrorCode) {
    match error {
        UpstreamError::Stalled { .. } => (StatusCode::GATEWAY_TIMEOUT, ErrorCode::Unavailable),
        // The loop closes further up, so this client must not ask again either.
        UpstreamError::Unexpected { status, .. } if *status == StatusCode::LOOP_DETECTED => {
            (StatusCode::LOOP_DETECTED, ErrorCode::Unavailable)
        }
        UpstreamError::NotFound { .. } => (StatusCode::NOT_FOUND, absent),
        // A mirror must not challenge: dockerd would offer it Docker Hub's password. Docker Hub
        // itself answers 401 for a repository that does not exist.
        UpstreamError::Denied { status, .. } if *status == StatusCode::UNAUTHORIZED => {
            (StatusCode::NOT_FOUND, absent)
        }
        UpstreamError::Denied { .. } => (StatusCode::FORBIDDEN, ErrorCode::Denied),
        UpstreamError::Rejected { status, .. } => (*status, code_of_rejection(*status)),
        UpstreamError::Throttled { .. } => {
            (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests)
        }
        // A client that reads 401 gives up, and there is no login of its own that it could renew.
        UpstreamError::LoginOutdated { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable)
        }
        UpstreamError::Interrupted { .. } => {
            (StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid)
        }
        UpstreamError::CredentialRefused { .. }
        | UpstreamError::Forbidden { .. }
        | UpstreamError::NoCredential { .. }
        | UpstreamError::RangeNotSatisfiable { .. }
        | UpstreamError::StorageRefused { .. }
        | UpstreamError::TokenRefused { .. }
        | UpstreamError::Unexpected { .. }
        | UpstreamError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, ErrorCode::Unavailable),
    }
}

/// The code of an upstream's rejection of a pull, where the upstream did not explain it.
fn code_of_rejection(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::PAYMENT_REQUIRED | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => {
            ErrorCode::Denied
        }
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::SizeInvalid,
        _ => ErrorCode::Unsupported,
    }
}

/// The code of an upstream's status to a push, where the upstream did not explain it. `absent` is
/// the code of a 404.
pub(super) fn code_of_status(status: StatusCode, absent: ErrorCode) -> ErrorCode {
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
