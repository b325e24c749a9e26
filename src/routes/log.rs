//! Writes one log line for each request, from its event.
//!
//! The log may be slow: a full pipe, a terminal over a slow line. So lines are written by a reader
//! of events, never by the task that answers a request, and many at once where many are due. The
//! layout of a line is decided in `request_line.rs`.

use std::io::Write;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::event::{EventRead, EventReader, each_event};
use super::request_line::{LineLayout, LineTime, TARGET};

/// Whether `LARDER_LOG` enables request lines.
pub fn log_is_wanted() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Writes a line for each event to `log`, until the sender is gone or `stop` is cancelled; then the
/// lines that are due already. Lines that are due at once are written by one call, with one time.
pub async fn write_log(
    events: EventReader,
    layout: LineLayout,
    now: impl Fn() -> SystemTime,
    mut log: impl Write,
    stop: CancellationToken,
) {
    let mut lines = Vec::new();
    let mut time = None;
    // If the log is gone, there is no place to say so.
    let mut write = move |lines: &mut Vec<u8>| {
        log.write_all(lines).unwrap_or_default();
        lines.clear();
    };
    let take = move |read| match read {
        Some(EventRead::Event(event)) => {
            let time = time.get_or_insert_with(|| LineTime::of(now()));
            layout.write(&event, time, &mut lines);
            if lines.len() >= BATCH_BYTES {
                write(&mut lines);
            }
        }
        Some(EventRead::Lost(lines)) => {
            tracing::warn!(lines, "request lines were lost: the log is written too slowly");
        }
        None => {
            time = None;
            write(&mut lines);
        }
    };
    each_event(events, PAUSE, stop, take).await;
}

/// How late a line may be written.
const PAUSE: Duration = Duration::from_millis(5);

/// Lines are written when so much of them waits, or none is due.
const BATCH_BYTES: usize = 32 << 10;
