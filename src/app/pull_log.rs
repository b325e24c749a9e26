//! The task that writes the log of pulls.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::control::record_pulls;
use crate::routes::EventClass;

/// The task.
#[derive(Debug)]
pub(super) struct PullLog {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl PullLog {
    /// Starts it. Inside a runtime.
    pub(super) fn start(app: &App) -> Self {
        let stop = CancellationToken::new();
        let events = app.traffic().events().subscribe(EventClass::Pull);
        let (store, clock) = (Arc::clone(app.cache.store()), Arc::clone(&app.egress.clock));
        let log = record_pulls(events, store, move || clock.now(), stop.clone());
        Self { stop, task: tokio::spawn(log) }
    }

    /// Has it write what there is, and waits for that, but not for ever: the disk may hang.
    pub(super) async fn finish(self) {
        self.stop.cancel();
        drop(timeout(FINISH_MAX, self.task).await);
    }
}

/// How long the end of the process may wait for the log.
const FINISH_MAX: Duration = Duration::from_secs(1);
