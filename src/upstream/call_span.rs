//! The span of one request to an upstream, its token server or its storage, by OpenTelemetry's
//! semantic conventions for HTTP clients. Redirects and retries have spans of their own.
//!
//! No URL is in it: the path of a storage, its query and the id of an upload can be keys.

use std::borrow::Cow;

use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::traces::{ChildSpan, SpanAttributes, SpanOutcome};

/// The span, if the request is part of a trace. It ends when it is dropped: with the body of the
/// answer, or when none came.
#[derive(Default)]
pub(super) struct CallSpan(Option<Box<OpenSpan>>);

struct OpenSpan {
    child: ChildSpan,
    call: CallNames,
    status: Option<StatusCode>,
    received: u64,
    error: Option<(Cow<'static, str>, String)>,
}

/// The names of what is called.
pub(super) struct CallNames {
    pub(super) method: Method,
    /// Its host alone is shown.
    pub(super) url: Url,
    /// The word for what is asked for, of which there are few.
    pub(super) object: &'static str,
    pub(super) purpose: &'static str,
}

impl CallSpan {
    /// Begins the span of a request, if the task works for a request that is traced.
    pub(super) fn begin(call: impl FnOnce() -> CallNames) -> Self {
        let open = |child| {
            let error = Some(("abandoned".into(), "it was not waited for any more".to_owned()));
            Box::new(OpenSpan { child, call: call(), status: None, received: 0, error })
        };
        Self(ChildSpan::begin().map(open))
    }

    /// Tells the upstream of the trace.
    pub(super) fn write_context(&self, headers: &mut HeaderMap) {
        if let Some(open) = &self.0 {
            open.child.as_parent().write(headers);
        }
    }

    /// Notes the head of an answer.
    pub(super) fn answered(&mut self, status: StatusCode) {
        let Some(open) = &mut self.0 else { return };
        open.status = Some(status);
        // A challenge is part of a login, and an absence is an answer.
        let is_error = status.is_client_error() || status.is_server_error();
        let is_error = is_error && !matches!(status.as_u16(), 401 | 404);
        let error = || (status.as_str().to_owned().into(), format!("it answered {status}"));
        open.error = is_error.then(error);
    }

    /// Notes that no answer came, or not all of one.
    pub(super) fn failed(&mut self, kind: &'static str, reason: &str) {
        if let Some(open) = &mut self.0 {
            open.error = Some((kind.into(), reason.to_owned()));
        }
    }

    /// Bytes of the body have come.
    pub(super) fn received_more(&mut self, bytes: usize) {
        if let Some(open) = &mut self.0 {
            open.received += bytes as u64;
        }
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        let Some(open) = self.0.take() else { return };
        let OpenSpan { child, call, status, received, error } = *open;
        let tries = u64::from(child.tries_before());
        child.end(|| {
            let mut with = SpanAttributes::default();
            with.text("http.request.method", Some(call.method.as_str()));
            with.text("server.address", call.url.host_str());
            with.number("server.port", call.url.port_or_known_default().map(Into::into));
            with.text("url.scheme", Some(call.url.scheme()));
            with.number("http.response.status_code", status.map(|it| it.as_u16().into()));
            with.number("http.request.resend_count", Some(tries).filter(|tries| *tries > 0));
            with.number("http.response.body.size", status.map(|_| received));
            with.text("error.type", error.as_ref().map(|(kind, _)| &**kind));
            with.text("larder.object", Some(call.object));
            with.text("larder.purpose", Some(call.purpose));
            let name = format!("{} {}", call.method, call.object).into();
            let error = error.map(|(_, reason)| reason.into());
            SpanOutcome { name, attributes: with, error }
        });
    }
}
