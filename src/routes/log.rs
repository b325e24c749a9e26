//! One log line for each request, written from its event.
//!
//! Where lines are written to may be slow: a pipe that nobody reads, a terminal over a bad line. So
//! lines are written by whoever reads the events, never by whoever answers a request.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::event::{EventRead, EventReader, RequestEvent};
use crate::cache::Decision;
use crate::oci::RepositoryName;

/// Whether request lines are wanted.
pub fn log_is_wanted() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Writes a line for each event, until there will be no more or `stop` is cancelled; then for those
/// that are there already.
pub async fn write_log(mut events: EventReader, stop: CancellationToken) {
    loop {
        let heard = tokio::select! {
            heard = events.next() => heard,
            () = stop.cancelled() => None,
        };
        let is_over = heard.is_none();
        heard.iter().for_each(write);
        while let Some(heard) = events.next_now() {
            write(&heard);
        }
        if is_over {
            return;
        }
        // Whoever waits for events has to be woken, which would cost each request a system call.
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn write(heard: &EventRead) {
    match heard {
        EventRead::Event(event) => write_event(event),
        EventRead::Lost(lines) => {
            tracing::warn!(lines, "request lines were lost: the log is written too slowly");
        }
    }
}

fn write_event(event: &RequestEvent) {
    let summary = &event.summary;
    let names = summary.decision.map(Decision::names);
    tracing::info!(
        target: TARGET,
        method = %event.method,
        path = ?event.path,
        route = summary.route.as_str(),
        registry = event.registry.as_deref(),
        repository = event.repository.as_ref().map(RepositoryName::as_str),
        status = summary.status.as_u16(),
        decision = names.map(|names| names.word),
        detail = names.map(|names| names.detail).filter(|detail| !detail.is_empty()),
        bytes = summary.sent,
        duration_ms = millis(summary.took),
        first_byte_ms = summary.first_byte.map(millis),
        end = summary.end.as_str(),
        request_id = event.request_id,
        fault = event.fault,
        "request",
    );
}

/// To the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The target of request lines, to be switched off by `LARDER_LOG`.
const TARGET: &str = "larder::request";

/// How late a line may be.
const PAUSE: Duration = Duration::from_millis(5);
