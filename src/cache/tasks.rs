//! What runs detached from any client, so that it can be waited for, and ended.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct DetachedTasks {
    tracker: TaskTracker,
    end: CancellationToken,
}

impl DetachedTasks {
    /// Runs this until it is done, or until all are ended.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tracker.spawn(async move {
            // Who waits for what it had to bring sees that it is gone.
            end.run_until_cancelled(task).await;
        });
    }

    /// From now on the tasks can be waited for.
    pub(super) fn close(&self) {
        self.tracker.close();
    }

    /// Waits until none runs.
    pub(super) async fn wait(&self) {
        self.tracker.wait().await;
    }

    /// Whether they are being waited for.
    pub(super) fn is_closed(&self) -> bool {
        self.tracker.is_closed()
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Ends all of them where they are.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}
