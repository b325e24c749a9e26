//! Where the parts are built and joined, started and stopped.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::cache::Cache;
use crate::clock::{SystemClock, WallClock};
use crate::config::Settings;
use crate::http::{
    Connection, Egress, InstanceId, Listener, Network, SystemNetwork, serve_connection,
};
use crate::registry::Table;
use crate::routes::Routes;
use crate::store::{OpenError, Store};
use crate::upstream::SetupError;

/// What of the world can be replaced.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The way to upstreams.
    pub network: Arc<dyn Network>,
    /// The time of day.
    pub clock: Arc<dyn WallClock>,
}

impl Default for Parts {
    fn default() -> Self {
        Self { network: Arc::new(SystemNetwork), clock: Arc::new(SystemClock) }
    }
}

/// A running proxy, without listeners of its own. Clones are the same proxy.
#[derive(Clone, Debug)]
pub struct App {
    cache: Cache,
    routes: Arc<Routes>,
    grace: Duration,
    connections: TaskTracker,
    /// Cancelled when no more requests are to be taken.
    stop: CancellationToken,
}

impl App {
    /// Opens the cache directory and builds everything on it. Connects to nothing.
    pub async fn open(settings: &Settings, parts: Parts) -> Result<Self, StartError> {
        let instance = InstanceId::random();
        let egress = Egress::direct(parts.network, instance);
        let table = Table::build(&settings.registries, &egress)?;
        let options = settings.store.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(options)).await;
        let store = opened.map_err(|_| StartError::Interrupted)??;
        let cache = Cache::new(Arc::new(store), parts.clock, settings.cache.clone());
        cache.sweep().await;
        let routes = Routes::new(table, cache.clone(), Access::open_for_pull(), instance);
        Ok(Self {
            cache,
            routes: Arc::new(routes),
            grace: settings.shutdown_grace,
            connections: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Serves one client connection until it ends: HTTP/1.1, or HTTP/2 by its first bytes.
    pub fn serve_connection(&self, io: Connection) -> impl Future<Output = ()> + Send + use<> {
        let routes = Arc::clone(&self.routes);
        let answer = move |request| {
            let routes = Arc::clone(&routes);
            async move { routes.answer(request).await }
        };
        serve_connection(io, answer, self.stop.clone())
    }

    /// Takes no more requests, and waits for what runs, at most as long as configured. Fetches
    /// that are not done by then stay on disk, to be gone on with.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.connections.close();
        let ended = timeout(self.grace, async {
            self.connections.wait().await;
            self.cache.stop(self.grace).await;
        });
        if ended.await.is_err() {
            tracing::warn!(open = self.connections.len(), "stopping with transfers under way");
        }
    }

    /// Accepts on these addresses until stopped.
    async fn accept(&self, listeners: Vec<Listener>) {
        let accepting = TaskTracker::new();
        for listener in listeners {
            let app = self.clone();
            accepting.spawn(async move {
                let serve = |io| app.serve_connection(io);
                listener.accept(serve, &app.connections, app.stop.clone()).await;
            });
        }
        accepting.close();
        accepting.wait().await;
    }

    async fn sweep_now_and_then(&self) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => self.cache.sweep().await,
            }
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<(), StartError> {
    raise_descriptor_limit();
    let mut listeners = Vec::new();
    for address in &settings.listen {
        let bound = Listener::bind(*address).await;
        listeners.push(bound.map_err(|source| StartError::Bind { address: *address, source })?);
    }
    let app = App::open(&settings, Parts::default()).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    for address in listeners.iter().filter_map(|listener| listener.address().ok()) {
        tracing::info!(%address, "listening");
    }
    let stopping = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(grace = ?settings.shutdown_grace, "stopping");
        app.stop().await;
    };
    tokio::join!(app.accept(listeners), app.sweep_now_and_then(), stopping);
    Ok(())
}

/// Partial downloads age by hours.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Each client may need two descriptors; the soft limit is often 1,024. What the hard limit
/// allows is taken, and if even that fails, accepting slows down instead.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The start was broken off.
    #[error("the start was interrupted")]
    Interrupted,
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
    /// The cache directory cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// An upstream cannot be set up.
    #[error(transparent)]
    Upstream(#[from] SetupError),
}
