//! Writes the lines of requests to the log on stderr.
//!
//! The log may be slow: a full pipe, a terminal over a slow line. So it is never the task that
//! answers a request which writes, and many lines are written at once where many are due. The
//! layout of a line is decided in `request_line.rs`.

use std::io::Write;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::line_queue::LineQueue;
use super::request_line::TARGET;

/// Whether `LARDER_LOG` enables request lines.
pub fn log_is_wanted() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Writes the lines of `queue` to `log` until `stop` is cancelled; then those that wait.
pub async fn write_log(queue: Arc<LineQueue>, mut log: impl Write, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        stop.run_until_cancelled(queue.wait()).await;
        let lines = queue.take(&mut batch);
        // If the log is gone, there is no place to say so.
        log.write_all(&batch).unwrap_or_default();
        if lines > 0 {
            tracing::warn!(lines, "request lines were lost: the log is written too slowly");
        }
        if stop.is_cancelled() {
            return;
        }
        stop.run_until_cancelled(tokio::time::sleep(LineQueue::PAUSE)).await;
    }
}
