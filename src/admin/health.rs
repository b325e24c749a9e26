//! Whether Larder is ready to serve, and for what reasons it is degraded.
//!
//! Degraded is ready: what is cached is served, and neither a restart nor another replica would
//! bring the upstream back, or the disk. So only what has not begun, and what is ending, is not
//! ready.

use std::sync::Arc;

use serde::Serialize;

use super::sources::ReportSources;
use crate::cache::Cache;
use crate::registry::{Registry, RegistrySet};

/// The body of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    status: HealthState,
    /// Why it is degraded.
    reasons: Vec<HealthReason>,
}

/// Whether it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HealthState {
    /// It serves, but not all that it should.
    Degraded,
    /// It serves.
    Ready,
    /// It does not serve yet.
    Starting,
    /// It takes no more requests.
    Stopping,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct HealthReason {
    #[serde(rename = "reason")]
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    detail: String,
}

impl HealthState {
    pub(super) const ALL: [Self; 4] = [Self::Degraded, Self::Ready, Self::Starting, Self::Stopping];

    /// The word in `/readyz` and in the metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
        }
    }
}

impl HealthReport {
    /// The report of a Larder that does not serve yet.
    pub(super) fn starting() -> Self {
        Self { status: HealthState::Starting, reasons: Vec::new() }
    }

    /// The report of a Larder that serves, or that is stopping.
    pub async fn of(sources: &ReportSources) -> Self {
        let disk = disk(&sources.cache).await;
        let routes = (sources.routes)();
        let reasons: Vec<_> = upstreams(routes.registries()).chain(disk).collect();
        let status = match () {
            () if sources.stop.is_cancelled() => HealthState::Stopping,
            () if reasons.is_empty() => HealthState::Ready,
            () => HealthState::Degraded,
        };
        Self { status, reasons }
    }

    /// The word of its state.
    pub fn word(&self) -> &'static str {
        self.status.as_str()
    }

    /// A line for each reason.
    pub fn lines(&self) -> Vec<String> {
        self.reasons.iter().map(HealthReason::to_line).collect()
    }

    pub(super) fn state(&self) -> HealthState {
        self.status
    }

    /// Whether requests should be sent here.
    pub(super) fn is_ready(&self) -> bool {
        match self.status {
            HealthState::Degraded | HealthState::Ready => true,
            HealthState::Starting | HealthState::Stopping => false,
        }
    }
}

impl HealthReason {
    fn to_line(&self) -> String {
        let places = [&self.registry, &self.host].into_iter().flatten();
        let places: Vec<_> = places.map(String::as_str).collect();
        let places =
            if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
        format!("{}{places}: {}", self.what, self.detail)
    }
}

/// A registry that is offline on purpose is not asked, and so not missed.
fn upstreams(table: &RegistrySet) -> impl Iterator<Item = HealthReason> {
    let asked = |registry: &Arc<Registry>| !registry.is_offline();
    table.registries().into_iter().filter(asked).flat_map(|registry| {
        let troubles = registry.upstream().troubles().into_iter();
        troubles.map(move |trouble| HealthReason {
            what: trouble.kind.as_str(),
            registry: Some(registry.name().as_str().to_owned()),
            host: Some(trouble.host),
            detail: trouble.reason,
        })
    })
}

async fn disk(cache: &Cache) -> Option<HealthReason> {
    let detail = cache.disk_trouble().await?;
    let detail = format!("blobs are passed through without being kept: {detail}");
    Some(HealthReason { what: "disk-bypassed", registry: None, host: None, detail })
}
