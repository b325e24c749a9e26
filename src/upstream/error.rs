//! The faults between the proxy and an upstream registry.
//!
//! Every variant says what happened. The answer to a *client* is decided where the reply is built;
//! messages here may name hosts, never credentials, and never the query of a URL (signed URLs
//! are secrets).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::http::TrustError;

/// An upstream request that gave no usable answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// Our credential is refused everywhere: by the token server, or by `/v2/` itself.
    #[error("{host} refuses our credential: {reason}")]
    CredentialRefused {
        /// The host that refused.
        host: String,
        /// 401 or 403.
        status: StatusCode,
        /// Its answer, in short.
        reason: String,
    },
    /// The credential works (or none is configured), but this repository answers 401 or 403.
    #[error("{host} answered {status}")]
    Denied {
        /// The registry that answered.
        host: String,
        /// 401 or 403.
        status: StatusCode,
    },
    /// A redirect, or a token server, that must not be followed: nothing was sent there.
    #[error("{host} points to {target}, which is not followed: {reason}")]
    Forbidden {
        /// The registry that pointed there.
        host: String,
        /// Scheme, host and port it pointed to.
        target: String,
        /// Why not, and which key would allow it.
        reason: String,
    },
    /// The sender broke off the body of a request.
    #[error("the request body for {host} was interrupted: {reason}")]
    Interrupted {
        /// The host that it was for.
        host: String,
        /// The fault beneath, in short.
        reason: String,
    },
    /// The upstream says that there is no such thing.
    #[error("{host} does not have it")]
    NotFound {
        /// The registry that answered.
        host: String,
        /// The error that it said so with, if a list was asked for and it is one of the
        /// specification: clients tell a repository that is not there from a list that is not.
        said: Option<Bytes>,
    },
    /// The range asked for begins at or behind the end.
    #[error("{host} has no bytes in the range asked for")]
    RangeNotSatisfiable {
        /// The registry that answered.
        host: String,
        /// The whole length, if it told (`Content-Range: bytes */N`).
        total: Option<u64>,
    },
    /// Bytes, or an end of bytes, were waited for and did not come, or in drops.
    #[error("{host} sent nothing, or next to nothing, for {} s", waited.as_secs())]
    Stalled {
        /// The host that was waited for.
        host: String,
        /// For how long.
        waited: Duration,
    },
    /// The upstream asks us to slow down (429, or 503 with `Retry-After`), or has done so and is
    /// not asked again yet.
    #[error("{host} is limiting us")]
    Throttled {
        /// The registry that answered.
        host: String,
        /// For how long it will not be asked again.
        wait: Option<Duration>,
    },
    /// The upstream answered with a status or in a form that the protocol gives no meaning here.
    #[error("{host} answered {status}: {reason}")]
    Unexpected {
        /// The registry that answered.
        host: String,
        /// The status of its answer.
        status: StatusCode,
        /// The fault in it.
        reason: String,
    },
    /// No answer came: name lookup, connection, TLS or the stream itself failed.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// The host that was called.
        host: String,
        /// The fault beneath, in short.
        reason: String,
    },
}

impl UpstreamError {
    /// An answer to which the protocol gives no meaning here, for this reason.
    pub(super) fn unexpected(host: String, status: StatusCode, reason: impl Into<String>) -> Self {
        Self::Unexpected { host, status, reason: reason.into() }
    }

    /// The host that answered, or did not.
    pub fn host(&self) -> &str {
        match self {
            Self::CredentialRefused { host, .. }
            | Self::Denied { host, .. }
            | Self::Forbidden { host, .. }
            | Self::Interrupted { host, .. }
            | Self::NotFound { host, .. }
            | Self::RangeNotSatisfiable { host, .. }
            | Self::Stalled { host, .. }
            | Self::Throttled { host, .. }
            | Self::Unexpected { host, .. }
            | Self::Unreachable { host, .. } => host,
        }
    }

    /// Whether the same request may succeed if it is sent again now.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Stalled { .. } | Self::Unreachable { .. } => true,
            Self::Unexpected { status, .. } => status.is_server_error(),
            Self::CredentialRefused { .. }
            | Self::Denied { .. }
            | Self::Forbidden { .. }
            | Self::Interrupted { .. }
            | Self::NotFound { .. }
            | Self::RangeNotSatisfiable { .. }
            | Self::Throttled { .. } => false,
        }
    }

    /// Whether the upstream cannot say now, and another one may be asked in its stead. A method
    /// that it does not know is something that it says.
    pub(super) fn is_an_outage(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::RangeNotSatisfiable { .. }
            | Self::Interrupted { .. }
            | Self::Forbidden { .. } => false,
            Self::Unexpected { status, .. } => {
                !matches!(*status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
            }
            Self::CredentialRefused { .. }
            | Self::Stalled { .. }
            | Self::Throttled { .. }
            | Self::Unreachable { .. } => true,
        }
    }

    /// Whether this is about the credential that was used, so that another client might get another
    /// answer.
    pub fn is_about_the_asker(&self) -> bool {
        match self {
            Self::CredentialRefused { .. } | Self::Denied { .. } | Self::Throttled { .. } => true,
            Self::Forbidden { .. }
            | Self::Interrupted { .. }
            | Self::NotFound { .. }
            | Self::RangeNotSatisfiable { .. }
            | Self::Stalled { .. }
            | Self::Unexpected { .. }
            | Self::Unreachable { .. } => false,
        }
    }

    /// Whether a method is not known there. Registries that do not know HEAD for manifests say so
    /// in one of these ways.
    pub fn is_without_head(&self) -> bool {
        let status = match self {
            Self::Unexpected { status, .. } => *status,
            _ => return false,
        };
        matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
    }

    /// Whether this is the upstream's answer about this very repository, which is obeyed, and
    /// not an outage, which what is cached survives (promise 5).
    pub fn is_an_answer(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::NotFound { .. })
    }
}

/// Options that no upstream can be reached with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The certificates to trust are unusable.
    #[error("`ca` for {host}: {fault}")]
    Ca {
        /// The upstream.
        host: String,
        /// The fault in them.
        fault: TrustError,
    },
    /// The certificate to show, or its key, is unusable.
    #[error("`client_cert` for {host}: {fault}")]
    ClientCert {
        /// The upstream.
        host: String,
        /// The fault in it.
        fault: TrustError,
    },
    /// The URL says more, or less, than where a registry is.
    #[error("`upstream` must be `http://` or `https://`, a host, and perhaps a port and a path")]
    Url,
    /// The user cannot be written in an `Authorization` header (RFC 7617, 2).
    #[error("the user for {host} has a `:` or a control character in it")]
    Username {
        /// The upstream.
        host: String,
    },
}
