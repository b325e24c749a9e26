//! Mistakes in the configuration of an upstream that show when it is first called.
//!
//! A wrong scheme, a missing CA or a missing login fails each request, with a message that says
//! what happened to that request. The operator is told once what to change, when the mistake
//! shows. It is a guess, on which nothing else rests.

use std::sync::atomic::{AtomicU8, Ordering};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::backoff::LimitClass;
use super::request::{CallPurpose, UpstreamRequest};
use crate::http::SendMismatch;

/// A mistake in the configuration of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamMistake {
    /// It refuses what is asked without a login, and there is no login for it.
    LoginMissing,
    /// Something else than a registry answers.
    NoRegistry,
    /// `https`, where plain HTTP is spoken.
    NoTls,
    /// `http`, where TLS is spoken.
    TlsOnly,
    /// Its certificate is of a CA that is not trusted.
    UnknownCa,
}

impl UpstreamMistake {
    /// The mistake that shows when no connection could be had.
    pub(super) fn in_sending(mismatch: SendMismatch) -> Self {
        match mismatch {
            SendMismatch::NoTls => Self::NoTls,
            SendMismatch::UnknownCa => Self::UnknownCa,
        }
    }

    /// The mistake that shows when the answer to `request` is no HTTP, or too much of it.
    pub(super) fn in_malformed(request: &UpstreamRequest, reason: &str) -> Option<Self> {
        let is_plain = request.url.scheme() == "http";
        (is_plain && !reason.contains("too large")).then_some(Self::TlsOnly)
    }

    /// The mistake that shows in the head of the registry's answer to `request`.
    pub(super) fn in_answer(
        request: &UpstreamRequest,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Self> {
        if request.purpose != CallPurpose::Registry {
            return None;
        }
        let media_type = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or("");
        let is_page = media_type.starts_with("text/html");
        // Go's answer to a path that it does not know; some registries give it for referrers.
        let is_text = media_type.starts_with("text/plain");
        let is_manifest =
            matches!(request.class, LimitClass::ManifestGet | LimitClass::ManifestHead);
        match status {
            // nginx and Go say so in a page or a line, both under 400.
            StatusCode::BAD_REQUEST if request.url.scheme() == "http" => {
                (!media_type.contains("json")).then_some(Self::TlsOnly)
            }
            StatusCode::OK | StatusCode::NOT_FOUND if is_page || (is_text && is_manifest) => {
                Some(Self::NoRegistry)
            }
            _ => None,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::LoginMissing => "the upstream refuses a request without a login",
            Self::NoRegistry => "the upstream answers like a web site, not like a registry",
            Self::NoTls => "the upstream does not speak TLS",
            Self::TlsOnly => "the upstream does not seem to speak plain HTTP",
            Self::UnknownCa => "the certificate of the upstream is of an unknown CA",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::LoginMissing => "if the repository exists, give the registry `auth`",
            Self::NoRegistry => "`upstream` needs the URL under which the registry has `/v2/`",
            Self::NoTls => "write `http://` in `upstream`, or the port that speaks TLS",
            Self::TlsOnly => "write `https://` in `upstream`",
            Self::UnknownCa => "name the file with the CA's certificate in `ca`",
        }
    }
}

/// The mistakes that were told.
#[derive(Debug, Default)]
pub(super) struct ToldMistakes(AtomicU8);

impl ToldMistakes {
    /// Logs `mistake` of the upstream at `upstream`, as `seen` with `host`, unless it was told.
    pub(super) fn tell(&self, mistake: UpstreamMistake, upstream: &Url, host: &str, seen: &str) {
        let bit = 1 << mistake as u8;
        if self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let upstream = upstream.as_str();
            let hint = mistake.hint();
            tracing::warn!(upstream, host, seen, hint, "{}", mistake.message());
        }
    }
}
