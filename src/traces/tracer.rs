//! Which requests are recorded, and what their spans have in common: ids, times, the queue.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use super::ids::{SpanId, TraceId};
use super::parent::TraceParent;
use super::queue::SpanQueue;
use super::request_span::RequestSpan;
use super::scope::TraceScope;
use super::span::SpanOutcome;
use crate::clock::WallClock;

/// Begins the spans of requests.
#[derive(Debug)]
pub struct Tracer {
    clock: Arc<dyn WallClock>,
    /// The share of the traces that are recorded, from 0 to 1.
    sample_ratio: f64,
    queue: Arc<SpanQueue>,
}

impl Tracer {
    /// Records this share of the traces that begin here.
    pub fn new(sample_ratio: f64, clock: Arc<dyn WallClock>) -> Self {
        Self { clock, sample_ratio, queue: Arc::default() }
    }

    /// The spans that wait to be sent.
    pub fn queue(&self) -> &Arc<SpanQueue> {
        &self.queue
    }

    /// Begins the span of a request. The program that sent it decides whether it is recorded, if it
    /// says so.
    pub fn begin(&self, headers: &HeaderMap) -> RequestTrace {
        let parent = TraceParent::read(headers);
        let trace = parent.as_ref().map_or_else(TraceId::random, |parent| parent.trace);
        let by_chance = || trace.place() < self.sample_ratio;
        RequestTrace(Some(Arc::new(RequestSpan {
            trace,
            id: SpanId::random(),
            is_sampled: parent.as_ref().map_or_else(by_chance, |parent| parent.is_sampled),
            state: parent.as_ref().and_then(|parent| parent.state.clone()),
            parent: parent.map(|parent| parent.span),
            time: self.clock.now(),
            began: Instant::now(),
            queue: Arc::clone(&self.queue),
        })))
    }
}

/// The trace of a request. Dropped without an end, its client has left before there was an answer.
#[derive(Debug)]
pub struct RequestTrace(Option<Arc<RequestSpan>>);

impl RequestTrace {
    /// Whether its spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.0.as_ref().is_some_and(|span| span.is_sampled)
    }

    /// The scope of what is done for the request.
    pub fn scope(&self) -> Option<TraceScope> {
        self.0.clone().map(|request| TraceScope { request, tries: 0 })
    }

    /// Ends its span.
    pub fn end(mut self, outcome: impl FnOnce() -> SpanOutcome) {
        if let Some(span) = self.0.take().filter(|span| span.is_sampled) {
            span.end_server(outcome());
        }
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        if let Some(span) = self.0.take().filter(|span| span.is_sampled) {
            let (name, error) = ("request".into(), Some(LEFT.into()));
            span.end_server(SpanOutcome { name, error, ..SpanOutcome::default() });
        }
    }
}

/// The error of a request whose client did not wait for an answer.
const LEFT: &str = "the client left before there was an answer";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::traces::{ChildSpan, current_scope, on_try, within};

    fn tracer(sample_ratio: f64) -> Tracer {
        Tracer::new(sample_ratio, Arc::new(SystemClock))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_dropped_before_its_answer_has_a_span() {
        let tracer = tracer(1.0);
        drop(tracer.begin(&HeaderMap::new()));

        let spans = tracer.queue().take_batch();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].outcome.error.as_deref(), Some(LEFT));
    }

    /// All of a trace, or nothing of it.
    #[tokio::test(start_paused = true)]
    async fn about_the_share_is_recorded_and_with_it_what_belongs_to_it() {
        let tracer = tracer(0.25);
        let mut sampled = 0;
        for _ in 0..1000 {
            let request = tracer.begin(&HeaderMap::new());
            sampled += usize::from(request.is_sampled());
            within(request.scope(), async {
                ChildSpan::begin().unwrap().end(SpanOutcome::default);
            })
            .await;
            request.end(SpanOutcome::default);
        }
        assert!((150..350).contains(&sampled), "{sampled}");
        let queued = tracer.queue().len();
        assert_eq!(queued, 2 * sampled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_is_numbered_in_its_scope_alone() {
        assert!(on_try(1, async { current_scope() }).await.is_none(), "nothing is traced");
        let request = tracer(1.0).begin(&HeaderMap::new());
        let tries = async || {
            let tries = || current_scope().map(|scope| scope.tries);
            (on_try(2, async { tries() }).await, on_try(0, async { tries() }).await, tries())
        };
        let scope = request.scope();
        assert_eq!(within(scope, tries()).await, (Some(2), Some(0), Some(0)));
    }
}
