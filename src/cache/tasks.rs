//! Tasks that belong to no client, so that they can be waited for, and ended.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::traces::{current_scope, within};

/// The tasks. Clones are the same tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct DetachedTasks {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl DetachedTasks {
    /// Runs a task until it is done, or until all are ended.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        // The request that has started it is the one in whose trace it asks.
        self.tracker.spawn(within(current_scope(), async move {
            // A request that waits for the task's result sees that its sender is gone.
            end.run_until_cancelled(task).await;
        }));
    }

    /// Lets `wait` return once no task runs.
    pub(super) fn close(&self) {
        self.tracker.close();
    }

    /// Waits until no task runs.
    pub(super) async fn wait(&self) {
        self.tracker.wait().await;
    }

    /// Whether the tasks are being waited for.
    pub(super) fn is_closed(&self) -> bool {
        self.tracker.is_closed()
    }

    /// How many tasks run.
    pub(super) fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Ends all tasks at their next await.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}
