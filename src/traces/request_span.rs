//! The span of a request while it runs: what its own end and those of its children need.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::ids::{SpanId, TraceId};
use super::queue::SpanQueue;
use super::span::{FinishedSpan, SpanKind, SpanOutcome};

/// The span of a request, as far as it is known while the request runs.
#[derive(Debug)]
pub(super) struct RequestSpan {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) is_sampled: bool,
    pub(super) state: Option<Arc<str>>,
    /// The time of day when it began. All times of its trace count from there, so that a clock that
    /// is set meanwhile moves no span against another.
    pub(super) time: SystemTime,
    pub(super) began: Instant,
    pub(super) queue: Arc<SpanQueue>,
}

impl RequestSpan {
    fn time_of(&self, at: Instant) -> SystemTime {
        self.time + at.saturating_duration_since(self.began)
    }

    /// Ends it.
    pub(super) fn end_server(&self, outcome: SpanOutcome) {
        self.queue.push(FinishedSpan {
            trace: self.trace,
            id: self.id,
            parent: self.parent,
            is_parent_remote: self.parent.is_some(),
            state: self.state.clone(),
            kind: SpanKind::Server,
            began: self.time,
            ended: self.time_of(Instant::now()),
            outcome,
        });
    }

    /// Ends a span that it has led to.
    pub(super) fn end_client(&self, id: SpanId, began: Instant, outcome: SpanOutcome) {
        self.queue.push(FinishedSpan {
            trace: self.trace,
            id,
            parent: Some(self.id),
            is_parent_remote: false,
            state: self.state.clone(),
            kind: SpanKind::Client,
            began: self.time_of(began),
            ended: self.time_of(Instant::now()),
            outcome,
        });
    }
}
