//! The span of a request: its name and its attributes, by OpenTelemetry's semantic conventions for
//! HTTP servers. Names that begin with `larder.` are Larder's own.
//!
//! It says what the request's log line says and no more, so that no secret has a second way out.

use http::Method;

use super::door::ResolvedTarget;
use super::event::{AnswerEnd, RequestDetails, RequestSummary};
use crate::cache::{Decision, MissReason};
use crate::oci::{ApiCall, Reference, RepositoryName, Resource};
use crate::traces::{RequestTrace, SpanAttributes, SpanOutcome};

/// The span of a request, as far as it is known when its answer begins.
#[derive(Debug)]
pub(super) struct BegunSpan {
    trace: RequestTrace,
    /// The call, with words in place of what differs from one request to the next.
    route: Option<&'static str>,
    /// The tag or digest that it is about.
    reference: Option<String>,
}

impl BegunSpan {
    /// The span of a request to `target`, if it is recorded.
    pub(super) fn of(trace: Option<RequestTrace>, target: Option<&ResolvedTarget>) -> Option<Self> {
        let trace = trace.filter(RequestTrace::is_sampled)?;
        let call = target.map(|target| &target.call);
        Some(Self { trace, route: call.map(route), reference: call.and_then(reference) })
    }

    /// Ends it with the values that are counted and logged.
    pub(super) fn end(self, summary: &RequestSummary, details: &RequestDetails) {
        let Self { trace, route, reference } = self;
        trace.end(|| outcome(summary, details, route, reference));
    }
}

fn outcome(
    summary: &RequestSummary,
    details: &RequestDetails,
    route: Option<&'static str>,
    reference: Option<String>,
) -> SpanOutcome {
    let method = method(&details.method);
    let name = match (method, route) {
        (OTHER_METHOD, route) => ["HTTP", route.unwrap_or_default()].join(" "),
        (method, route) => [method, route.unwrap_or_default()].join(" "),
    };
    let error = error(summary, details);
    let mut with = SpanAttributes::default();
    with.text("http.request.method", Some(method));
    with.text("http.route", route);
    with.text("url.path", Some(details.path.clone()));
    with.number("http.response.status_code", Some(summary.status.as_u16().into()));
    with.text("error.type", error.as_ref().map(|(kind, _)| kind.as_str()));
    with.text("client.address", Some(details.client.address.to_string()));
    with.text("user.name", details.client.user.clone());
    with.text("user_agent.original", details.agent.clone());
    with.number("http.request.body.size", details.received);
    with.number("http.response.body.size", Some(summary.sent));
    with.text("larder.route", Some(summary.route.as_str()));
    with.text("larder.registry", details.registry.clone());
    with.text("larder.repository", details.repository.as_ref().map(RepositoryName::as_str));
    with.text("larder.reference", reference);
    let names = summary.decision.map(Decision::names);
    let detail = names.map(|names| names.detail).filter(|detail| !detail.is_empty());
    let reason = summary.decision.and_then(Decision::miss_reason).map(MissReason::as_str);
    with.text("larder.decision", names.map(|names| names.word));
    with.text("larder.detail", detail);
    with.text("larder.reason", reason);
    with.seconds("larder.first_byte", summary.first_byte.map(|wait| wait.as_secs_f64()));
    with.text("larder.end", Some(summary.end.as_str()));
    with.text("larder.request_id", details.request_id.as_deref());
    let error = error.map(|(_, message)| message.into());
    SpanOutcome { name: name.trim_end().to_owned().into(), attributes: with, error }
}

/// The kind and the text of the error that a request is to its server: what a client does wrong is
/// none (semantic conventions, "HTTP spans", Status).
fn error(summary: &RequestSummary, details: &RequestDetails) -> Option<(String, String)> {
    if summary.status.is_server_error() {
        let fault = details.fault.clone().unwrap_or_default();
        return Some((summary.status.as_str().to_owned(), fault));
    }
    let kind = match summary.end {
        AnswerEnd::Cut => "cut",
        AnswerEnd::ClientLeft => "client_left",
        AnswerEnd::Whole => return None,
    };
    let text = format!("the answer was not sent to its end: {}", summary.end.as_str());
    Some((kind.to_owned(), text))
}

/// The name of a method; clients can invent others.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::CONNECT => "CONNECT",
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::TRACE => "TRACE",
        _ => OTHER_METHOD,
    }
}

const OTHER_METHOD: &str = "_OTHER";

fn route(call: &ApiCall) -> &'static str {
    match call {
        ApiCall::Ping => "/v2/",
        ApiCall::In(_, Resource::Blob(_)) => "/v2/{name}/blobs/{digest}",
        ApiCall::In(_, Resource::Manifest(_)) => "/v2/{name}/manifests/{reference}",
        ApiCall::In(_, Resource::Referrers(_)) => "/v2/{name}/referrers/{digest}",
        ApiCall::In(_, Resource::Tags) => "/v2/{name}/tags/list",
        ApiCall::In(_, Resource::Upload(None)) => "/v2/{name}/blobs/uploads/",
        ApiCall::In(_, Resource::Upload(Some(_))) => "/v2/{name}/blobs/uploads/{id}",
    }
}

fn reference(call: &ApiCall) -> Option<String> {
    let ApiCall::In(_, resource) = call else { return None };
    match resource {
        Resource::Blob(digest)
        | Resource::Referrers(digest)
        | Resource::Manifest(Reference::Digest(digest)) => Some(digest.to_string()),
        Resource::Manifest(Reference::Tag(tag)) => Some(tag.to_string()),
        Resource::Tags | Resource::Upload(_) => None,
    }
}
