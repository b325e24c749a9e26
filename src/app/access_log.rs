//! The thread that writes the access log, and the signal by which it opens its file again.
//!
//! It is a thread of its own, not a task: a disk that hangs must not hold up requests.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{App, StartError};
use crate::config::AccessLogSettings;
use crate::routes::AccessLog;
use crate::telemetry::RotatedFile;

/// The file, before requests are served.
#[derive(Debug)]
pub(super) struct OpenedAccessLog {
    file: Option<RotatedFile>,
    reopen: Signal,
}

impl OpenedAccessLog {
    /// Opens the file, if there is to be one. The signal is for Larder from now on in any case:
    /// without a file it is to do nothing, rather than to end the process.
    pub(super) fn open(settings: Option<&AccessLogSettings>) -> Result<Self, StartError> {
        let reopen = signal(SignalKind::user_defined1()).map_err(StartError::Signals)?;
        let file = settings.map(|settings| {
            let opened = RotatedFile::open(settings.path.clone(), settings.limits);
            opened.map_err(|error| StartError::AccessLog(settings.cannot_open(&error)))
        });
        Ok(Self { file: file.transpose()?, reopen })
    }

    /// Writes the requests of `app` into it from now on. Inside a runtime.
    pub(super) fn start(self, app: &App) -> AccessLogThread {
        let stop = CancellationToken::new();
        let Some(file) = self.file else { return AccessLogThread { stop, ended: None } };
        let (sender, ended) = oneshot::channel::<()>();
        let (traffic, clock) = (app.traffic(), Arc::clone(&app.egress.clock));
        let log = AccessLog::new(file, Arc::clone(traffic.access_log()));
        let now = move || clock.now();
        let log = log.write(traffic.events().subscribe(), now, self.reopen, stop.clone());
        let runtime = Handle::current();
        let body = move || {
            runtime.block_on(log);
            // The receiver learns the end by this.
            drop(sender);
        };
        let started = thread::Builder::new().name("access-log".to_owned()).spawn(body);
        if let Err(error) = started {
            tracing::error!(%error, "no thread for the access log: it is not written");
        }
        AccessLogThread { stop, ended: Some(ended) }
    }
}

/// The thread, if there is one.
#[derive(Debug)]
pub(super) struct AccessLogThread {
    stop: CancellationToken,
    /// Closed when it has ended.
    ended: Option<oneshot::Receiver<()>>,
}

impl AccessLogThread {
    /// Has it write what there is, and waits for that, but not for ever: the disk may hang.
    pub(super) async fn finish(self) {
        self.stop.cancel();
        if let Some(ended) = self.ended {
            drop(timeout(FINISH_MAX, ended).await);
        }
    }
}

/// The longest wait of the end of the process for the log.
const FINISH_MAX: Duration = Duration::from_secs(1);
