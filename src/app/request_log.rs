//! The log of requests on stderr: whether there is one, and in which layout.

use std::sync::Arc;

use super::App;
use super::log_thread::LogThread;
use crate::config::{LogFormat, LogOutput};
use crate::routes::{LineLayout, RequestLog, log_is_wanted, write_log};

/// Writes the requests of `app` from now on, if their lines are wanted. Inside a runtime.
pub(super) fn start(app: &App, log: LogOutput) -> LogThread {
    if !log_is_wanted() {
        return LogThread::default();
    }
    let layout = match log {
        LogOutput { format: LogFormat::Json, .. } => LineLayout::Json,
        LogOutput { is_coloured, .. } => LineLayout::Text { is_coloured },
    };
    let clock = Arc::clone(&app.egress.clock);
    let queue = app.traffic().logs().open(RequestLog::Stderr, layout, clock);
    LogThread::start("request-log", |stop| write_log(queue, std::io::stderr(), stop))
}
