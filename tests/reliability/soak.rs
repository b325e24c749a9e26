//! Many clients for a given time: three registries of which one fails now and then, and a reload
//! every second.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Arguments;
use crate::nth::checks::at_rest;
use crate::support::{Client, Fault, Image, Process, ScriptedRegistry, Version, When};
use crate::table::Row;

const PART: &str = "soak";

/// The path of each registry's images; the last registry is the one that fails.
const REGISTRIES: [&str; 3] = ["", "b.test/", "c.test/"];

const IMAGES: usize = 40;

/// The work of all clients, and their complaints.
struct Soak {
    registries: Vec<ScriptedRegistry>,
    images: Vec<Image>,
    is_over: AtomicBool,
    pulls: AtomicU64,
    /// Answers of the failing registry that say so.
    refused: AtomicU64,
    defects: Mutex<Vec<String>>,
}

pub async fn run(arguments: &Arguments) -> Vec<Row> {
    let (clients, seconds) = if arguments.long { (1000, arguments.soak) } else { (100, 20) };
    let registries: Vec<_> = REGISTRIES.iter().map(|_| ScriptedRegistry::new()).collect();
    let images = images(&registries);
    let mut keys = "tag_ttl = '1s'\nmax_stale = '0s'\n".to_owned();
    for (registry, prefix) in registries.iter().zip(REGISTRIES).skip(1) {
        let (name, upstream) = (prefix.trim_end_matches('/'), registry.listen().await);
        writeln!(keys, "[registry.\"{name}\"]\nupstream = \"http://{upstream}\"").unwrap();
    }
    let upstream = registries[0].listen().await;
    let mut larder = Process::with_keys(upstream, "min_free = '0B'", &keys).await;
    // All clients are at one address.
    larder.change_config("admin_listen", "connections_per_client = 0\nadmin_listen");
    larder.terminate().await;
    larder.start_again().await;
    let soak = Arc::new(Soak {
        registries,
        images,
        is_over: AtomicBool::new(false),
        pulls: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        defects: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        tasks.spawn(client(Arc::clone(&soak), larder.client(), arguments.seed + number));
    }
    let reloads = soak.disturb(&larder, Duration::from_secs(seconds)).await;
    soak.is_over.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    soak.check_at_rest(&larder).await;
    let defects = std::mem::take(&mut *soak.defects.lock());
    let pulls = soak.pulls.load(Ordering::Relaxed);
    let refused = soak.refused.load(Ordering::Relaxed);
    vec![
        Row { defects, ..Row::new(PART, format!("pulls by {clients} clients"), pulls) },
        Row::new(PART, "pulls that the failing registry refused", refused),
        Row::new(PART, "reloads", reloads),
    ]
}

/// The same names in each registry, with other content.
fn images(registries: &[ScriptedRegistry]) -> Vec<Image> {
    let mut images = Vec::new();
    for registry in registries {
        for _ in 0..IMAGES {
            let number = images.len();
            let image = Image::random(1 + number as u64, &[200_000, 1_000_000 + 7 * number]);
            registry.put_image("o/app", &format!("t{}", number % IMAGES), &image);
            images.push(image);
        }
    }
    images
}

async fn client(soak: Arc<Soak>, client: Client, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !soak.is_over.load(Ordering::Relaxed) {
        let registry = random.usize(..REGISTRIES.len());
        // Some are asked for more than others.
        let image = random.usize(..IMAGES).min(random.usize(..IMAGES));
        if let Err(why) = soak.pull(&client, registry, image, &mut random).await {
            let mut defects = soak.defects.lock();
            if defects.len() < 20 {
                defects.push(why);
            }
        }
        sleep(Duration::from_millis(random.u64(..50))).await;
    }
}

impl Soak {
    async fn pull(
        &self,
        client: &Client,
        registry: usize,
        number: usize,
        random: &mut fastrand::Rng,
    ) -> Result<(), String> {
        let image = &self.images[registry * IMAGES + number];
        let base = format!("/v2/{}o/app", REGISTRIES[registry]);
        let manifest = &image.manifest.blob.bytes;
        self.get(client, registry, &format!("{base}/manifests/t{number}"), manifest, 0).await?;
        for blob in image.blobs() {
            let from = if random.u8(..4) == 0 { random.usize(..blob.len()) } else { 0 };
            let path = format!("{base}/blobs/{}", blob.digest);
            if random.u8(..20) == 0 {
                // A client that leaves in the middle.
                let get = client.try_get(Version::Http11, &path);
                drop(tokio::time::timeout(Duration::from_millis(random.u64(..30)), get).await);
            }
            self.get(client, registry, &path, &blob.bytes, from).await?;
        }
        Ok(())
    }

    async fn get(
        &self,
        client: &Client,
        registry: usize,
        path: &str,
        right: &[u8],
        from: usize,
    ) -> Result<(), String> {
        let range = format!("bytes={from}-");
        let range = [("range", range.as_str())];
        let headers = if from > 0 { &range[..] } else { &[] };
        let reply = client.try_call(Version::Http11, Method::GET, path, headers).await?;
        self.pulls.fetch_add(1, Ordering::Relaxed);
        let is_failing = registry + 1 == REGISTRIES.len();
        if is_failing && reply.status.is_server_error() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let is_right = reply.status.is_success() && reply.body == right[from..];
        if reply.is_complete() && is_right || (is_failing && !reply.is_complete()) {
            return Ok(());
        }
        let (status, broken) = (reply.status, &reply.broken);
        Err(format!("{path} from {from}: {status} {} bytes {broken:?}", reply.body.len()))
    }

    /// Reloads each second, and has one registry fail every other five seconds.
    async fn disturb(&self, larder: &Process, time: Duration) -> u64 {
        let end = Instant::now() + time;
        let (mut reloads, mut early) = (0, None);
        while Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
            reloads += 1;
            let [before, after] =
                if reloads % 2 == 1 { ["'1s'", "'2s'"] } else { ["'2s'", "'1s'"] };
            larder.change_config(&format!("tag_ttl = {before}"), &format!("tag_ttl = {after}"));
            larder.signal(Signal::HUP);
            match reloads % 10 {
                2 => self.registries[2].breaks(When::asked(""), Fault::status(503)),
                7 => self.registries[2].heal(),
                _ => {}
            }
            if Instant::now() + time * 2 / 3 > end && early.is_none() {
                early = Some(resident(larder));
            }
        }
        self.registries[2].heal();
        let (early, late) = (early.unwrap_or_default(), resident(larder));
        if late > early + early / 4 + (16 << 10) {
            self.defects.lock().push(format!("memory went from {early} to {late} KiB"));
        }
        reloads
    }

    /// Every byte of the sound registries came once; nothing is left; descriptors are closed.
    async fn check_at_rest(&self, larder: &Process) {
        let mut defects = Vec::new();
        for (registry, images) in self.registries.iter().zip(self.images.chunks(IMAGES)).take(2) {
            for blob in images.iter().flat_map(Image::blobs) {
                let bytes = registry.body_bytes(&blob.digest);
                if bytes != 0 && bytes != blob.len() as u64 {
                    defects.push(format!("{blob:?} cost {bytes} bytes upstream"));
                }
            }
        }
        defects.extend(at_rest(larder).await.err());
        let links = larder.descriptors().into_iter().filter_map(|fd| std::fs::read_link(fd).ok());
        let blobs = links.filter(|link| link.starts_with(larder.cache_dir().join("blobs"))).count();
        // Some of what was read last is kept open on purpose.
        if blobs > 256 {
            defects.push(format!("{blobs} blobs are open"));
        }
        self.defects.lock().extend(defects);
    }
}

/// Resident memory in KiB.
fn resident(larder: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", larder.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
