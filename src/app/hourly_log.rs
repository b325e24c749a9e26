//! A line each hour with what was served in it. An hour without pulls has none.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::amounts::bytes;
use crate::control::RegistryTraffic;
use crate::routes::TrafficCounters;

/// Writes the lines until `stop` is cancelled.
pub(super) async fn log_hourly(traffic: Arc<TrafficCounters>, stop: CancellationToken) {
    let mut before = RegistryTraffic::of_all(&traffic);
    while stop.run_until_cancelled(sleep(HOUR)).await.is_some() {
        let now = RegistryTraffic::of_all(&traffic);
        let RegistryTraffic { requests, hits, stale, bytes: sent, hit_bytes, .. } =
            now.since(before);
        before = now;
        if requests > 0 {
            let (sent, saved) = (bytes(sent), bytes(hit_bytes));
            tracing::info!(requests, hits, stale, sent, saved, "pulls of the last hour");
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
