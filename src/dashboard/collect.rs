//! Has the figures of the page together, and decides what may be named on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::activity::Activity;
use super::figures::{
    ByteAmount, ClientFigures, DashboardFigures, DiskFigures, FillFigures, MissedRepository,
    PullsLeft, RecentRequest, UpstreamFigures, WholeSeconds,
};
use super::sources::DashboardSources;
use super::top_images::TopImageLists;
use crate::admin::HealthReport;
use crate::cache::{Decision, MissReason, StaleReason};
use crate::control::RegistryTraffic;
use crate::oci::Reference;
use crate::registry::{Registry, RegistrySet};
use crate::routes::{RequestEvent, RequestKind};

/// Collects figures, one after the other.
#[derive(Debug)]
pub(super) struct FigureCollector {
    sources: DashboardSources,
    images: TopImageLists,
    /// The fills when figures were last taken.
    last: Mutex<LastFills>,
}

/// Bytes of the fills at some time, by registry and digest.
#[derive(Debug)]
struct LastFills {
    at: Instant,
    received: HashMap<(String, String), u64>,
}

impl FigureCollector {
    pub(super) fn new(sources: DashboardSources) -> Self {
        let last = Mutex::new(LastFills { at: Instant::now(), received: HashMap::new() });
        Self { sources, images: TopImageLists::default(), last }
    }

    /// The figures as they are now.
    pub(super) async fn figures(&self) -> DashboardFigures {
        let DashboardSources { reports, activity, started, .. } = &self.sources;
        let routes = (reports.routes)();
        let table = routes.registries();
        let since_start = RegistryTraffic::of_all(&reports.traffic);
        let (last_day, half_hours) = activity.day(since_start);
        let asked = reports.traffic.counts();
        let is_asked = |name: &str| {
            asked.iter().any(|(asked, counts)| asked == name && counts.answered().next().is_some())
        };
        let configured = table.configured().map(|it| it.name().as_str());
        let named = NamedRegistries::of(table);
        let for_images = named.clone();
        let store = reports.cache.store();
        DashboardFigures {
            version: env!("CARGO_PKG_VERSION"),
            started: (*started).into(),
            taken: reports.cache.now().into(),
            health: HealthReport::of(reports).await,
            since_start,
            last_day,
            pulls_left: pulls_left(table),
            half_hours,
            fills: self.fills(table, &named),
            recent: activity.recent().iter().map(|(at, it)| request(*at, it, &named)).collect(),
            upstreams: table.registries().iter().map(|it| upstream(it)).collect(),
            disk: self.disk().await,
            images: self.images.get(store, move |registry| for_images.has(registry)),
            missed: missed(activity, &named),
            clients: clients(activity),
            never_asked: configured.filter(|name| !is_asked(name)).map(str::to_owned).collect(),
        }
    }

    fn fills(&self, table: &RegistrySet, named: &NamedRegistries) -> Vec<FillFigures> {
        let mut last = self.last.lock();
        let seconds = last.at.elapsed().as_secs_f64().max(0.1);
        let mut fills = Vec::new();
        let mut received = HashMap::new();
        for fill in self.sources.reports.cache.fills().into_iter().take(FILLS_SHOWN_MAX) {
            let (registry, digest) = (fill.registry.to_string(), fill.digest.to_string());
            let key = (registry.clone(), digest.clone());
            let before = last.received.get(&key);
            let rate = before.map(|before| per_second(fill.received, *before, seconds));
            let (upstream, is_named) = (table.by_name(&fill.registry), named.has(&registry));
            fills.push(FillFigures {
                repository: is_named.then(|| fill.repository.to_string()),
                host: upstream.map(|it| it.upstream().host().to_owned()).unwrap_or_default(),
                digest: is_named.then_some(digest),
                registry,
                received: ByteAmount(fill.received),
                total: fill.total.map(ByteAmount),
                rate,
                readers: fill.readers,
            });
            received.insert(key, fill.received);
        }
        *last = LastFills { at: Instant::now(), received };
        fills
    }

    async fn disk(&self) -> DiskFigures {
        let cache = &self.sources.reports.cache;
        let space = cache.store_report().space;
        let room = cache.disk_space().await.ok();
        DiskFigures {
            directory: self.sources.dir.display().to_string(),
            used: ByteAmount(space.used.iter().sum()),
            max_size: space.cap.map(ByteAmount),
            free: room.map(|room| ByteAmount(room.available.saturating_sub(room.min_free))),
            pinned: ByteAmount(space.pinned),
            protected: ByteAmount(space.protected),
            evicted: space.evicted.iter().map(|it| it.count).sum(),
            evicted_bytes: ByteAmount(space.evicted.iter().map(|it| it.bytes).sum()),
            last_evicted_unused: space.last_unused.map(WholeSeconds),
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "two digits of it are read, and it is not negative"
)]
fn per_second(now: u64, before: u64, seconds: f64) -> ByteAmount {
    ByteAmount((now.saturating_sub(before) as f64 / seconds) as u64)
}

/// The registries whose repositories may be named: not those that decide about clients themselves,
/// and none that the configuration no longer has.
#[derive(Clone, Debug)]
struct NamedRegistries(Arc<Vec<String>>);

impl NamedRegistries {
    fn of(table: &RegistrySet) -> Self {
        let all = table.registries();
        let named = all.iter().filter(|it| it.grants().is_none());
        Self(Arc::new(named.map(|it| it.name().to_string()).collect()))
    }

    fn has(&self, registry: &str) -> bool {
        self.0.iter().any(|named| named == registry)
    }
}

fn pulls_left(table: &RegistrySet) -> Option<PullsLeft> {
    let all = table.registries();
    let told = all.iter().filter_map(|registry| {
        let allowance = registry.upstream().allowance()?;
        let remaining = allowance.remaining?;
        Some(PullsLeft { registry: registry.name().to_string(), remaining, limit: allowance.limit })
    });
    told.min_by_key(|left| left.remaining)
}

fn upstream(registry: &Registry) -> UpstreamFigures {
    let group = registry.upstream();
    let allowance = group.allowance();
    let troubles: Vec<_> =
        group.troubles().iter().map(|it| format!("{} ({})", it.kind.as_str(), it.host)).collect();
    let state = match () {
        () if registry.is_offline() => "offline".to_owned(),
        () if troubles.is_empty() => "ready".to_owned(),
        () => troubles.join(", "),
    };
    UpstreamFigures {
        registry: registry.name().to_string(),
        host: group.host().to_owned(),
        state,
        credential: match registry.grants() {
            Some(_) => "of each client",
            None => registry.options().upstream.credential.kind(),
        },
        credential_end: group.credential_end().map(Into::into),
        remaining: allowance.and_then(|it| it.remaining),
        limit: allowance.and_then(|it| it.limit),
        received: ByteAmount(group.meter().received()),
    }
}

fn request(at: SystemTime, event: &RequestEvent, named: &NamedRegistries) -> RecentRequest {
    let details = &event.details;
    let registry = details.registry.as_deref().unwrap_or_default().to_owned();
    let repository = details.repository.as_ref().filter(|_| named.has(&registry));
    let name = repository.map(|repository| match &details.manifest {
        Some(Reference::Tag(tag)) => format!("{registry}/{repository}:{tag}"),
        Some(Reference::Digest(digest)) => format!("{registry}/{repository}@{digest}"),
        None => format!("{registry}/{repository}"),
    });
    let user = details.client.user.as_deref().map(|user| format!("{user} at ")).unwrap_or_default();
    let reason = match &details.fault {
        Some(fault) if named.has(&registry) => fault.clone(),
        Some(_) => "it failed".to_owned(),
        None => reason(event.summary.decision).to_owned(),
    };
    RecentRequest {
        at: at.into(),
        client: format!("{user}{}", details.client.address),
        method: details.method.to_string(),
        kind: RequestKind::as_str(event.summary.route),
        registry,
        name,
        status: event.summary.status.as_u16(),
        reason,
        sent: ByteAmount(event.summary.sent),
    }
}

/// The decision, in words.
fn reason(decision: Option<Decision>) -> &'static str {
    match decision {
        None => "the cache had no part in it",
        Some(Decision::Hit) => "from the cache",
        Some(Decision::Revalidated) => "from the cache, after the upstream was asked",
        Some(Decision::Miss { reason: MissReason::Absent, .. }) => "fetched: not in the cache",
        Some(Decision::Miss { reason: MissReason::Evicted, .. }) => "fetched: it had been evicted",
        Some(Decision::Bypass(_)) => "from the upstream, not kept",
        Some(Decision::Relayed { mounted: true }) => "pushed: the registry had it",
        Some(Decision::Relayed { mounted: false }) => "sent on to the registry",
        Some(Decision::Stale { reason, .. }) => match reason {
            StaleReason::Budget => "from the cache: little is left of the rate limit",
            StaleReason::CredentialRefused => "from the cache: the credential is refused",
            StaleReason::Offline => "from the cache: the registry is set offline",
            StaleReason::Slow => "from the cache: the upstream is slow",
            StaleReason::Throttled => "from the cache: the upstream limits requests",
            StaleReason::Unavailable => "from the cache: the upstream is unavailable",
        },
    }
}

fn missed(activity: &Activity, named: &NamedRegistries) -> Vec<MissedRepository> {
    let missed = activity.missed().into_iter();
    let shown = missed.filter(|((registry, _), _)| named.has(registry)).take(ROWS_SHOWN_MAX);
    shown
        .map(|((registry, name), misses)| MissedRepository {
            name: format!("{registry}/{name}"),
            misses,
        })
        .collect()
}

fn clients(activity: &Activity) -> Vec<ClientFigures> {
    let clients = activity.clients().into_iter().take(CLIENTS_SHOWN_MAX);
    clients
        .map(|(client, seen)| ClientFigures {
            address: client.address.to_string(),
            user: client.user.map(Into::into),
            agent: seen.agent.map(Into::into),
            requests: seen.requests,
            last: seen.last.into(),
        })
        .collect()
}

/// Fills on the page.
const FILLS_SHOWN_MAX: usize = 100;

/// Rows of a list on the page.
const ROWS_SHOWN_MAX: usize = 10;

/// Clients on the page.
const CLIENTS_SHOWN_MAX: usize = 50;
