//! A request on its way out: what is known of it, until its answer has left or its client has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::door::ResolvedTarget;
use super::event::{AnswerEnd, RequestEvent, RequestKind, RequestSummary};
use super::reply::RouteReply;
use super::traffic::{RegistryCounts, TrafficCounters};
use crate::cache::Decision;
use crate::http::{BodyData, BodyError, ReplyBody};
use crate::oci::{ApiCall, RepositoryName};

/// What is known of a request when its answer begins.
#[derive(Debug)]
pub(super) struct Observation {
    traffic: Arc<TrafficCounters>,
    counts: Arc<RegistryCounts>,
    began: Instant,
    route: RequestKind,
    status: StatusCode,
    decision: Option<Decision>,
    /// `None` when nobody would read it.
    particulars: Option<Box<RequestDetails>>,
}

/// What an event says of a request that is not counted.
#[derive(Debug)]
struct RequestDetails {
    method: Method,
    path: Box<str>,
    registry: Option<Box<str>>,
    repository: Option<RepositoryName>,
    request_id: Option<String>,
    fault: Option<String>,
}

impl Observation {
    pub(super) fn of(
        (request, began): (&http::request::Parts, Instant),
        entered: Option<&ResolvedTarget>,
        reply: &RouteReply,
        (traffic, counts): (&Arc<TrafficCounters>, &Arc<RegistryCounts>),
    ) -> Self {
        let particulars = traffic
            .events()
            .are_read()
            .then(|| Box::new(RequestDetails::of(request, entered, reply)));
        Self {
            traffic: Arc::clone(traffic),
            counts: Arc::clone(counts),
            began,
            route: RequestKind::of(entered),
            status: reply.response.status(),
            decision: reply.decision(),
            particulars,
        }
    }

    fn end(&mut self, sent: u64, first_byte: Option<Duration>, end: AnswerEnd) {
        let Self { route, status, decision, .. } = *self;
        let took = self.began.elapsed();
        let summary = RequestSummary { route, status, decision, sent, took, first_byte, end };
        self.traffic.note(&self.counts, &summary);
        if let Some(particulars) = self.particulars.take() {
            self.traffic.events().tell(particulars.into_event(summary));
        }
    }
}

impl RequestDetails {
    fn of(
        request: &http::request::Parts,
        entered: Option<&ResolvedTarget>,
        reply: &RouteReply,
    ) -> Self {
        let registry = entered.and_then(|entered| entered.registry.as_ref());
        let repository = entered.and_then(|entered| match &entered.call {
            ApiCall::In(repository, _) => Some(repository.clone()),
            ApiCall::Ping => None,
        });
        let fault = reply.fault.as_ref();
        Self {
            method: request.method.clone(),
            path: shown(request.uri.path()),
            registry: registry.map(|registry| registry.name().as_str().into()),
            repository,
            request_id: fault.map(|fault| fault.request_id.clone()),
            fault: fault.map(|fault| fault.message.clone()),
        }
    }

    fn into_event(self, summary: RequestSummary) -> RequestEvent {
        let Self { method, path, registry, repository, request_id, fault } = self;
        RequestEvent { summary, method, path, registry, repository, request_id, fault }
    }
}

/// As much of a path as is shown. It may have any bytes in it. The id of an upload is a key to it, so `-`
/// stands in its place.
fn shown(path: &str) -> Box<str> {
    let beginning = |path: &str| path.chars().take(PATH_SHOWN_MAX).collect::<String>();
    match path.split_once(UPLOADS) {
        Some((before, id)) if !id.is_empty() => format!("{}{UPLOADS}-", beginning(before)).into(),
        _ => beginning(path).into(),
    }
}

const UPLOADS: &str = "/blobs/uploads/";

/// Longer paths are hostile.
const PATH_SHOWN_MAX: usize = 512;

/// The body of an answer, which tells how it went.
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
        // Bodies without content are never polled.
        let (end, first_byte) = if body.is_end_stream() {
            (AnswerEnd::Whole, Some(observation.began.elapsed()))
        } else {
            (AnswerEnd::ClientLeft, None)
        };
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
                tracing::warn!(%error, "an answer was cut");
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
        let (sent, first_byte, end) = (self.sent, self.first_byte, self.end);
        self.observation.end(sent, first_byte, end);
    }
}
