//! The file of the access log, and the signal by which it is opened again.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::log_thread::LogThread;
use super::{App, StartError};
use crate::config::AccessLogSettings;
use crate::routes::{AccessLog, LineLayout, RequestLog};
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
    pub(super) fn start(self, app: &App) -> LogThread {
        let Some(file) = self.file else { return LogThread::default() };
        let (traffic, clock) = (app.traffic(), Arc::clone(&app.egress.clock));
        let log = AccessLog::new(file, Arc::clone(traffic.access_log_refused()));
        let queue = traffic.logs().open(RequestLog::File, LineLayout::Flat, clock);
        LogThread::start("access-log", |stop| log.write(queue, self.reopen, stop))
    }
}
