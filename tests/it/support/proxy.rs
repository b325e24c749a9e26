//! Larder itself, in this process, between scripted registries and clients in memory.
//!
//! When a [`Proxy`] is dropped at the end of a test that did not fail, it fails it if anything
//! connected to where nothing may connect, or if a stored blob is not what its name says. These
//! are the promises that every test tests.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use larder::access::{self, AccessPolicy};
use larder::admin::AdminService;
use larder::app::{App, AppParts};
use larder::clock::{BootId, WallClock as _};
use larder::config::{ClientLimits, DashboardSettings, LogSettings, Settings};
use larder::dashboard::{Activity, DashboardService, DashboardSources, record_activity};
use larder::http::{ClientPeer, ClientSocket, ProxyOptions};
use larder::oci::{Digest, DigestHasher};
use larder::registry::{self, AskedAs, RegistryRules, TagPolicy};
use larder::routes::{EventClass, LineLayout, RequestLog, write_log};
use larder::upstream::UpstreamOptions;
use larder::{cache, push, store};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Decision, Reply};
use super::clock::TestClock;
use super::image::Blob;
use super::image::Image;
use super::log::Log;
use super::metrics::Metrics;
use super::network::TestNetwork;
use super::registry::ScriptedRegistry;
use super::tls::TestCa;

/// How long a tag is fresh in tests that do not say otherwise.
pub const TAG_TTL: Duration = Duration::from_secs(60);

/// How long a client waits for a revalidation in tests that do not say otherwise.
pub const STALE_WAIT: Duration = Duration::from_secs(2);

/// How long stored content is believed in tests that do not say otherwise.
pub const VERIFY_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A proxy before it is started: what a test changes from the defaults.
pub struct Setup {
    pub settings: Settings,
    pub network: TestNetwork,
    /// The rights of clients.
    pub access: access::AccessOptions,
    /// How far the wall clock will be ahead: the machine was off for so long.
    pub ahead: Duration,
    dir: TempDir,
}

/// The app while it runs. Clients look here, so that none keeps a stopped one alive.
type Slot = Arc<Mutex<Option<App>>>;

/// A running proxy.
pub struct Proxy {
    pub network: TestNetwork,
    pub clock: Arc<TestClock>,
    /// Sends to this proxy, also after a restart.
    pub client: Client,
    access: access::AccessOptions,
    settings: Settings,
    boot: Mutex<BootId>,
    app: Slot,
    dir: TempDir,
}

impl Setup {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache_dir = dir.path().join("cache");
        let settings = Settings {
            access_log: None,
            traces: None,
            listeners: Vec::new(),
            admin: None,
            dashboard: DashboardSettings::default(),
            clients: ClientLimits { stall: Duration::from_secs(600), connections: None },
            shutdown_grace: Duration::from_secs(30),
            log: LogSettings::default(),
            store: store::StoreOptions {
                dir: cache_dir,
                limits: store::SpaceLimits::NONE,
                retention: store::RetentionLimits::default(),
                fill_keep: Duration::from_secs(24 * 60 * 60),
                verify_every: VERIFY_EVERY,
                index: None,
            },
            import_keys: Vec::new(),
            pins: Vec::new(),
            warm: Vec::new(),
            cache: cache::CacheOptions {
                memory: 8 << 20,
                stale_wait: STALE_WAIT,
                scrub_every: Duration::ZERO,
            },
            proxies: ProxyOptions::default(),
            push: push::PushOptions::default(),
            registries: Vec::new(),
            warnings: Vec::new(),
        };
        let network = TestNetwork::default();
        // Whether there is anything to push to is up to the registries.
        let access = access::AccessOptions {
            policy: AccessPolicy::open(),
            ..access::AccessOptions::default()
        };
        Self { settings, network, access, ahead: Duration::ZERO, dir }
    }

    /// Puts a registry behind the proxy, over plain HTTP and at its own name. The first one is
    /// the default.
    pub fn registry(
        &mut self,
        name: &str,
        server: &ScriptedRegistry,
    ) -> &mut registry::RegistryOptions {
        let authority = host_of(name);
        let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
        self.network.put(host, port.parse().unwrap(), server.clone());
        self.add(name, &format!("http://{authority}"), None)
    }

    /// The same over TLS, with a certificate of a private authority.
    pub fn tls_registry(
        &mut self,
        name: &str,
        server: &ScriptedRegistry,
        ca: &TestCa,
    ) -> &mut registry::RegistryOptions {
        let host = host_of(name);
        self.network.put(host, 443, ca.protect(host, server.clone()));
        self.add(name, &format!("https://{host}"), Some(ca.pem()))
    }

    pub async fn start(self) -> Proxy {
        let clock = Arc::new(TestClock::new());
        clock.skip(self.ahead);
        let boot = BootId::current();
        let app = open(&self.settings, &self.network, &clock, boot).await;
        let app = Arc::new(Mutex::new(Some(app)));
        let Self { settings, network, access, dir, .. } = self;
        let client = client_of(&app, 64 << 10, ClientPeer::default(), access.clone());
        let boot = Mutex::new(boot);
        Proxy { network, clock, client, access, settings, boot, app, dir }
    }

    fn add(
        &mut self,
        name: &str,
        url: &str,
        ca_pem: Option<Vec<u8>>,
    ) -> &mut registry::RegistryOptions {
        let aliases: &[&str] = match name {
            "docker.io" => &["index.docker.io", "registry-1.docker.io"],
            _ => &[],
        };
        let options = registry::RegistryOptions {
            name: name.parse().unwrap(),
            pattern: None,
            aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
            prefix: (!name.contains(':')).then(|| name.to_owned()),
            hosts: Vec::new(),
            is_default: self.settings.registries.is_empty(),
            tags: TagPolicy { ttl: TAG_TTL, max_stale: Duration::from_secs(30 * 24 * 60 * 60) },
            rules: RegistryRules::default(),
            identity: AskedAs::Proxy,
            cache_status: true,
            upstream: UpstreamOptions { ca_pem, ..UpstreamOptions::for_test(url.parse().unwrap()) },
            mirrors: Vec::new(),
        };
        self.settings.registries.push(options);
        self.settings.registries.last_mut().unwrap()
    }
}

impl Proxy {
    /// A proxy before a registry that has this blob. `fills` says whether a range of it begins a
    /// download of the whole.
    pub async fn before_a_blob(
        blob: &Blob,
        repository: &str,
        fills: bool,
    ) -> (ScriptedRegistry, Self) {
        let hub = ScriptedRegistry::new();
        hub.put_blob(repository, blob);
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub).rules.fill_on_range = fills;
        (hub, setup.start().await)
    }

    /// A mirror of docker.io, and of nothing else.
    pub async fn before(server: &ScriptedRegistry) -> Self {
        let mut setup = Setup::new();
        setup.registry("docker.io", server);
        setup.start().await
    }

    /// Stops the app as SIGTERM does, and starts another in the same directory.
    pub async fn restart(&self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Stops the app as SIGTERM does.
    pub async fn stop(&self) {
        let app = self.app.lock().unwrap().take().expect("the app runs");
        app.stop().await;
        // A task that still runs holds the lock until it notices.
        drop(app);
        settle().await;
    }

    /// Starts another app in the same directory.
    pub async fn start_again(&self) {
        let boot = *self.boot.lock().unwrap();
        let app = open(&self.settings, &self.network, &self.clock, boot).await;
        *self.app.lock().unwrap() = Some(app);
    }

    /// Stops the app, has the machine start anew, and starts another in the same directory.
    pub async fn reboot(&self) {
        self.stop().await;
        let before = self.boot.lock().unwrap().number();
        *self.boot.lock().unwrap() = BootId::of_id(&format!("{:x}", before + 1)).unwrap();
        self.start_again().await;
    }

    /// The file of a blob.
    pub fn blob_file(&self, digest: &Digest) -> PathBuf {
        let place = format!("blobs/{}/{}", digest.algorithm().as_str(), &digest.hex()[..2]);
        self.cache_dir().join(place).join(digest.hex())
    }

    /// The file with the checksums of its blocks.
    pub fn sums_file(&self, digest: &Digest) -> PathBuf {
        let place = format!("sums/{}/{}", digest.algorithm().as_str(), &digest.hex()[..2]);
        self.cache_dir().join(place).join(digest.hex())
    }

    pub fn store_report(&self) -> store::StoreReport {
        self.app().store_report()
    }

    /// The counts of verification at rest: checked, bad, healed.
    pub fn verification(&self) -> (u64, u64, u64) {
        let verification = self.store_report().verification;
        (verification.checked, verification.bad, verification.healed)
    }

    /// Lets another configuration hold, as SIGHUP does.
    pub fn reload(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.app().reload(&self.settings).expect("the configuration is good");
    }

    /// Writes a line for each request to `log`.
    pub fn log_requests(&self, log: &Log) {
        let (app, clock) = (self.app(), Arc::clone(&self.clock));
        let queue = app.traffic().logs().open(RequestLog::Stderr, LineLayout::Json, clock);
        tokio::spawn(write_log(queue, log.writer(), CancellationToken::new()));
    }

    /// A reader of every event from now on.
    pub fn events(&self) -> larder::routes::EventReader {
        self.app().traffic().events().subscribe(EventClass::Any)
    }

    /// A reader, from now on, of the events that may begin a pull.
    pub fn pull_events(&self) -> larder::routes::EventReader {
        self.app().traffic().events().subscribe(EventClass::Pull)
    }

    /// Its page for operators, which sees what happens from now on.
    pub fn dashboard(&self) -> DashboardService {
        let (page, activity) = (DashboardService::default(), Activity::default());
        let (reports, clock) = (self.app().report_sources(), Arc::clone(&self.clock));
        let now = move || clock.now();
        let started = now();
        let traffic = Arc::clone(&reports.traffic);
        let stop = reports.stop.clone();
        tokio::spawn(record_activity(activity.clone(), traffic, now, stop));
        let dir = self.cache_dir();
        page.serves(DashboardSources { reports, activity, dir, started });
        page
    }

    /// Its admin side.
    pub fn admin(&self) -> AdminService {
        let admin = AdminService::default();
        self.show_to(&admin);
        admin
    }

    pub fn show_to(&self, admin: &AdminService) {
        self.app().show_to(admin);
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics::of(&self.admin()).await
    }

    fn app(&self) -> App {
        self.app.lock().unwrap().clone().expect("the app runs")
    }

    /// Leaves the app to the end of its runtime, as a process does; gives what outlives it.
    pub fn outlive(mut self) -> Setup {
        let network = self.network.clone();
        let settings = self.settings.clone();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        drop(self.app.lock().unwrap().take());
        let access = self.access.clone();
        Setup { settings, network, access, ahead: Duration::ZERO, dir }
    }

    /// A client whose connections hold few bytes in flight, so that it can be exactly slow.
    pub fn narrow_client(&self, buffer: usize) -> Client {
        client_of(&self.app, buffer, ClientPeer::default(), self.access.clone())
    }

    /// A client elsewhere, perhaps with a certificate.
    pub fn client_of(&self, peer: ClientPeer) -> Client {
        client_of(&self.app, 64 << 10, peer, self.access.clone())
    }

    /// A client over TCP, where files are sent and not read. Not for the paused clock, which does
    /// not know that the kernel is at work.
    pub async fn tcp_client(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (app, access) = (self.app.clone(), self.access.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let app = app.lock().unwrap().clone().expect("the app runs");
                tokio::spawn(app.serve_socket(ClientSocket::new(stream), access.clone()));
            }
        });
        Client::new(Arc::new(move || {
            let stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            Box::new(TcpStream::from_std(stream).unwrap())
        }))
    }

    /// Pulls an image by tag as a client does, checks every byte, and gives how each was answered.
    pub async fn pull(&self, repository: &str, tag: &str, image: &Image) -> Vec<Decision> {
        let manifest = self.get(&format!("/v2/{repository}/manifests/{tag}")).await;
        manifest.assert_is(&image.manifest.blob);
        let mut decisions = vec![manifest.decision()];
        for blob in image.blobs() {
            let reply = self.get(&blob.path(repository)).await;
            reply.assert_is(blob);
            decisions.push(reply.decision());
        }
        decisions
    }

    /// GETs a path from many clients at once.
    pub fn get_often(&self, path: &str, count: usize) -> JoinSet<Reply> {
        (0..count).map(|_| self.client.get(path)).collect()
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.client.get(path).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.client.get_with(path, headers).await
    }

    pub async fn head(&self, path: &str) -> Reply {
        self.client.head(path).await
    }

    pub async fn call(&self, method: Method, path: &str) -> Reply {
        self.client.call(method, path, &[]).await
    }

    /// The digests that have a file under `blobs/`, sorted.
    pub fn stored(&self) -> Vec<String> {
        let blobs = self.cache_dir().join("blobs");
        let mut stored: Vec<_> = files_under(&blobs).iter().map(|path| digest_of(path)).collect();
        stored.sort();
        stored
    }

    pub fn has_stored(&self, digest: &Digest) -> bool {
        self.stored().iter().any(|stored| stored == digest.as_str())
    }

    /// The partial downloads on disk: their lengths.
    pub fn fills(&self) -> Vec<u64> {
        let files = files_under(&self.cache_dir().join("fills"));
        // The product may rename one between the listing and this.
        files.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).collect()
    }

    pub fn cache_dir(&self) -> PathBuf {
        self.settings.store.dir.clone()
    }

    /// Waits until a blob is stored. The paused clock makes the waiting free.
    pub async fn until_stored(&self, digest: &Digest) {
        self.until(|| self.has_stored(digest), &format!("{digest} is not stored")).await;
    }

    /// The same, and until no fill runs: a request in between reads on from the file of the fill.
    pub async fn until_filled(&self, digest: &Digest) {
        self.until_stored(digest).await;
        while self.metrics().await.value("larder_fills_running", &[]) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until something shows on disk.
    pub async fn until(&self, is_so: impl Fn() -> bool, complaint: &str) {
        for _ in 0..10_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{complaint}; fills: {:?}, stored: {:?}", self.fills(), self.stored());
    }

    fn assert_store_is_right(&self) {
        for path in files_under(&self.cache_dir().join("blobs")) {
            let claimed: Digest = digest_of(&path).parse().expect("blobs/ holds digests only");
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Eviction goes on until the store is closed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            let mut hasher = DigestHasher::new(claimed.algorithm());
            hasher.update(&bytes);
            assert_eq!(hasher.finish(), claimed, "a stored blob is not what its name says");
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.network.assert_untripped();
            self.assert_store_is_right();
        }
    }
}

async fn open(
    settings: &Settings,
    network: &TestNetwork,
    clock: &Arc<TestClock>,
    boot: BootId,
) -> App {
    let parts = AppParts { network: Arc::new(network.clone()), clock: clock.clone(), boot };
    App::open(settings, parts).await.expect("the app opens")
}

fn client_of(app: &Slot, buffer: usize, peer: ClientPeer, access: access::AccessOptions) -> Client {
    let app = app.clone();
    Client::new(Arc::new(move || {
        let (near, far) = tokio::io::duplex(buffer);
        let app = app.lock().unwrap().clone().expect("the app runs");
        let serving = app.serve_peer(Box::new(far), peer.clone(), access.clone());
        tokio::spawn(serving);
        Box::new(near)
    }))
}

/// Waits until nothing moves any more: the paused clock only goes on when everything waits.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The host of a registry: only docker.io has a host of another name.
fn host_of(name: &str) -> &str {
    if name == "docker.io" { "registry-1.docker.io" } else { name }
}

/// `sha256:<hex>` from `…/sha256/ab/<hex>`.
fn digest_of(path: &Path) -> String {
    let mut parts = path.iter().rev().map(|part| part.to_str().unwrap());
    let (hex, _, algorithm) = (parts.next(), parts.next(), parts.next());
    format!("{}:{}", algorithm.unwrap_or_default(), hex.unwrap_or_default())
}

/// Every file under a directory, however deep; none when it is missing.
pub fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir { dirs.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    files
}
