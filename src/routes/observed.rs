//! Observes the body of an answer until it has been sent or the client has left, and then counts
//! the request and sends its event.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::door::ResolvedTarget;
use super::event::{AnswerEnd, RequestDetails, RequestEvent, RequestKind, RequestSummary};
use super::event_client::EventClient;
use super::reply::RouteReply;
use super::request_span::BegunSpan;
use super::traffic::{RegistryCounts, TrafficCounters};
use crate::cache::Decision;
use crate::http::{BodyData, BodyError, ReplyBody};
use crate::oci::{ApiCall, Resource};
use crate::traces::RequestTrace;

/// A request, as it is known when its answer begins.
#[derive(Debug)]
pub(super) struct Observation {
    traffic: Arc<TrafficCounters>,
    counts: Arc<RegistryCounts>,
    began: Instant,
    route: RequestKind,
    status: StatusCode,
    decision: Option<Decision>,
    received: Option<Arc<AtomicU64>>,
    /// `None` if it is not recorded.
    span: Option<BegunSpan>,
    /// `None` if events have no reader, and no span needs them.
    details: Option<Box<RequestDetails>>,
}

/// One request, as its observation needs it.
pub(super) struct ObservedRequest<'r> {
    pub(super) head: &'r http::request::Parts,
    pub(super) began: Instant,
    pub(super) target: Option<&'r ResolvedTarget>,
    pub(super) client: EventClient,
    /// Bytes of the body that have come; `None` without a body.
    pub(super) received: Option<Arc<AtomicU64>>,
    pub(super) trace: Option<RequestTrace>,
}

impl ObservedRequest<'_> {
    /// Whether it may begin a pull that its registry's clients do not keep to themselves.
    fn begins_pull(&self, reply: &RouteReply, traffic: &TrafficCounters) -> bool {
        let Some(target) = self.target.filter(|_| reply.response.status().is_success()) else {
            return false;
        };
        let (Some(registry), ApiCall::In(repository, Resource::Manifest(reference))) =
            (&target.registry, &target.call)
        else {
            return false;
        };
        let is_head = self.head.method == Method::HEAD;
        let request = (is_head, registry.name().as_str(), repository, reference, &self.client);
        self.head.method.is_safe()
            && registry.grants().is_none()
            && traffic.pulls().is_first(request, self.began)
    }

    fn details(self, reply: &RouteReply, is_pull: bool) -> RequestDetails {
        let registry = self.target.and_then(|target| target.registry.as_ref());
        let called = self.target.and_then(|target| match &target.call {
            ApiCall::In(repository, resource) => Some((repository, resource)),
            ApiCall::Ping => None,
        });
        let manifest = called.and_then(|(_, resource)| match resource {
            Resource::Manifest(reference) => Some(reference.clone()),
            _ => None,
        });
        let agent = self.head.headers.get(USER_AGENT).map(HeaderValue::as_bytes);
        let fault = reply.fault.as_ref();
        RequestDetails {
            method: self.head.method.clone(),
            path: shown(self.head.uri.path()),
            registry: registry.map(|registry| registry.name().as_str().into()),
            repository: called.map(|(repository, _)| repository.clone()),
            manifest,
            client: self.client,
            agent: agent.map(shown_agent),
            is_pull,
            received: None,
            request_id: fault.map(|fault| fault.request_id.clone()),
            fault: fault.map(|fault| fault.message.clone()),
        }
    }
}

impl Observation {
    pub(super) fn new(
        mut request: ObservedRequest<'_>,
        reply: &RouteReply,
        traffic: &Arc<TrafficCounters>,
        counts: &Arc<RegistryCounts>,
    ) -> Self {
        let events = traffic.events();
        let span = BegunSpan::of(request.trace.take(), request.target);
        let is_pull = events.has_pull_readers() && request.begins_pull(reply, traffic);
        Self {
            traffic: Arc::clone(traffic),
            counts: Arc::clone(counts),
            began: request.began,
            route: RequestKind::of(request.target),
            received: request.received.clone(),
            status: reply.response.status(),
            decision: reply.decision(),
            details: (is_pull || span.is_some() || events.has_readers())
                .then(|| Box::new(request.details(reply, is_pull))),
            span,
        }
    }

    fn end(&mut self, sent: u64, first_byte: Option<Duration>, end: AnswerEnd) {
        let Self { route, status, decision, .. } = *self;
        let took = self.began.elapsed();
        let summary = RequestSummary { route, status, decision, sent, took, first_byte, end };
        self.traffic.note(&self.counts, &summary);
        if let Some(mut details) = self.details.take() {
            details.received = self.received.as_ref().map(|bytes| bytes.load(Ordering::Relaxed));
            if let Some(span) = self.span.take() {
                span.end(&summary, &details);
            }
            self.traffic.events().send(RequestEvent { summary, details: *details });
        }
    }
}

/// The beginning of a path, with `-` in place of the id of an upload, however it is encoded. It may
/// have any bytes in it.
fn shown(path: &str) -> Box<str> {
    let mut plain = Cow::Borrowed(path);
    while plain.contains('%') {
        let decoded = percent_decode_str(&plain).decode_utf8_lossy().into_owned();
        if decoded == plain {
            break;
        }
        plain = Cow::Owned(decoded);
    }
    let mut bytes = plain.bytes().enumerate();
    let uploads = bytes.find(|(at, byte)| *byte == b'/' && is_uploads(&plain, *at));
    match uploads.map(|(at, _)| at) {
        Some(at) if plain.len() > at + UPLOADS.len() => {
            format!("{}{UPLOADS}-", beginning(&plain[..at])).into()
        }
        _ => beginning(path).into(),
    }
}

fn beginning(path: &str) -> &str {
    // Most paths are shorter in bytes already.
    let cut = (path.len() > PATH_SHOWN_MAX).then(|| path.char_indices().nth(PATH_SHOWN_MAX));
    cut.flatten().map_or(path, |(end, _)| &path[..end])
}

fn is_uploads(path: &str, at: usize) -> bool {
    let found = path.as_bytes().get(at..at + UPLOADS.len());
    found.is_some_and(|found| found.eq_ignore_ascii_case(UPLOADS.as_bytes()))
}

/// Without what stands before: a path that names nothing may have one slash or several there.
const UPLOADS: &str = "/uploads/";

/// In characters; a longer path is hostile.
const PATH_SHOWN_MAX: usize = 512;

/// The beginning of the name of a program, which may have any bytes in it. No program that reads
/// logs is to find an instruction to itself there (`${jndi:…}`).
fn shown_agent(agent: &[u8]) -> Box<str> {
    let agent = agent.get(..AGENT_SHOWN_MAX).unwrap_or(agent);
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !br#"$\'""#.contains(byte);
    if let Some(agent) = str::from_utf8(agent).ok().filter(|_| agent.iter().all(is_plain)) {
        return agent.into();
    }
    agent.escape_ascii().to_string().replace('$', r"\x24").into()
}

/// In bytes.
const AGENT_SHOWN_MAX: usize = 128;

/// The body of an answer, observed until it ends or is dropped.
#[derive(Debug)]
pub struct ObservedBody {
    body: ReplyBody,
    observation: Observation,
    sent: u64,
    first_byte: Option<Duration>,
    end: AnswerEnd,
}

impl ObservedBody {
    pub(super) fn new(body: ReplyBody, observation: Observation) -> Self {
        // An empty body is never polled.
        let is_empty = body.is_end_stream();
        let first_byte = is_empty.then(|| observation.began.elapsed());
        let end = if is_empty { AnswerEnd::Whole } else { AnswerEnd::ClientLeft };
        Self { body, observation, sent: 0, first_byte, end }
    }
}

impl Body for ObservedBody {
    type Data = BodyData;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<BodyData>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if self.first_byte.is_none() {
                    self.first_byte = Some(self.observation.began.elapsed());
                }
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.body.is_end_stream() {
                    self.end = AnswerEnd::Whole;
                }
            }
            Poll::Ready(Some(Err(error))) => {
                self.end = AnswerEnd::Cut;
                tracing::warn!(%error, "response body cut off");
            }
            Poll::Ready(None) => self.end = AnswerEnd::Whole,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        let Self { sent, first_byte, end, .. } = *self;
        self.observation.end(sent, first_byte, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_shown_without_a_character_that_means_something_elsewhere() {
        for (agent, shown) in [
            ("containerd/1.7.2 (linux; a+b)", "containerd/1.7.2 (linux; a+b)"),
            ("${jndi:x}", r"\x24{jndi:x}"),
            (r#"a"b'c\d"#, r#"a\"b\'c\\d"#),
            ("tab\tline\n", r"tab\tline\n"),
            ("ü", r"\xc3\xbc"),
            ("", ""),
        ] {
            assert_eq!(&*shown_agent(agent.as_bytes()), shown);
        }
        assert_eq!(shown_agent(&[b'x'; 200]).len(), AGENT_SHOWN_MAX);
    }

    #[test]
    fn a_long_path_is_shown_to_its_512th_character() {
        let path = |count: usize| format!("/{}", "ü".repeat(count));
        assert_eq!(shown(&path(511)).len(), 1 + 2 * 511);
        assert_eq!(shown(&path(600)).len(), 1 + 2 * 511);
        assert_eq!(&*shown(&path(600)), path(511));
    }

    #[test]
    fn the_id_of_an_upload_is_not_shown_under_any_encoding() {
        for path in [
            "/v2/a/blobs/uploads/SEALED",
            "/v2/a/blobs/upload%73/SEALED",
            "/v2/a/blobs/uploads%2FSEALED",
            "/v2/a/blobs/uploads%252fSEALED",
            "/v2/a/%62lobs%2f%55ploads/%53EALED",
            "/v2/a/blobs//uploads/SEALED?x",
        ] {
            let shown = shown(path);
            assert!(!shown.contains("EALED") && shown.ends_with("/uploads/-"), "{path}: {shown}");
        }
        for path in ["/v2/a/blobs/uploads/", "/v2/a%2fb/manifests/x", "/%", "/v2/%zz"] {
            assert_eq!(&*shown(path), path);
        }
    }
}
