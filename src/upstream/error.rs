//! The faults between the proxy and an upstream registry, and what follows from each.
//!
//! Every variant says what happened; its meaning decides about retries, mirrors and what is cached.
//! The answer to a *client* is decided where the reply is built. Messages may name hosts, never
//! credentials, and never the query of a URL (signed URLs are secrets).

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::status::{StatusClass, is_without_method};
use crate::http::TrustError;

/// An upstream request that gave no usable answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// Our credential is refused everywhere: by the token server, or by `/v2/` itself.
    #[error("{host} rejects the credential (`auth`): {reason}")]
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
        /// Whether the registry itself said so, not something in between that refuses everything.
        is_proven: bool,
    },
    /// A redirect, or a token server, that must not be followed: nothing was sent there.
    #[error("{host} redirects to {target}, which is not followed: {reason}")]
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
    /// The login of a body that can be sent once was refused, and the next one brings another.
    #[error("{host} no longer takes the login that this began with ({status}); send it again")]
    LoginOutdated {
        /// The upstream.
        host: String,
        /// 401 or 403.
        status: StatusCode,
    },
    /// The source of Larder's credential gives none now. Nothing was sent.
    #[error("there is no credential (`auth`) for {host}: {reason}")]
    NoCredential {
        /// The upstream.
        host: String,
        /// Why not.
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
        /// Whether the registry itself said so. Not asked about what cannot change: no record
        /// depends on it.
        is_proven: bool,
    },
    /// The range asked for begins at or behind the end.
    #[error("{host} has no bytes in the requested range")]
    RangeNotSatisfiable {
        /// The registry that answered.
        host: String,
        /// The whole length, if it told (`Content-Range: bytes */N`).
        total: Option<u64>,
    },
    /// The upstream says on purpose that it does not answer this request: a 4xx that is neither
    /// about a login nor an absence nor a limit.
    #[error("{host} answered {status}, and rejects the request")]
    Rejected {
        /// The registry that answered.
        host: String,
        /// Any other 4xx.
        status: StatusCode,
        /// Its error, if it is one of the specification.
        said: Option<Bytes>,
    },
    /// Bytes, or an end of bytes, were waited for and did not come, or in drops.
    #[error("{host} timed out: nothing, or next to nothing, in {} s", waited.as_secs())]
    Stalled {
        /// The host that was waited for.
        host: String,
        /// For how long.
        waited: Duration,
    },
    /// Storage refuses the signed URL that the registry has redirected to. The next one may work.
    #[error("{host} answered {status} to a signed URL of the registry's")]
    StorageRefused {
        /// The storage.
        host: String,
        /// A 4xx.
        status: StatusCode,
    },
    /// The upstream asks us to slow down (429, or 503 with `Retry-After`), or has done so and is
    /// not asked again yet.
    #[error("{host} is rate limiting")]
    Throttled {
        /// The registry that answered.
        host: String,
        /// For how long it will not be asked again.
        wait: Option<Duration>,
        /// Whether it is a host that a redirect led to. It is shown no login, so that none of them
        /// is what it limits.
        by_storage: bool,
    },
    /// The registry refuses a token as invalid, at `/v2/` too, that its token server has just
    /// issued.
    #[error("{host} refuses new tokens ({status}), at /v2/ too: its clock or keys may be behind")]
    TokenRefused {
        /// The registry that refused.
        host: String,
        /// 401 or 403.
        status: StatusCode,
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

/// The meaning of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorMeaning {
    /// The registry's answer about this very repository. It is obeyed: what is cached is dropped.
    Answer,
    /// Something on the way, or the upstream at this moment. Asked again after a short pause.
    Fault,
    /// A refusal or absence that something between us and the registry may have given. Clients get
    /// its status; what is cached survives it.
    Unproven,
    /// The upstream limits us, and is left alone for a time that it names.
    Limit,
    /// The upstream is of no use now, and would not be after a short pause.
    Outage,
    /// An answer about this request, which changes nothing of what is known of the repository.
    Rejection,
    /// A token that is refused though it was issued just now. It is shown again after a longer
    /// pause, when the registry's clock or keys may have caught up with the token server's.
    TokenNotYetValid,
}

impl UpstreamError {
    /// An answer to which the protocol gives no meaning here, for this reason.
    pub(crate) fn unexpected(
        host: impl Into<String>,
        status: StatusCode,
        reason: impl Into<String>,
    ) -> Self {
        Self::Unexpected { host: host.into(), status, reason: reason.into() }
    }

    /// The host that answered, or did not.
    pub fn host(&self) -> &str {
        match self {
            Self::CredentialRefused { host, .. }
            | Self::Denied { host, .. }
            | Self::Forbidden { host, .. }
            | Self::Interrupted { host, .. }
            | Self::LoginOutdated { host, .. }
            | Self::NoCredential { host, .. }
            | Self::NotFound { host, .. }
            | Self::RangeNotSatisfiable { host, .. }
            | Self::Rejected { host, .. }
            | Self::Stalled { host, .. }
            | Self::StorageRefused { host, .. }
            | Self::Throttled { host, .. }
            | Self::TokenRefused { host, .. }
            | Self::Unexpected { host, .. }
            | Self::Unreachable { host, .. } => host,
        }
    }

    /// The meaning of this error, from which all the rest follows.
    pub(super) fn meaning(&self) -> ErrorMeaning {
        match self {
            Self::Denied { is_proven, .. } | Self::NotFound { is_proven, .. } => {
                if *is_proven {
                    ErrorMeaning::Answer
                } else {
                    ErrorMeaning::Unproven
                }
            }
            Self::Rejected { status, said: None, .. } if !is_without_method(*status) => {
                ErrorMeaning::Unproven
            }
            Self::Forbidden { .. }
            | Self::Interrupted { .. }
            | Self::RangeNotSatisfiable { .. }
            | Self::Rejected { .. } => ErrorMeaning::Rejection,
            Self::LoginOutdated { .. }
            | Self::Stalled { .. }
            | Self::StorageRefused { .. }
            | Self::Unreachable { .. } => ErrorMeaning::Fault,
            Self::Unexpected { status, .. } => match StatusClass::of(*status) {
                StatusClass::Gateway | StatusClass::Transient => ErrorMeaning::Fault,
                _ if is_without_method(*status) => ErrorMeaning::Rejection,
                _ => ErrorMeaning::Outage,
            },
            Self::CredentialRefused { .. } | Self::NoCredential { .. } => ErrorMeaning::Outage,
            Self::Throttled { .. } => ErrorMeaning::Limit,
            Self::TokenRefused { .. } => ErrorMeaning::TokenNotYetValid,
        }
    }

    /// Whether the same request may succeed if it is sent again now.
    pub fn is_transient(&self) -> bool {
        matches!(self.meaning(), ErrorMeaning::Fault | ErrorMeaning::TokenNotYetValid)
    }

    /// Whether the upstream cannot say now, and another one may be asked in its stead. A method
    /// that it does not know is something that it says.
    pub(super) fn is_an_outage(&self) -> bool {
        !matches!(self.meaning(), ErrorMeaning::Answer | ErrorMeaning::Rejection)
    }

    /// Whether this is the upstream's answer about this very repository, which is obeyed, and
    /// not an outage, which what is cached survives (promise 5).
    pub fn is_an_answer(&self) -> bool {
        self.meaning() == ErrorMeaning::Answer
    }

    /// Whether this is about the credential that was used, so that another client might get another
    /// answer.
    pub fn is_about_the_asker(&self) -> bool {
        matches!(
            self,
            Self::CredentialRefused { .. }
                | Self::Denied { .. }
                | Self::Throttled { by_storage: false, .. }
                | Self::TokenRefused { .. }
        )
    }

    /// Whether a method is not known there. Registries that do not know HEAD for manifests say so
    /// in one of these ways.
    pub fn is_without_head(&self) -> bool {
        matches!(self, Self::Rejected { status, .. } | Self::Unexpected { status, .. }
            if is_without_method(*status))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A row for each variant, and for each property that its meaning depends on.
    #[test]
    fn each_error_has_one_meaning_and_all_follows_from_it() {
        let host = String::new;
        let status = |status| StatusCode::from_u16(status).unwrap();
        let unexpected = |code| UpstreamError::unexpected(host(), status(code), "");
        let denied =
            |is_proven| UpstreamError::Denied { host: host(), status: status(403), is_proven };
        let absent = |is_proven| UpstreamError::NotFound { host: host(), said: None, is_proven };
        let rejected = |code, said: Option<&'static str>| UpstreamError::Rejected {
            host: host(),
            status: status(code),
            said: said.map(Into::into),
        };
        let throttled =
            |by_storage| UpstreamError::Throttled { host: host(), wait: None, by_storage };
        let refused =
            UpstreamError::CredentialRefused { host: host(), status: status(401), reason: host() };
        // Error, answer, transient, outage, about the asker, without HEAD.
        for (error, want) in [
            (denied(true), [true, false, false, true, false]),
            (denied(false), [false, false, true, true, false]),
            (absent(true), [true, false, false, false, false]),
            (absent(false), [false, false, true, false, false]),
            (rejected(451, Some("{}")), [false, false, false, false, false]),
            (rejected(400, None), [false, false, true, false, false]),
            (rejected(405, None), [false, false, false, false, true]),
            (unexpected(501), [false, false, false, false, true]),
            (unexpected(200), [false, false, true, false, false]),
            (unexpected(401), [false, false, true, false, false]),
            (unexpected(408), [false, true, true, false, false]),
            (unexpected(522), [false, true, true, false, false]),
            (
                UpstreamError::StorageRefused { host: host(), status: status(403) },
                [false, true, true, false, false],
            ),
            (
                UpstreamError::LoginOutdated { host: host(), status: status(401) },
                [false, true, true, false, false],
            ),
            (
                UpstreamError::TokenRefused { host: host(), status: status(401) },
                [false, true, true, true, false],
            ),
            (refused, [false, false, true, true, false]),
            (
                UpstreamError::NoCredential { host: host(), reason: host() },
                [false, false, true, false, false],
            ),
            (throttled(false), [false, false, true, true, false]),
            (throttled(true), [false, false, true, false, false]),
            (
                UpstreamError::Unreachable { host: host(), reason: host() },
                [false, true, true, false, false],
            ),
            (
                UpstreamError::Stalled { host: host(), waited: Duration::ZERO },
                [false, true, true, false, false],
            ),
            (UpstreamError::Forbidden { host: host(), target: host(), reason: host() }, [false; 5]),
            (UpstreamError::Interrupted { host: host(), reason: host() }, [false; 5]),
            (UpstreamError::RangeNotSatisfiable { host: host(), total: None }, [false; 5]),
        ] {
            let got = [
                error.is_an_answer(),
                error.is_transient(),
                error.is_an_outage(),
                error.is_about_the_asker(),
                error.is_without_head(),
            ];
            assert_eq!(got, want, "{error:?}");
        }
    }
}
