//! Writes one log line for each request, from its event.
//!
//! The log may be slow: a full pipe, a terminal over a slow line. So lines are written by a reader
//! of events, never by the task that answers a request.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::event::{EventRead, EventReader, RequestEvent, each_event};
use crate::cache::{Decision, MissReason};
use crate::oci::RepositoryName;

/// Whether `LARDER_LOG` enables request lines.
pub fn log_is_wanted() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Writes a line for each event, until the sender is gone or `stop` is cancelled; then the lines
/// that are due already.
pub async fn write_log(events: EventReader, stop: CancellationToken) {
    each_event(events, PAUSE, stop, write).await;
}

fn write(read: EventRead) {
    match read {
        EventRead::Event(event) => write_event(&event),
        EventRead::Lost(lines) => {
            tracing::warn!(lines, "request lines were lost: the log is written too slowly");
        }
    }
}

fn write_event(event: &RequestEvent) {
    let RequestEvent { summary, details } = event;
    let names = summary.decision.map(Decision::names);
    tracing::info!(
        target: TARGET,
        method = %details.method,
        client = %details.client.address,
        user = details.client.user.as_deref(),
        path = %details.path.escape_debug(),
        route = summary.route.as_str(),
        registry = details.registry.as_deref(),
        repository = details.repository.as_ref().map(RepositoryName::as_str),
        status = summary.status.as_u16(),
        decision = names.map(|names| names.word),
        detail = names.map(|names| names.detail).filter(|detail| !detail.is_empty()),
        reason = summary.decision.and_then(Decision::miss_reason).map(MissReason::as_str),
        bytes = summary.sent,
        received = details.received,
        duration_ms = millis(summary.took),
        first_byte_ms = summary.first_byte.map(millis),
        end = summary.end.as_str(),
        agent = details.agent.as_deref(),
        request_id = details.request_id,
        fault = details.fault,
        "request",
    );
}

/// Milliseconds, rounded to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The target of request lines, by which `LARDER_LOG` switches them off.
const TARGET: &str = "larder::request";

/// How late a line may be written.
const PAUSE: Duration = Duration::from_millis(5);
