//! The thread that writes request lines.
//!
//! It is a thread of its own, not a task: a write that hangs must not hold up requests.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::config::{LogFormat, LogOutput};
use crate::routes::{LineLayout, log_is_wanted, write_log};

/// The thread, if there is one.
#[derive(Debug)]
pub(super) struct RequestLog {
    stop: CancellationToken,
    /// Closed when it has ended.
    ended: Option<oneshot::Receiver<()>>,
}

impl RequestLog {
    /// Starts it for the requests of `app`, if their lines are wanted. Inside a runtime.
    pub(super) fn start(app: &App, log: LogOutput) -> Self {
        let stop = CancellationToken::new();
        if !log_is_wanted() {
            return Self { stop, ended: None };
        }
        let (sender, ended) = oneshot::channel::<()>();
        let clock = Arc::clone(&app.egress.clock);
        let events = app.traffic().events().subscribe();
        let layout = match log {
            LogOutput { format: LogFormat::Json, .. } => LineLayout::Json,
            LogOutput { is_coloured, .. } => LineLayout::Text { is_coloured },
        };
        let now = move || clock.now();
        let log = write_log(events, layout, now, std::io::stderr(), stop.clone());
        let runtime = Handle::current();
        let body = move || {
            runtime.block_on(log);
            // Which is how the end is told.
            drop(sender);
        };
        let started = thread::Builder::new().name("request-log".to_owned()).spawn(body);
        if let Err(error) = started {
            tracing::error!(%error, "no thread for the log: requests are not logged");
        }
        Self { stop, ended: Some(ended) }
    }

    /// Has it write what there is, and waits for that, but not for ever: what it writes to may
    /// hang.
    pub(super) async fn finish(self) {
        self.stop.cancel();
        if let Some(ended) = self.ended {
            drop(timeout(FINISH_MAX, ended).await);
        }
    }
}

/// How long the end of the process may wait for the log.
const FINISH_MAX: Duration = Duration::from_secs(1);
