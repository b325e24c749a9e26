//! Writes a line of JSON into a file for each request, from its event.
//!
//! The queue in front of it is that of all events: bounded, and no request waits for it. A reader
//! that lags behind loses lines; so does a disk that takes none. Both are counted and told. The
//! fields of a line are decided in `request_line.rs`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::event::{EventRead, EventReader};
use super::request_line::{LineLayout, LineTime};
use crate::telemetry::{Counter, RotatedFile};

/// Lines of the access log that were lost.
#[derive(Debug, Default)]
pub struct AccessLogLosses {
    /// Because the disk did not take them.
    pub disk: Counter,
    /// Because they were written too slowly.
    pub slow: Counter,
}

/// The access log: its file, and the lines on their way there.
#[derive(Debug)]
pub struct AccessLog {
    file: RotatedFile,
    losses: Arc<AccessLogLosses>,
    buffer: Vec<u8>,
    /// Lines that were lost since the last warning.
    unreported: u64,
    reported: Option<Instant>,
}

impl AccessLog {
    /// A log into `file`.
    pub fn new(file: RotatedFile, losses: Arc<AccessLogLosses>) -> Self {
        Self { file, losses, buffer: Vec::new(), unreported: 0, reported: None }
    }

    /// Writes a line for each event, until the sender is gone or `stop` is cancelled; then the
    /// lines that are due already. Opens the file again at each `reopen`.
    ///
    /// It writes to the disk where it runs, which has to be a thread of its own.
    pub async fn write(
        mut self,
        mut events: EventReader,
        now: impl Fn() -> SystemTime,
        mut reopen: Signal,
        stop: CancellationToken,
    ) {
        loop {
            let read = tokio::select! {
                read = events.next() => read,
                _ = reopen.recv() => {
                    self.reopen();
                    continue;
                }
                () = stop.cancelled() => None,
            };
            let is_over = read.is_none();
            let due = std::iter::from_fn(|| events.next_now());
            // Requests that never pause must not keep the file from being reopened.
            let most = if is_over { usize::MAX } else { ROUND_EVENTS_MAX };
            let time = LineTime::of(now());
            read.into_iter().chain(due.take(most)).for_each(|read| self.take(&read, &time));
            self.flush();
            if is_over {
                return;
            }
            // Waking for each request would cost it a system call.
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn take(&mut self, read: &EventRead, time: &LineTime) {
        match read {
            EventRead::Event(event) => LineLayout::Flat.write(event, time, &mut self.buffer),
            EventRead::Lost(lines) => {
                self.losses.slow.add(*lines);
                self.unreported += lines;
                self.report(None);
            }
        }
        if self.buffer.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let refused = if self.buffer.is_empty() { Ok(()) } else { self.file.append(&self.buffer) };
        if let Err(refused) = refused {
            let rest = self.buffer.iter().skip(refused.written);
            let lines = rest.filter(|byte| **byte == b'\n').count() as u64;
            self.losses.disk.add(lines);
            self.unreported += lines;
            self.report(Some(&refused.source));
        }
        self.buffer.clear();
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

/// Lines are written when so much of them waits, or none is due.
const BATCH_BYTES: usize = 32 << 10;

/// Events that are read until the file may be reopened.
const ROUND_EVENTS_MAX: usize = 4096;

/// The longest delay of a line.
const PAUSE: Duration = Duration::from_millis(5);

/// The time between two warnings of lost lines.
const REPORT_EVERY: Duration = Duration::from_secs(10);
