//! One log line for each request, written when its answer has left or the client has.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::door::Entered;
use super::reply::Reply;
use crate::cache::Decision;
use crate::http::{BodyError, ReplyBody};
use crate::oci::Call;

/// What a line says beside what the body brings.
#[derive(Debug)]
pub(super) struct Line {
    began: Instant,
    method: Method,
    path: String,
    registry: String,
    repository: String,
    status: StatusCode,
    decision: Option<Decision>,
    request_id: Option<String>,
    fault: Option<String>,
}

impl Line {
    /// The line of a request; `None` when nobody would read it.
    pub(super) fn of(
        request: &http::request::Parts,
        entered: Option<&Entered>,
        reply: &Reply,
        began: Instant,
    ) -> Option<Box<Self>> {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return None;
        }
        let registry = entered.and_then(|entered| entered.registry.as_ref());
        let repository = entered.and_then(|entered| match &entered.call {
            Call::In(repository, _) => Some(repository.to_string()),
            Call::Ping => None,
        });
        let fault = reply.fault.as_ref();
        Some(Box::new(Self {
            began,
            method: request.method.clone(),
            path: request.uri.path().chars().take(PATH_SHOWN_MAX).collect(),
            registry: registry.map(|registry| registry.name().to_string()).unwrap_or_default(),
            repository: repository.unwrap_or_default(),
            status: reply.response.status(),
            decision: reply.decision,
            request_id: fault.map(|fault| fault.request_id.clone()),
            fault: fault.map(|fault| fault.message.clone()),
        }))
    }

    fn write(&self, bytes: u64, end: &'static str) {
        tracing::info!(
            target: TARGET,
            method = %self.method,
            path = ?self.path,
            registry = %self.registry,
            repository = %self.repository,
            status = self.status.as_u16(),
            decision = self.decision.as_ref().map(Decision::as_str),
            detail = self.decision.as_ref().and_then(Decision::detail),
            bytes,
            duration_ms = self.began.elapsed().as_secs_f64() * 1000.0,
            end,
            request_id = self.request_id,
            fault = self.fault,
            "request",
        );
    }
}

/// The target of request lines, to be switched off by `LARDER_LOG`.
const TARGET: &str = "larder::request";

/// Longer paths are hostile.
const PATH_SHOWN_MAX: usize = 512;

/// A body that tells its line how it went.
#[derive(Debug)]
pub struct LoggedBody {
    body: ReplyBody,
    line: Option<Box<Line>>,
    sent: u64,
    end: &'static str,
}

impl LoggedBody {
    pub(super) fn new(body: ReplyBody, line: Option<Box<Line>>) -> Self {
        // Bodies without content are never polled.
        let end = if body.is_end_stream() { "whole" } else { "client left" };
        Self { body, line, sent: 0, end }
    }
}

impl Body for LoggedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.body.is_end_stream() {
                    self.end = "whole";
                }
            }
            Poll::Ready(Some(Err(error))) => {
                self.end = "cut";
                tracing::warn!(%error, "an answer was cut");
            }
            Poll::Ready(None) => self.end = "whole",
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

impl Drop for LoggedBody {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.write(self.sent, self.end);
        }
    }
}
