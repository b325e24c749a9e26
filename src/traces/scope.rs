//! The request for which a task works now.
//!
//! It is a value of the task, so that it reaches the place that asks an upstream without passing
//! through everything between. A task that is started for a request belongs to it, also when other
//! requests come to wait for it: what it asks is in the trace of the request that made it ask.

use std::future::Future;
use std::sync::Arc;

use super::request_span::RequestSpan;

tokio::task_local! {
    static CURRENT: TraceScope;
}

/// The request, and how often the question was asked before that is asked now.
#[derive(Clone, Debug)]
pub struct TraceScope {
    pub(super) request: Arc<RequestSpan>,
    pub(super) tries: u32,
}

/// The scope of the task that runs, if it works for a request that is traced.
pub fn current_scope() -> Option<TraceScope> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs a future in a scope, if there is one.
pub async fn within<T>(scope: Option<TraceScope>, work: impl Future<Output = T>) -> T {
    match scope {
        Some(scope) => CURRENT.scope(scope, work).await,
        None => work.await,
    }
}

/// Runs a try of a question that was asked `tries` times before.
pub async fn on_try<T>(tries: u32, work: impl Future<Output = T>) -> T {
    let scope = current_scope().filter(|_| tries > 0);
    within(scope.map(|scope| TraceScope { tries, ..scope }), work).await
}
