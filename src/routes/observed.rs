//! Observes the body of an answer until it has been sent or the client has left, and then counts
//! the request and sends its event.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use super::door::ResolvedTarget;
use super::event::{AnswerEnd, RequestDetails, RequestEvent, RequestKind, RequestSummary};
use super::reply::RouteReply;
use super::traffic::{RegistryCounts, TrafficCounters};
use crate::cache::Decision;
use crate::http::{BodyData, BodyError, ReplyBody};
use crate::oci::{ApiCall, Resource};

/// A request, as it is known when its answer begins.
#[derive(Debug)]
pub(super) struct Observation {
    traffic: Arc<TrafficCounters>,
    counts: Arc<RegistryCounts>,
    began: Instant,
    route: RequestKind,
    status: StatusCode,
    decision: Option<Decision>,
    /// `None` if events have no reader.
    details: Option<Box<RequestDetails>>,
}

impl Observation {
    pub(super) fn new(
        request: &http::request::Parts,
        began: Instant,
        target: Option<&ResolvedTarget>,
        reply: &RouteReply,
        traffic: &Arc<TrafficCounters>,
        counts: &Arc<RegistryCounts>,
    ) -> Self {
        let route = RequestKind::of(target);
        let has_readers = traffic.events().has_readers(route);
        Self {
            traffic: Arc::clone(traffic),
            counts: Arc::clone(counts),
            began,
            route,
            status: reply.response.status(),
            decision: reply.decision(),
            details: has_readers.then(|| Box::new(details(request, target, reply))),
        }
    }

    fn end(&mut self, sent: u64, first_byte: Option<Duration>, end: AnswerEnd) {
        let Self { route, status, decision, .. } = *self;
        let took = self.began.elapsed();
        let summary = RequestSummary { route, status, decision, sent, took, first_byte, end };
        self.traffic.note(&self.counts, &summary);
        if let Some(details) = self.details.take() {
            self.traffic.events().send(RequestEvent { summary, details: *details });
        }
    }
}

fn details(
    request: &http::request::Parts,
    target: Option<&ResolvedTarget>,
    reply: &RouteReply,
) -> RequestDetails {
    let registry = target.and_then(|target| target.registry.as_ref());
    let called = target.and_then(|target| match &target.call {
        ApiCall::In(repository, resource) => Some((repository, resource)),
        ApiCall::Ping => None,
    });
    let manifest = called.and_then(|(_, resource)| match resource {
        Resource::Manifest(reference) => Some(reference.clone()),
        _ => None,
    });
    let is_private = registry.is_none_or(|registry| registry.grants().is_some());
    let fault = reply.fault.as_ref();
    RequestDetails {
        method: request.method.clone(),
        path: shown(request.uri.path()),
        registry: registry.map(|registry| registry.name().as_str().into()),
        repository: called.map(|(repository, _)| repository.clone()),
        manifest,
        puller: reply.puller.clone().filter(|_| !is_private),
        request_id: fault.map(|fault| fault.request_id.clone()),
        fault: fault.map(|fault| fault.message.clone()),
    }
}

/// The beginning of a path, with `-` in place of the id of an upload, however it is encoded. It may
/// have any bytes in it.
fn shown(path: &str) -> Box<str> {
    let beginning = |path: &str| path.chars().take(PATH_SHOWN_MAX).collect::<String>();
    let mut plain = Cow::Borrowed(path);
    while plain.contains('%') {
        let decoded = percent_decode_str(&plain).decode_utf8_lossy().into_owned();
        if decoded == plain {
            break;
        }
        plain = Cow::Owned(decoded);
    }
    match plain.to_ascii_lowercase().find(UPLOADS) {
        Some(at) if plain.len() > at + UPLOADS.len() => {
            format!("{}{UPLOADS}-", beginning(&plain[..at])).into()
        }
        _ => beginning(path).into(),
    }
}

/// Without what stands before: a path that names nothing may have one slash or several there.
const UPLOADS: &str = "/uploads/";

/// In characters; a longer path is hostile.
const PATH_SHOWN_MAX: usize = 512;

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
