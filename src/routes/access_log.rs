//! Writes a line of JSON into a file for each request.
//!
//! The queue in front of it is bounded, and no request waits for it. A thread that lags behind
//! loses lines; so does a disk that takes none. Both are counted and told. The fields of a line are
//! decided in `request_line.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::line_queue::LineQueue;
use crate::telemetry::{Counter, RotatedFile};

/// The access log: its file, and the lines on their way there.
#[derive(Debug)]
pub struct AccessLog {
    file: RotatedFile,
    /// Lines that the disk did not take.
    refused: Arc<Counter>,
    /// Lines that were lost since the last warning.
    unreported: u64,
    reported: Option<Instant>,
}

impl AccessLog {
    /// A log into `file`, which counts the lines that its disk `refused`.
    pub fn new(file: RotatedFile, refused: Arc<Counter>) -> Self {
        Self { file, refused, unreported: 0, reported: None }
    }

    /// Writes the lines of `queue` until `stop` is cancelled; then those that wait. Opens the file
    /// again at each `reopen`.
    ///
    /// It writes to the disk where it runs, which has to be a thread of its own.
    pub async fn write(
        mut self,
        queue: Arc<LineQueue>,
        mut reopen: Signal,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = queue.wait() => {}
                _ = reopen.recv() => {
                    self.reopen();
                    continue;
                }
                () = stop.cancelled() => {}
            }
            let lost = queue.take(&mut batch);
            self.append(&batch);
            if lost > 0 {
                self.unreported += lost;
                self.report(None);
            }
            if stop.is_cancelled() {
                return;
            }
            stop.run_until_cancelled(tokio::time::sleep(LineQueue::PAUSE)).await;
        }
    }

    /// Appends lines, so many at a time that the file is renamed near its size.
    fn append(&mut self, mut lines: &[u8]) {
        while !lines.is_empty() {
            let rest = lines.get(PART_BYTES..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (part, after) = lines.split_at(end.map_or(lines.len(), |end| PART_BYTES + end + 1));
            if let Err(refused) = self.file.append(part) {
                let rest = part.iter().skip(refused.written);
                let count = rest.filter(|byte| **byte == b'\n').count() as u64;
                self.refused.add(count);
                self.unreported += count;
                self.report(Some(&refused.source));
            }
            lines = after;
        }
    }

    /// Warns of lines that were lost, at intervals.
    fn report(&mut self, error: Option<&std::io::Error>) {
        if self.reported.is_some_and(|reported| reported.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        let lines = std::mem::take(&mut self.unreported);
        let path = self.file.path().display();
        if let Some(error) = error {
            tracing::warn!(lines, %path, %error, "lines of the access log were lost");
        } else {
            tracing::warn!(lines, %path, "lines of the access log were lost: its disk is too slow");
        }
    }

    fn reopen(&mut self) {
        let path = self.file.path().display().to_string();
        match self.file.reopen() {
            Ok(()) => tracing::info!(path, "the access log was opened again"),
            Err(error) => tracing::error!(path, %error, "the access log cannot be opened again"),
        }
    }
}

/// Lines are appended by so many bytes and the rest of a line.
const PART_BYTES: usize = 32 << 10;

/// The time between two warnings of lost lines.
const REPORT_EVERY: Duration = Duration::from_secs(10);
