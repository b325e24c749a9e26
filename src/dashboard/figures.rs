//! The figures of the page, and of `/stats.json`. Numbers here, words for people by `Display`.

use std::fmt;

use serde::Serialize;

use crate::admin::HealthReport;
use crate::amounts;
use crate::control::RegistryTraffic;
use crate::inventory::Timestamp;

/// All that the page shows.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DashboardFigures {
    /// The version of Larder.
    pub(super) version: &'static str,
    /// When it was started.
    pub(super) started: Timestamp,
    /// When these figures were taken.
    pub(super) taken: Timestamp,
    /// Whether it is ready, and why it is degraded.
    pub(super) health: HealthReport,
    /// The traffic since the start.
    pub(super) since_start: RegistryTraffic,
    /// The traffic of the last 24 hours.
    pub(super) last_day: RegistryTraffic,
    /// The registry that allows the fewest further pulls, of those that say.
    pub(super) pulls_left: Option<PullsLeft>,
    /// The last 24 hours in half hours, the oldest first.
    pub(super) half_hours: Vec<RegistryTraffic>,
    /// Blobs that are being fetched; at most a hundred.
    pub(super) fills: Vec<FillFigures>,
    /// The last requests, the latest first.
    pub(super) recent: Vec<RecentRequest>,
    /// The registries.
    pub(super) upstreams: Vec<UpstreamFigures>,
    /// The disk.
    pub(super) disk: DiskFigures,
    /// Images by size, and by pulls; empty until the cache has been listed.
    pub(super) images: TopImages,
    /// The repositories with the most requests that were not in the cache, since the start.
    pub(super) missed: Vec<MissedRepository>,
    /// The clients that were seen last, the latest first.
    pub(super) clients: Vec<ClientFigures>,
    /// Registries of the configuration that no client has asked for since the start.
    pub(super) never_asked: Vec<String>,
}

/// A registry that limits pulls.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PullsLeft {
    pub(super) registry: String,
    pub(super) remaining: u64,
    pub(super) limit: Option<u64>,
}

/// A blob that is being fetched.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FillFigures {
    pub(super) registry: String,
    /// `None` where it may not be named.
    pub(super) repository: Option<String>,
    /// `None` likewise.
    pub(super) digest: Option<String>,
    /// The host that is asked.
    pub(super) host: String,
    pub(super) received: ByteAmount,
    /// Bytes of the whole, if the upstream has said.
    pub(super) total: Option<ByteAmount>,
    /// Bytes in a second since the figures before these; `None` if it is new.
    pub(super) rate: Option<ByteAmount>,
    /// The requests that read it.
    pub(super) readers: usize,
}

impl FillFigures {
    /// Enough of the digest to know it by, if it may be shown.
    pub(super) fn short_digest(&self) -> &str {
        self.digest.as_deref().map_or("a blob", |digest| digest.get(..19).unwrap_or(digest))
    }

    /// The share that has come, if it is known of what.
    pub(super) fn progress(&self) -> Option<PartOfWhole> {
        self.total.map(|total| PartOfWhole { part: self.received.0, whole: total.0 })
    }
}

/// A request that was answered.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RecentRequest {
    pub(super) at: Timestamp,
    /// Its address, and its user, if it has one.
    pub(super) client: String,
    pub(super) method: String,
    /// The kind of resource, as in the log.
    pub(super) kind: &'static str,
    pub(super) registry: String,
    /// The image or repository; `None` where it may not be named.
    pub(super) name: Option<String>,
    pub(super) status: u16,
    /// The decision or the error, in words.
    pub(super) reason: String,
    pub(super) sent: ByteAmount,
}

impl RecentRequest {
    /// The image, if it is one and may be named.
    pub(super) fn image(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.kind == "manifest")
    }
}

/// A registry, and how it is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct UpstreamFigures {
    pub(super) registry: String,
    pub(super) host: String,
    /// `ready`, `offline`, or the words of what is wrong, as in `/readyz`.
    pub(super) state: String,
    /// With what kind of credential it is asked.
    pub(super) credential: &'static str,
    /// When that ends, if it was issued.
    pub(super) credential_end: Option<Timestamp>,
    /// Requests that it says are left, and of how many.
    pub(super) remaining: Option<u64>,
    pub(super) limit: Option<u64>,
    /// Bytes that came from it since the start.
    pub(super) received: ByteAmount,
}

/// The disk, as far as it is known.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DiskFigures {
    pub(super) directory: String,
    pub(super) used: ByteAmount,
    /// The most that the cache may take; `None` without a bound of its own.
    pub(super) max_size: Option<ByteAmount>,
    /// Space that may still be written.
    pub(super) free: Option<ByteAmount>,
    pub(super) pinned: ByteAmount,
    pub(super) protected: ByteAmount,
    pub(super) evicted: u64,
    pub(super) evicted_bytes: ByteAmount,
    /// Seconds without a use of the blob that was evicted last; few if the cache is too small.
    pub(super) last_evicted_unused: Option<WholeSeconds>,
}

impl DiskFigures {
    /// The share of its bound that the cache takes.
    pub(super) fn fullness(&self) -> Option<PartOfWhole> {
        self.max_size.map(|max| PartOfWhole { part: self.used.0, whole: max.0 })
    }
}

/// Images at the top of two lists.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct TopImages {
    /// The number of images that were looked at.
    pub(super) listed: u64,
    pub(super) biggest: Vec<TopImage>,
    pub(super) most_pulled: Vec<TopImage>,
}

/// An image at the top of a list.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TopImage {
    pub(super) registry: String,
    pub(super) name: String,
    pub(super) size: ByteAmount,
    pub(super) pulls: u64,
    pub(super) is_complete: bool,
    pub(super) last_pull: Timestamp,
}

/// A repository, and how often it was not in the cache.
#[derive(Clone, Debug, Serialize)]
pub(super) struct MissedRepository {
    pub(super) name: String,
    pub(super) misses: u64,
}

/// A client.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ClientFigures {
    pub(super) address: String,
    pub(super) user: Option<String>,
    /// The name that its program gives itself.
    pub(super) agent: Option<String>,
    /// Its requests, without those for a cached manifest that repeat one of the last half minute.
    pub(super) requests: u64,
    pub(super) last: Timestamp,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct ByteAmount(pub(super) u64);

impl fmt::Display for ByteAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&amounts::bytes(self.0))
    }
}

/// A number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct WholeSeconds(pub(super) u64);

impl fmt::Display for WholeSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&amounts::duration(std::time::Duration::from_secs(self.0)))
    }
}

/// A part of a whole. Shown in per cent, or as a dash of nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartOfWhole {
    pub(super) part: u64,
    pub(super) whole: u64,
}

impl PartOfWhole {
    /// In per cent, rounded down.
    pub(super) fn percent(self) -> u64 {
        let percent = u128::from(self.part) * 100 / u128::from(self.whole.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX).min(100)
    }
}

impl fmt::Display for PartOfWhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.whole == 0 { f.write_str("–") } else { write!(f, "{} %", self.percent()) }
    }
}
