//! The growth table: files, bytes, memory and descriptors, before and after requests that cost an
//! anonymous client nothing but a number.
//!
//! Each kind of request is sent many times, mostly from thousands of addresses, while the upstream
//! gives each kind of answer. An honest client pulls from the cache all the while, and its longest
//! wait is in the table too.

mod honest;
mod requests;
mod upstream;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Arguments;
use crate::support::usage::du;
use crate::support::{Image, Process};
use crate::table::Row;
use honest::LongestPull;
use requests::{MadeUp, MadeUpRequest, REPOSITORY};
use upstream::{MoodyRegistry, UpstreamMood};

const PART: &str = "growth";

/// The figures that are compared before and after.
#[derive(Clone, Copy, Debug)]
struct GrowthSample {
    inodes: usize,
    bytes: u64,
    memory: u64,
    descriptors: u64,
}

/// Everything that one run has.
struct Growth {
    larder: Process,
    registry: MoodyRegistry,
    image: Image,
    /// Requests of one kind, with one answer upstream.
    requests: u64,
    /// The bound of the cache, in bytes.
    max_size: u64,
    next_address: AtomicU64,
    next_number: AtomicU64,
}

/// One line of the table.
struct GrowthRow {
    kind: MadeUp,
    mood: UpstreamMood,
    before: GrowthSample,
    after: GrowthSample,
    /// Answers by status; 0 for one that was cut, or that its client did not wait for.
    answers: BTreeMap<u16, u64>,
    longest: LongestPull,
    defects: Vec<String>,
}

pub async fn run(arguments: &Arguments) -> Vec<Row> {
    let of_kind = arguments.requests.unwrap_or(if arguments.long { 100_000 } else { 1000 });
    let growth = Arc::new(Growth::start(of_kind).await);
    println!(
        "\n| request | upstream | answers | files | bytes | memory, MiB | descriptors | longest \
         pull of another client |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"
    );
    let mut table = Row::new(PART, "made-up requests", 0);
    let descriptors = growth.sample().descriptors;
    let mut kept = Vec::new();
    for round in 1..=ROUNDS {
        for kind in MadeUp::ALL {
            for mood in UpstreamMood::ALL {
                let name = format!("{} with {} upstream", kind.as_str(), mood.as_str());
                if !arguments.only.split('|').any(|only| name.contains(only)) {
                    continue;
                }
                let row = growth.row(kind, mood).await;
                println!("{}", row.show());
                table.count += row.answers.values().sum::<u64>();
                table.defects.extend(row.defects.iter().map(|it| format!("{name}: {it}")));
            }
        }
        // Recovery takes as long as idle connections to the registry are kept, so that the short
        // form waits for it once.
        if arguments.long || round == ROUNDS {
            table.defects.extend(growth.recovers(round, descriptors).await);
            kept.push(growth.larder.resident_bytes());
        }
    }
    println!(
        "\nmemory once they had left, MiB: {:?}",
        kept.iter().copied().map(mib).collect::<Vec<_>>()
    );
    if kept.windows(2).any(|pair| pair[1] > pair[0] + pair[0] / 5) {
        table.defects.push(format!("memory is not given back: {kept:?} bytes after the rounds"));
    }
    vec![table]
}

impl Growth {
    async fn start(of_kind: u64) -> Self {
        let image = Image::random(1, &[100_000, 1000]);
        let registry = MoodyRegistry::new(&image);
        let upstream = registry.listen().await;
        let requests = of_kind.div_ceil((UpstreamMood::ALL.len() * ROUNDS) as u64);
        // Records may take a quarter of it, each has a block: fewer than there are requests.
        let max_size = (of_kind * 4096).next_multiple_of(1 << 20);
        let cache_keys = format!("min_free = '0B'\nmemory = '16MiB'\nmax_size = '{max_size}B'");
        let keys = format!(
            "push = true\ntag_ttl = '1h'\n[access]\nanonymous = 'push'\nchallenge = 'basic'\n\
             [registry.\"c.test\"]\nupstream = \"http://{upstream}\"\nidentity = 'client'"
        );
        let larder = Process::with_keys(upstream, &cache_keys, &keys).await;
        let this = Self {
            larder,
            registry,
            image,
            requests,
            max_size,
            next_address: AtomicU64::default(),
            next_number: AtomicU64::default(),
        };
        this.pull(&this.larder.client()).await.unwrap();
        this
    }

    /// Sends requests of one kind, and compares.
    async fn row(self: &Arc<Self>, kind: MadeUp, mood: UpstreamMood) -> GrowthRow {
        self.registry.is_in(mood);
        let before = self.sample();
        let is_over = Arc::new(AtomicBool::new(false));
        let honest = tokio::spawn(Arc::clone(self).pull_on(Arc::clone(&is_over)));
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let mut clients = JoinSet::new();
        let left = Arc::new(AtomicU64::new(self.requests));
        for _ in 0..CLIENTS {
            let client = Arc::clone(self).attack(kind, mood, Arc::clone(&left));
            let answers = Arc::clone(&answers);
            clients.spawn(async move {
                for (status, count) in client.await {
                    *answers.lock().entry(status).or_default() += count;
                }
            });
        }
        clients.join_all().await;
        is_over.store(true, Ordering::Relaxed);
        let honest = honest.await.unwrap();
        let after = self.sample();
        let answers = answers.lock().clone();
        let (longest, mut defects) = honest.map_or_else(
            |defect| (LongestPull::default(), vec![defect]),
            |longest| (longest, Vec::new()),
        );
        defects.extend(self.defects(after, &longest));
        GrowthRow { kind, mood, before, after, answers, longest, defects }
    }

    fn defects(&self, after: GrowthSample, longest: &LongestPull) -> Vec<String> {
        let GrowthSample { inodes, bytes, memory, descriptors } = after;
        // A file that is not empty takes a block; an empty one is a download that has not begun.
        let files = self.max_size / 4096 + OPEN_MAX;
        let mut defects = Vec::new();
        let mut check = |name: &str, is: u64, most: u64| {
            if is > most {
                defects.push(format!("{name}: {is}, and at most {most} are allowed"));
            }
        };
        check("files", inodes as u64, files + FILES_BESIDE);
        check("bytes", bytes, self.max_size);
        check("bytes of memory", memory, MEMORY_MAX);
        check("descriptors", descriptors, DESCRIPTORS_MAX);
        let LongestPull { time, steps } = longest;
        let name = format!("milliseconds of a cached pull ({})", steps.join(", "));
        check(&name, u64::try_from(time.as_millis()).unwrap(), LONGEST_MS);
        defects
    }

    /// A hostile client: a connection from another address for each few requests.
    async fn attack(
        self: Arc<Self>,
        kind: MadeUp,
        mood: UpstreamMood,
        left: Arc<AtomicU64>,
    ) -> BTreeMap<u16, u64> {
        let (patience, addresses) =
            if mood.is_slow() { (IMPATIENCE, FEW_ADDRESSES) } else { (PATIENCE, ADDRESSES) };
        let mut answers = BTreeMap::new();
        let mut connection = None;
        let take = |left: &AtomicU64| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1)).is_ok()
        };
        while take(&left) {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            let request = kind.request(number, &self.image);
            if number.is_multiple_of(REQUESTS_OF_ADDRESS) {
                connection = None;
            }
            let answer = timeout(patience, self.send(addresses, &mut connection, request)).await;
            let status = answer.ok().flatten().unwrap_or(LEFT);
            if status == LEFT {
                connection = None;
            }
            *answers.entry(status).or_default() += 1;
        }
        answers
    }

    async fn send(
        &self,
        addresses: u64,
        connection: &mut Option<SendRequest<Full<Bytes>>>,
        request: MadeUpRequest,
    ) -> Option<u16> {
        if connection.as_ref().is_none_or(SendRequest::is_closed) {
            let number = self.next_address.fetch_add(1, Ordering::Relaxed);
            *connection = Some(connect(number % addresses, self.larder.address).await?);
        }
        let sender = connection.as_mut()?;
        sender.ready().await.ok()?;
        let MadeUpRequest { method, path, headers, body } = request;
        let builder = Request::builder().method(method).uri(path).header("host", "larder.test");
        let builder = headers.into_iter().fold(builder, |it, (name, value)| it.header(name, value));
        let request = builder.body(Full::new(body.into())).unwrap();
        let mut response = sender.send_request(request).await.ok()?;
        while let Some(frame) = response.body_mut().frame().await {
            frame.ok()?;
        }
        Some(response.status().as_u16())
    }

    fn sample(&self) -> GrowthSample {
        let dir = self.larder.cache_dir();
        GrowthSample {
            inodes: count(dir),
            bytes: du(dir),
            memory: self.larder.resident_bytes(),
            descriptors: self.larder.open_files(),
        }
    }

    /// With all hostile clients gone the cache is one, and descriptors and memory are given back.
    async fn recovers(&self, round: usize, descriptors: u64) -> Vec<String> {
        self.registry.is_in(UpstreamMood::Gives);
        let client = self.larder.client();
        let path = format!("/v2/{REPOSITORY}/manifests/after-{round}");
        // The registry's limit is respected for a while yet.
        let is_pulled = within(async || client.get(&path).await.status == 200).await;
        self.registry.is_in(UpstreamMood::HasNothing);
        let reply = client.get(&path).await;
        let is_cached = reply.status == 200 && reply.body == self.image.manifest.blob.bytes;
        // Idle connections to the registry are kept for a while.
        let are_back = within(async || self.larder.open_files() <= descriptors + 8).await;
        let mut defects = Vec::new();
        if !is_pulled || !is_cached {
            defects.push(format!("{path} was not cached: {}", reply.status));
        }
        if !are_back {
            let now = self.larder.open_files();
            defects.push(format!("{now} descriptors are open, {descriptors} at first"));
        }
        // The allocator gives back what has been free for some time.
        if !within(async || self.larder.resident_bytes() <= KEPT_MAX).await {
            let now = mib(self.larder.resident_bytes());
            defects.push(format!("{now} MiB of memory are kept once all clients have left"));
        }
        defects
    }
}

/// Whether something becomes so within a minute.
async fn within(is_so: impl AsyncFn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if is_so().await {
            return true;
        }
        sleep(Duration::from_millis(100)).await;
    }
    false
}

impl GrowthRow {
    fn show(&self) -> String {
        let Self { kind, mood, before, after, answers, longest, .. } = self;
        let answers = answers.iter().map(|(status, count)| match *status {
            LEFT => format!("{count} cut or left"),
            status => format!("{count} × {status}"),
        });
        format!(
            "| {} | {} | {} | {} → {} | {} → {} | {} → {} | {} → {} | {} ms |",
            kind.as_str(),
            mood.as_str(),
            answers.collect::<Vec<_>>().join(", "),
            before.inodes,
            after.inodes,
            before.bytes,
            after.bytes,
            mib(before.memory),
            mib(after.memory),
            before.descriptors,
            after.descriptors,
            longest.time.as_millis(),
        )
    }
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// A connection from an address of its own.
async fn connect(number: u64, to: SocketAddr) -> Option<SendRequest<Full<Bytes>>> {
    let address = Ipv4Addr::from(FIRST_ADDRESS + u32::try_from(number).ok()?);
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::from((address, 0))).ok()?;
    let io = socket.connect(to).await.ok()?;
    let (sender, connection) = handshake(TokioIo::new(io)).await.ok()?;
    tokio::spawn(async move { drop(connection.await) });
    Some(sender)
}

/// Files and directories.
fn count(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|it| 1 + if it.path().is_dir() { count(&it.path()) } else { 0 }).sum()
}

/// Rounds of all of it. Everything bounded has reached its bound after the first.
const ROUNDS: usize = 2;

/// The addresses of hostile clients: those of this machine from 127.1.0.0 on.
const FIRST_ADDRESS: u32 = 0x7f01_0000;
const ADDRESSES: u64 = 0xfe_0000;

/// Addresses of clients that leave while the upstream hangs: their connections are counted until
/// they are answered, so that as many addresses as above would take all connections that there are.
const FEW_ADDRESSES: u64 = 4;

/// Hostile clients at once.
const CLIENTS: usize = 32;

/// The requests over one connection.
const REQUESTS_OF_ADDRESS: u64 = 5;

/// The wait of a client for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The wait of a client that leaves, where the upstream does not answer.
const IMPATIENCE: Duration = Duration::from_millis(10);

/// The status of an answer that was cut, or that its client did not wait for.
const LEFT: u16 = 0;

/// Files of the index, blobs and their directories, which no client here makes more of.
const FILES_BESIDE: u64 = 500;

/// A client that waits takes 50 KiB in a build that is not optimised.
const MEMORY_MAX: u64 = 512 << 20;

/// The memory that caches, index and tables at their bounds may take, with no client there. The
/// short form stays far below; `hostile::memory` has its test.
const KEPT_MAX: u64 = 144 << 20;

/// Connections of clients that have left, but might still read.
const OPEN_MAX: u64 = FEW_ADDRESSES * 1024;

/// Each of them may have a file open, or a connection to the registry; and the server's own.
const DESCRIPTORS_MAX: u64 = 2 * OPEN_MAX + 300;

/// Four requests one after the other, beside thousands in a build that is not optimised.
const LONGEST_MS: u64 = 3000;
