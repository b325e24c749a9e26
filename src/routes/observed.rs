//! Observes the body of an answer until it has been sent or the client has left, and then counts
//! the request and sends its event.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Method;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::door::ResolvedTarget;
use super::event::{
    AnswerEnd, EventClass, RequestDetails, RequestEvent, RequestKind, RequestSummary,
};
use super::event_client::EventClient;
use super::line_queue::BegunLines;
use super::reply::RouteReply;
use super::request_fields::RequestFields;
use super::request_line::AnswerHead;
use super::request_span::BegunSpan;
use super::traffic::{RegistryCounts, TrafficCounters};
use crate::cache::Decision;
use crate::http::{BodyData, BodyError, ReplyBody};
use crate::oci::ApiCall;
use crate::traces::RequestTrace;

/// A request, as it is known when its answer begins.
#[derive(Debug)]
pub(super) struct Observation {
    traffic: Arc<TrafficCounters>,
    counts: Arc<RegistryCounts>,
    began: Instant,
    answer: AnswerHead,
    received: Option<Arc<AtomicU64>>,
    /// Its lines for the logs, as far as they are known.
    lines: Option<BegunLines>,
    /// `None` if it is not recorded.
    span: Option<BegunSpan>,
    /// Whether a reader of events wants its.
    has_event: bool,
    /// `None` if neither its event nor its span needs them.
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
    /// The class of its event. It asks the filter of pulls, which remembers that it was asked.
    fn class(&self, reply: &RouteReply, traffic: &TrafficCounters) -> EventClass {
        let registry = self.target.and_then(|target| target.registry.as_ref());
        let call = self.target.map(|target| &target.call);
        let (Some(registry), Some(ApiCall::In(repository, resource))) = (registry, call) else {
            return EventClass::Any;
        };
        let is_given = self.head.method.is_safe() && reply.response.status().is_success();
        let Some(reference) = resource.manifest().filter(|_| is_given) else {
            return EventClass::Notable;
        };
        let is_head = self.head.method == Method::HEAD;
        let request = (is_head, registry.name().as_str(), repository, reference, &self.client);
        let is_first = traffic.pulls().is_first(request, self.began);
        if is_first && registry.grants().is_none() {
            EventClass::Pull
        } else if is_first || reply.decision() != Some(Decision::Hit) {
            EventClass::Notable
        } else {
            EventClass::Any
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
        let class = events.has_readers().then(|| request.class(reply, traffic));
        let class = class.filter(|class| events.wants(*class));
        let answer = AnswerHead {
            route: RequestKind::of(request.target),
            status: reply.response.status(),
            decision: reply.decision(),
        };
        let mut observation = Self {
            traffic: Arc::clone(traffic),
            counts: Arc::clone(counts),
            began: request.began,
            received: request.received.clone(),
            answer,
            lines: None,
            span,
            has_event: class.is_some(),
            details: None,
        };
        let has_details = observation.has_event || observation.span.is_some();
        if has_details || traffic.logs().are_open() {
            let ObservedRequest { head, target, client, .. } = &request;
            let fields = RequestFields::of(head, *target, client, reply.fault.as_ref());
            observation.lines = traffic.logs().begin(&fields, answer);
            let is_pull = class == Some(EventClass::Pull);
            observation.details = has_details.then(|| Box::new(fields.to_details(is_pull)));
        }
        observation
    }

    fn end(&mut self, sent: u64, first_byte: Option<Duration>, end: AnswerEnd) {
        let AnswerHead { route, status, decision } = self.answer;
        let took = self.began.elapsed();
        let summary = RequestSummary { route, status, decision, sent, took, first_byte, end };
        self.traffic.note(&self.counts, &summary);
        let received = self.received.as_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        if let Some(lines) = self.lines.take() {
            self.traffic.logs().end(lines, &summary, received, self.began + took);
        }
        if let Some(mut details) = self.details.take() {
            details.received = received;
            if let Some(span) = self.span.take() {
                span.end(&summary, &details);
            }
            if self.has_event {
                self.traffic.events().send(RequestEvent { summary, details: *details });
            }
        }
    }
}

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
