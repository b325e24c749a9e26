//! A thread that writes a log: started with its own stop, and waited for at the end.
//!
//! It is a thread of its own, not a task: a write that hangs must not hold up requests. What is
//! written, and where to, is decided in `request_log.rs` and `access_log.rs`.

use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The thread, if there is one.
#[derive(Debug, Default)]
pub(super) struct LogThread {
    stop: CancellationToken,
    /// Closed when it has ended.
    ended: Option<oneshot::Receiver<()>>,
}

impl LogThread {
    /// Starts a thread of this name, which runs the future that `write` makes until its token is
    /// cancelled. Inside a runtime.
    pub(super) fn start<F>(name: &str, write: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (sender, ended) = oneshot::channel::<()>();
        let (writing, runtime) = (write(stop.clone()), Handle::current());
        let body = move || {
            runtime.block_on(writing);
            // The receiver learns the end by this.
            drop(sender);
        };
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
            tracing::error!(%error, thread = name, "no thread for a log: it is not written");
        }
        Self { stop, ended: Some(ended) }
    }

    /// Has it write the lines that are due, and waits for that, but not for ever: what it writes to
    /// may hang.
    pub(super) async fn finish(self) {
        self.stop.cancel();
        if let Some(ended) = self.ended {
            drop(timeout(FINISH_MAX, ended).await);
        }
    }
}

/// The longest wait of the end of the process for a log.
const FINISH_MAX: Duration = Duration::from_secs(1);
