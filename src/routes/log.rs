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
/// lines that are due already. Lines that are written by one call have one time.
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
    let mut flush = move |lines: &mut Vec<u8>, time: &mut Option<LineTime>| {
        log.write_all(lines).unwrap_or_default();
        lines.clear();
        *time = None;
    };
    let take = move |read| match read {
        Some(EventRead::Event(event)) => {
            let at = time.get_or_insert_with(|| LineTime::of(now()));
            layout.write(&event, at, &mut lines);
            if lines.len() >= BATCH_BYTES {
                flush(&mut lines, &mut time);
            }
        }
        Some(EventRead::Lost(lines)) => {
            tracing::warn!(lines, "request lines were lost: the log is written too slowly");
        }
        None => flush(&mut lines, &mut time),
    };
    each_event(events, PAUSE, stop, take).await;
}

/// How late a line may be written.
const PAUSE: Duration = Duration::from_millis(5);

/// Lines are written when so much of them waits, or none is due.
const BATCH_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::event::EventSender;
    use super::super::event::tests::event;
    use super::*;

    /// Requests that never pause are no reason for a clock that stands still.
    #[tokio::test]
    async fn the_time_of_lines_moves_on_though_more_are_always_due() {
        let events = EventSender::default();
        let reader = events.subscribe();
        for sent in 0..1000 {
            events.send(event(sent));
        }
        let seconds = Cell::new(0);
        let now = || {
            seconds.set(seconds.get() + 1);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.get())
        };
        let (stop, mut log) = (CancellationToken::new(), Vec::new());
        drop(events);

        write_log(reader, LineLayout::Flat, now, &mut log, stop).await;

        let log = String::from_utf8(log).unwrap();
        let times: Vec<_> = log.lines().filter_map(|line| line.get(..35)).collect();
        assert_eq!(times.len(), 1000);
        assert!(times.is_sorted() && times.first() != times.last(), "{:?}", times.first());
        let batches = log.len() / BATCH_BYTES;
        assert!(batches > 0 && seconds.get() <= 2 + batches as u64, "one time for a batch");
    }
}
