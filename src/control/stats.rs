//! The figures of the cache and of its server: what `larder stats --json` prints.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::warm_schedule::WarmTableStats;
use crate::cache::Decision;
use crate::routes::{RegistryCounts, RequestKind, TrafficCounters};
use crate::store::{EvictionReason, IndexState, IndexTotals, SpacePart, StoreReport, StoreView};

/// The figures of a cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheStats {
    /// The cache directory.
    pub dir: String,
    /// Bytes that it may take; `null` without a limit, or if no server runs.
    pub max_size: Option<u64>,
    /// Bytes that it takes on the disk.
    pub used: u64,
    /// The same by part: `blobs`, `index`, `partials`, `records`, `unlinked`.
    pub parts: BTreeMap<String, u64>,
    /// Contents that are stored, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Manifests, counted in each repository that has them.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Whether `blobs` to `tags` cover every file: `false` while the index is being built.
    #[serde(rename = "counted")]
    pub is_counted: bool,
    /// The figures of the server since its start; `null` if none runs.
    pub server: Option<ServerStats>,
}

/// The figures of a server since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStats {
    /// The version of Larder.
    pub version: String,
    /// The requests of all registries.
    pub all: RegistryTraffic,
    /// The requests of each registry that had any.
    pub registries: BTreeMap<String, RegistryTraffic>,
    /// Bytes of pinned content.
    #[serde(default)]
    pub pinned_bytes: u64,
    /// Bytes of content that goes last, as no upstream can give it now.
    #[serde(default)]
    pub protected_bytes: u64,
    /// The blobs evicted for each bound: `max_size`, `min_free`.
    pub evicted: BTreeMap<String, EvictedCount>,
    /// Seconds from the last use to the eviction of the blob that was evicted last.
    pub last_evicted_unused_seconds: Option<u64>,
    /// The `[[warm]]` tables of the configuration.
    #[serde(default)]
    pub warm: Vec<WarmTableStats>,
}

/// Blobs that were evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictedCount {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The requests for manifests and blobs that were answered with 2xx or 3xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RegistryTraffic {
    /// How many.
    pub requests: u64,
    /// Those of them that were answered from the cache, also after a revalidation or stale.
    pub hits: u64,
    /// Those of the hits that were stale: the upstream could not be asked.
    #[serde(default)]
    pub stale: u64,
    /// `hits` by `requests`; `null` without any.
    pub hit_ratio: Option<f64>,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Those of them that came from the cache.
    pub hit_bytes: u64,
    /// `hit_bytes` by `bytes`; `null` without any.
    pub byte_hit_ratio: Option<f64>,
}

impl CacheStats {
    /// The figures that a server has at hand. Does not block.
    pub(super) fn of_server(
        dir: &Path,
        report: &StoreReport,
        traffic: &TrafficCounters,
        warm: Vec<WarmTableStats>,
    ) -> Self {
        let server = ServerStats { warm, ..ServerStats::of(report, traffic) };
        let is_counted = report.index.state == IndexState::Ready;
        let stats = Self::new(dir, report.space.used, report.index.totals);
        Self { max_size: report.space.cap, is_counted, server: Some(server), ..stats }
    }

    /// The figures that the files show, by a walk over all of them. Blocks.
    ///
    /// # Errors
    ///
    /// Those of listing a directory.
    pub fn of_files(dir: &Path, view: &StoreView) -> io::Result<Self> {
        Ok(Self::new(dir, view.used(), view.totals()?))
    }

    fn new(dir: &Path, used: [u64; SpacePart::ALL.len()], totals: IndexTotals) -> Self {
        let parts = SpacePart::ALL.into_iter().zip(used);
        Self {
            dir: dir.display().to_string(),
            max_size: None,
            used: used.iter().sum(),
            parts: parts.map(|(part, bytes)| (part.as_str().to_owned(), bytes)).collect(),
            blobs: totals.blobs,
            blob_bytes: totals.bytes,
            manifests: totals.manifests,
            tags: totals.tags,
            is_counted: true,
            server: None,
        }
    }
}

impl ServerStats {
    fn of(report: &StoreReport, traffic: &TrafficCounters) -> Self {
        let mut stats = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pinned_bytes: report.space.pinned,
            protected_bytes: report.space.protected,
            last_evicted_unused_seconds: report.space.last_unused,
            ..Self::default()
        };
        for (reason, evicted) in EvictionReason::ALL.into_iter().zip(report.space.evicted) {
            let count = EvictedCount { blobs: evicted.count, bytes: evicted.bytes };
            stats.evicted.insert(reason.as_str().to_owned(), count);
        }
        for (registry, counts) in traffic.counts() {
            let traffic = RegistryTraffic::of(&counts);
            if traffic.requests > 0 {
                stats.all = stats.all.and(traffic);
                stats.registries.insert(registry, traffic);
            }
        }
        stats
    }
}

impl RegistryTraffic {
    /// The traffic of all registries since the start.
    pub fn of_all(traffic: &TrafficCounters) -> Self {
        let each = traffic.counts().into_iter().map(|(_, counts)| Self::of(&counts));
        each.fold(Self::default(), Self::and)
    }

    fn of(counts: &RegistryCounts) -> Self {
        let mut traffic = Self::default();
        let is_content = |route| matches!(route, RequestKind::Blob | RequestKind::Manifest);
        for answered in counts.answered().filter(|answered| is_content(answered.route)) {
            if !matches!(answered.status, "2xx" | "3xx") {
                continue;
            }
            traffic.requests += answered.count;
            traffic.hits += if is_hit(answered.decision) { answered.count } else { 0 };
            let is_stale = matches!(answered.decision, Some(Decision::Stale { .. }));
            traffic.stale += if is_stale { answered.count } else { 0 };
        }
        for (route, decision, bytes) in counts.sent() {
            if is_content(route) && decision.is_some() {
                traffic.bytes += bytes;
                traffic.hit_bytes += if is_hit(decision) { bytes } else { 0 };
            }
        }
        traffic.with_ratios()
    }

    /// The traffic after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let later = Self {
            requests: self.requests.saturating_sub(before.requests),
            hits: self.hits.saturating_sub(before.hits),
            stale: self.stale.saturating_sub(before.stale),
            bytes: self.bytes.saturating_sub(before.bytes),
            hit_bytes: self.hit_bytes.saturating_sub(before.hit_bytes),
            ..Self::default()
        };
        later.with_ratios()
    }

    fn and(self, other: Self) -> Self {
        let sum = Self {
            requests: self.requests + other.requests,
            hits: self.hits + other.hits,
            stale: self.stale + other.stale,
            bytes: self.bytes + other.bytes,
            hit_bytes: self.hit_bytes + other.hit_bytes,
            ..Self::default()
        };
        sum.with_ratios()
    }

    fn with_ratios(self) -> Self {
        Self {
            hit_ratio: ratio(self.hits, self.requests),
            byte_hit_ratio: ratio(self.hit_bytes, self.bytes),
            ..self
        }
    }
}

fn is_hit(decision: Option<Decision>) -> bool {
    let is_stored = |decision| {
        matches!(decision, Decision::Hit | Decision::Revalidated | Decision::Stale { .. })
    };
    decision.is_some_and(is_stored)
}

#[allow(clippy::cast_precision_loss, reason = "four digits of it are read")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
