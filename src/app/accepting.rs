//! An address that is being listened on.

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Accepts until it is closed or dropped.
#[derive(Debug)]
pub(super) struct AcceptLoop {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl AcceptLoop {
    /// Has `accepting`, which ends when `stop` is cancelled, run in a task of its own.
    pub(super) fn start(
        stop: CancellationToken,
        accepting: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { stop: stop.drop_guard(), task: tokio::spawn(accepting) }
    }

    /// Accepts no more; when this returns, the address is free.
    pub(super) async fn close(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "accepting connections failed");
        }
    }
}
