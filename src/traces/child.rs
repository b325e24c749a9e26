//! The span of a request to an upstream, below that of the request for which the task works.

use tokio::time::Instant;

use super::ids::SpanId;
use super::parent::TraceParent;
use super::request_span::RequestSpan;
use super::scope::{TraceScope, current_scope};
use super::span::SpanOutcome;

/// The span of a request to an upstream.
#[derive(Debug)]
pub struct ChildSpan {
    scope: TraceScope,
    id: SpanId,
    began: Instant,
}

impl ChildSpan {
    /// Begins one, if the task works for a request that is traced.
    pub fn begin() -> Option<Self> {
        let scope = current_scope()?;
        Some(Self { scope, id: SpanId::random(), began: Instant::now() })
    }

    /// The parent that it is to what the upstream does.
    pub fn as_parent(&self) -> TraceParent {
        let RequestSpan { trace, is_sampled, state, .. } = &*self.scope.request;
        let state = state.clone();
        TraceParent { trace: *trace, span: self.id, is_sampled: *is_sampled, state }
    }

    /// How often its question was asked before.
    pub fn tries_before(&self) -> u32 {
        self.scope.tries
    }

    /// Ends it.
    pub fn end(self, outcome: impl FnOnce() -> SpanOutcome) {
        let request = &*self.scope.request;
        if request.is_sampled {
            request.end_client(self.id, self.began, outcome());
        }
    }
}
