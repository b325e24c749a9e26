//! The parts of a running Larder that health and metrics are read from. It reads none of them
//! itself.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::Cache;
use crate::push::PushService;
use crate::routes::{Routes, TrafficCounters};

/// The sources of every report.
pub struct ReportSources {
    /// The cache.
    pub cache: Cache,
    /// The push path.
    pub push: PushService,
    /// Gives the routes of the settings in force.
    pub routes: Box<dyn Fn() -> Arc<Routes> + Send + Sync>,
    /// Counters of past requests.
    pub traffic: Arc<TrafficCounters>,
    /// The images that were fetched on a schedule, by result.
    pub warmed: Box<dyn Fn() -> [(&'static str, u64); 2] + Send + Sync>,
    /// Whether the last reload of the configuration was taken; `true` without any.
    pub is_reload_successful: Arc<AtomicBool>,
    /// The addresses of listeners with TLS, and when their certificates end.
    pub certificates: Box<dyn Fn() -> Vec<(SocketAddr, SystemTime)> + Send + Sync>,
    /// The clients' connections.
    pub connections: TaskTracker,
    /// Cancelled when no more requests are taken.
    pub stop: CancellationToken,
}

impl fmt::Debug for ReportSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportSources").finish_non_exhaustive()
    }
}
