//! Builds the parts and joins them, starts them and stops them.
//!
//! `ports.rs` has the addresses of clients, `operators.rs` those of operators, `control_socket.rs`
//! the socket of commands; `certificates.rs`, `users.rs` and `passwords.rs` look after the files
//! that all rests on, `run.rs` is the process: its signals, and what they lead to.

mod accepting;
mod access_log;
mod certificates;
mod control_socket;
mod error;
mod hourly_log;
mod latest;
mod log_thread;
mod notify;
mod operator_port;
mod operators;
mod passwords;
mod ports;
mod pull_log;
mod request_log;
mod run;
mod trace_export;
mod users;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::latest::LatestValue;
use self::trace_export::RunningExport;
use crate::access::{self, ListenerAccess, LoginCache};
use crate::admin::{AdminService, ReportSources};
use crate::bundle::BundleKey;
use crate::cache::{Cache, KnownRegistries};
use crate::clock::{BootId, SystemClock, WallClock};
use crate::config::{ClientLimits, Settings};
use crate::control::{ControlSources, PageFigures, RegistrySettings, WarmCount, WarmSchedule};
use crate::http::{
    ClientPeer, ClientSocket, ConnectionLoad, ConnectionQuota, EgressRoute, InstanceId, Network,
    NetworkConnection, ProxyTable, RequestBody, SendfileQueue, ServerTls, SystemNetwork,
    serve_connection,
};
use crate::inventory::PinBook;
use crate::push;
use crate::push::PushService;
use crate::registry::RegistrySet;
use crate::routes::{Entrance, Routes, TrafficCounters};
use crate::store::{BootClock, OpenError, Store, StoreReport, UpstreamStates};
use crate::upstream::SetupError;

pub use self::error::StartError;
pub use self::run::{RunEnd, run};
pub use crate::store::{CHECK_COMMAND, check_index};

/// The parts of the outside world that tests replace.
#[derive(Clone, Debug)]
pub struct AppParts {
    /// The way to upstreams.
    pub network: Arc<dyn Network>,
    /// The time of day.
    pub clock: Arc<dyn WallClock>,
    /// The run of the machine.
    pub boot: BootId,
}

impl Default for AppParts {
    fn default() -> Self {
        Self {
            network: Arc::new(SystemNetwork),
            clock: Arc::new(SystemClock),
            boot: BootId::current(),
        }
    }
}

/// A running proxy, without listeners of its own. Clones are the same proxy.
#[derive(Clone, Debug)]
pub struct App {
    cache: Cache,
    pins: Arc<PinBook>,
    warming: Arc<WarmSchedule>,
    push: PushService,
    egress: EgressRoute,
    ledger: Arc<LoginCache>,
    routes: Arc<LatestValue<Routes>>,
    grace: Arc<LatestValue<Duration>>,
    limits: Arc<LatestValue<ClientLimits>>,
    /// The keys of which one has to have signed an archive that is imported.
    import_keys: Arc<LatestValue<Vec<BundleKey>>>,
    quota: ConnectionQuota,
    traffic: Arc<TrafficCounters>,
    traces: Arc<RunningExport>,
    connections: TaskTracker,
    /// The addresses that are listened on with TLS.
    secured: Arc<LatestValue<Vec<(SocketAddr, ServerTls)>>>,
    is_reload_successful: Arc<AtomicBool>,
    /// Cancelled when no more requests are to be taken.
    stop: CancellationToken,
}

impl App {
    /// Opens the cache directory and builds everything on it. Connects to nothing.
    pub async fn open(settings: &Settings, parts: AppParts) -> Result<Self, StartError> {
        let egress = EgressRoute {
            network: parts.network,
            instance: InstanceId::random(),
            proxies: ProxyTable::new(&settings.proxies),
            clock: Arc::clone(&parts.clock),
        };
        let registries = RegistrySet::build(&settings.registries, &egress, None)?;
        let machine = BootClock { clock: Arc::clone(&parts.clock), boot: parts.boot };
        let (store, pins) = open_store(settings, machine).await?;
        let cache = Cache::new(Arc::clone(&store), parts.clock.clone(), settings.cache);
        let push = open_push(store, cache.clone(), parts.clock, settings.push.clone()).await?;
        cache.sweep().await;
        let (traces, traffic) = trace_export::start(settings.traces.clone(), &egress)?;
        let (reader, writer, counters) = (cache.clone(), push.clone(), Arc::clone(&traffic));
        let routes = Routes::new(registries, reader, writer, egress.instance, counters);
        let routes = Arc::new(LatestValue::new(routes));
        let stop = spawn_periodic(&cache, &routes, &traffic);
        let warming = WarmSchedule::new(cache.clone(), known_registries(&routes));
        warming.set_tables(settings.warm.clone());
        Ok(Self {
            cache,
            pins,
            warming: Arc::new(warming),
            push,
            egress,
            ledger: Arc::new(LoginCache::new()?),
            routes,
            grace: Arc::new(LatestValue::new(settings.shutdown_grace)),
            limits: Arc::new(LatestValue::new(settings.clients)),
            import_keys: Arc::new(LatestValue::new(settings.import_keys.clone())),
            quota: ConnectionQuota::for_clients(stop.clone()),
            traffic,
            traces,
            connections: TaskTracker::new(),
            secured: Arc::default(),
            is_reload_successful: Arc::new(true.into()),
            stop,
        })
    }

    /// Answers requests from now on as `settings` say. Those under way go on as they began; what is
    /// cached, and every fetch under way, stays. The only settings of the cache that can change are
    /// the bounds of its space, and how long content is kept.
    pub fn reload(&self, settings: &Settings) -> Result<(), SetupError> {
        let before = self.routes.take();
        let before = Some(before.registries());
        let registries = RegistrySet::build(&settings.registries, &self.egress, before)?;
        self.routes.put(Routes::new(
            registries,
            self.cache.clone(),
            self.push.clone(),
            self.egress.instance,
            Arc::clone(&self.traffic),
        ));
        self.cache.set_space_limits(settings.store.limits, &settings.store.retention);
        self.pins.set_patterns(settings.pins.clone());
        self.cache.store().pins_changed();
        self.warming.set_tables(settings.warm.clone());
        self.grace.put(settings.shutdown_grace);
        self.limits.put(settings.clients);
        self.import_keys.put(settings.import_keys.clone());
        Ok(())
    }

    /// Lets operators see this proxy.
    pub fn show_to(&self, admin: &AdminService) {
        admin.serves(self.report_sources());
    }

    /// The parts that health, metrics and the page are read from.
    pub fn report_sources(&self) -> ReportSources {
        let (routes, warming) = (Arc::clone(&self.routes), Arc::clone(&self.warming));
        let warmed = move || {
            let WarmCount { complete, failed } = warming.count();
            [("complete", complete), ("failed", failed)]
        };
        let secured = Arc::clone(&self.secured);
        let certificates = move || {
            let secured = secured.take();
            let ends = secured.iter().filter_map(|(at, tls)| Some((*at, tls.certificate_end()?)));
            ends.collect()
        };
        ReportSources {
            certificates: Box::new(certificates),
            is_reload_successful: Arc::clone(&self.is_reload_successful),
            warmed: Box::new(warmed),
            cache: self.cache.clone(),
            push: self.push.clone(),
            routes: Box::new(move || routes.take()),
            traffic: Arc::clone(&self.traffic),
            connections: self.connections.clone(),
            stop: self.stop.clone(),
        }
    }

    /// The parts that the commands of operators read and change.
    pub fn control_sources(&self, cache_dir: &Path, page: PageFigures) -> ControlSources {
        let import_keys = Arc::clone(&self.import_keys);
        ControlSources {
            dir: cache_dir.to_owned(),
            page,
            pins: Arc::clone(&self.pins),
            cache: self.cache.clone(),
            known: known_registries(&self.routes),
            registries: registry_settings(&self.routes),
            import_keys: Arc::new(move || import_keys.take().as_ref().clone()),
            traffic: Arc::clone(&self.traffic),
            warming: Arc::clone(&self.warming),
        }
    }

    /// The counters of requests.
    pub fn traffic(&self) -> &TrafficCounters {
        &self.traffic
    }

    /// Serves one connection of this peer until it ends: HTTP/1.1, or HTTP/2 by its first bytes.
    /// All doors are open; the rights of its clients are up to `access`.
    pub fn serve_peer(
        &self,
        io: NetworkConnection,
        peer: ClientPeer,
        access: access::AccessOptions,
    ) -> impl Future<Output = ()> + Send + use<> {
        self.serve_alone(io, None, peer, access)
    }

    /// Serves one connection over TCP, which sends files by itself, until it ends.
    pub fn serve_socket(
        &self,
        socket: ClientSocket,
        access: access::AccessOptions,
    ) -> impl Future<Output = ()> + Send + use<> {
        let outlet = Some(socket.outlet());
        self.serve_alone(Box::new(socket), outlet, ClientPeer::default(), access)
    }

    /// Serves a connection that no listener has admitted.
    fn serve_alone(
        &self,
        io: NetworkConnection,
        outlet: Option<SendfileQueue>,
        peer: ClientPeer,
        access: access::AccessOptions,
    ) -> impl Future<Output = ()> + Send + use<> {
        let app = self.clone();
        async move {
            let access = ListenerAccess::new(access, Arc::clone(&app.ledger));
            let entrance = Arc::new(LatestValue::new(Entrance::to_all(access)));
            let entered = app.quota.enter(peer.address, usize::MAX).await;
            let Ok(permit) = entered else { return };
            app.serve_at(io, outlet, peer, entrance, Arc::clone(&permit)).await;
        }
    }

    /// Serves one connection at an entrance until it ends.
    fn serve_at(
        &self,
        io: NetworkConnection,
        outlet: Option<SendfileQueue>,
        peer: ClientPeer,
        entrance: Arc<LatestValue<Entrance>>,
        load: Arc<ConnectionLoad>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (routes, peer) = (Arc::clone(&self.routes), Arc::new(peer));
        let answer = move |request| {
            let (routes, entrance, peer) = (routes.take(), entrance.take(), Arc::clone(&peer));
            async move { routes.answer(RequestBody::of(request), &entrance, &peer).await }
        };
        serve_connection(io, outlet, answer, load)
    }

    /// The store's figures: index, verification, space.
    pub fn store_report(&self) -> StoreReport {
        self.cache.store_report()
    }

    /// Takes no more requests, and waits for what runs, at most as long as configured. Fetches
    /// that are not done by then stay on disk, to be gone on with.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.warming.set_tables(Vec::new());
        self.connections.close();
        let grace = *self.grace.take();
        let begin = Instant::now();
        if timeout(grace, self.connections.wait()).await.is_err() {
            tracing::warn!(open = self.connections.len(), "stopping with transfers in flight");
        }
        let left = || grace.saturating_sub(begin.elapsed());
        self.push.stop(left()).await;
        self.cache.stop(left()).await;
        self.cache.close().await;
        self.traces.finish().await;
    }

    /// Removes old partial downloads and copies of uploads, until Larder stops.
    async fn sweep_periodically(&self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {
                    self.push.sweep();
                    self.cache.sweep().await;
                }
            }
        }
    }
}

/// Starts the tasks that go on until Larder stops, and shows the store its upstreams.
fn spawn_periodic(
    cache: &Cache,
    routes: &Arc<LatestValue<Routes>>,
    traffic: &Arc<TrafficCounters>,
) -> CancellationToken {
    let stop = CancellationToken::new();
    cache.store().set_upstream_states(upstream_states(routes));
    tokio::spawn(scrub_until(stop.clone(), cache.clone(), known_registries(routes)));
    tokio::spawn(hourly_log::log_hourly(Arc::clone(traffic), stop.clone()));
    stop
}

/// Verifies stored content in turn until Larder stops.
async fn scrub_until(stop: CancellationToken, cache: Cache, known: KnownRegistries) {
    stop.run_until_cancelled(cache.scrub(known)).await;
}

/// The registries of the routes as they are at each call.
fn known_registries(routes: &Arc<LatestValue<Routes>>) -> KnownRegistries {
    let routes = Arc::clone(routes);
    Arc::new(move |name| routes.take().registries().by_name(name))
}

/// Tells which registries are unavailable. The routes do not live longer for it.
fn upstream_states(routes: &Arc<LatestValue<Routes>>) -> UpstreamStates {
    let routes = Arc::downgrade(routes);
    UpstreamStates::new(move || {
        let routes = routes.upgrade().map(|routes| routes.take());
        routes.map(|routes| routes.registries().unavailable()).unwrap_or_default()
    })
}

/// The settings of the registries of the routes as they are at each call.
fn registry_settings(routes: &Arc<LatestValue<Routes>>) -> RegistrySettings {
    let routes = Arc::clone(routes);
    let options = |routes: &Routes| {
        let all = routes.registries().registries();
        all.iter().map(|registry| registry.options().clone()).collect()
    };
    Arc::new(move || options(&routes.take()))
}

/// Time between two sweeps: partial downloads age by hours.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// The cache directory, and what is kept in it.
async fn open_store(
    settings: &Settings,
    machine: BootClock,
) -> Result<(Arc<Store>, Arc<PinBook>), StartError> {
    let options = settings.store.clone();
    let patterns = settings.pins.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store = Store::open(options, machine)?;
        let list = store.pin_list().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the list of pinned images; none of it is kept");
            Vec::new()
        });
        let pins = Arc::new(PinBook::new(patterns, &list));
        store.set_pins(Arc::clone(&pins) as _);
        Ok::<_, OpenError>((Arc::new(store), pins))
    });
    Ok(opened.await.map_err(|_| StartError::Interrupted)??)
}

/// The push path, whose key may have to be read.
async fn open_push(
    store: Arc<Store>,
    cache: Cache,
    clock: Arc<dyn WallClock>,
    options: push::PushOptions,
) -> Result<PushService, StartError> {
    let open = move || PushService::new(store, cache, clock, &options);
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|_| StartError::Interrupted)?.map_err(StartError::Push)
}
