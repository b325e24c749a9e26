//! What do the hot loops cost, one by one? `cargo bench --bench micro`.
//!
//! For the developer who changes one of them; `benches/compare` decides.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails may stop")]
#![allow(unreachable_pub, reason = "a benchmark exports nothing, and `pub` reads better")]
#![allow(clippy::print_stderr, reason = "a helper of tests says what it leaves out")]
#![allow(missing_docs, reason = "the macros of criterion make functions without")]

#[allow(unused_imports, reason = "the vocabulary is that of the integration tests")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use std::fs::File;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use larder::access::AccessOptions;
use larder::app::{App, AppParts};
use larder::config::{ConfigArgs, Environment, load};
use larder::http::{ClientPeer, FileDelivery, FramePool, RangeSelection};
use larder::oci::{Algorithm, ApiCall, Digest, DigestHasher};
use larder::store::{BootClock, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use support::{Blob, ScriptedRegistry, TestNetwork};

const MIB: usize = 1 << 20;

/// As large as what is received at once.
const CHUNK: usize = 256 << 10;

fn random(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes.into()
}

fn digest(c: &mut Criterion) {
    let bytes = random(MIB);
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Bytes(MIB as u64));
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        group.bench_function(algorithm.as_str(), |b| {
            b.iter(|| {
                let mut hasher = DigestHasher::new(algorithm);
                bytes.chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
                hasher.finish()
            });
        });
    }
    group.finish();
}

fn parsing(c: &mut Criterion) {
    let hex = "0123456789abcdef".repeat(4);
    let path = format!("/library/alpine/blobs/sha256:{hex}");
    c.bench_function("parse/path", |b| b.iter(|| ApiCall::parse(black_box(&path)).unwrap()));
    let mut range = |name: &str, text: String| {
        c.bench_function(name, |b| b.iter(|| RangeSelection::of(black_box(&text), 1 << 30)));
    };
    range("parse/range", "bytes=1048576-2097151".to_owned());
    let parts: Vec<String> = (0..100).map(|n| format!("{}-{}", n * 1000, n * 1000 + 99)).collect();
    range("parse/ranges", format!("bytes={}", parts.join(",")));
}

/// The work of a fill for each chunk: write it and hash it.
fn fill(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), "");
    let store = Store::open(settings.store, BootClock::default()).unwrap();
    let bytes = random(CHUNK);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = c.benchmark_group("fill");
    group.throughput(Throughput::Bytes(MIB as u64));
    group.bench_function("write and hash", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let registry = "docker.io".parse().unwrap();
                let file = store.open_fill(&registry, &digest).await.unwrap();
                let (sender, queue) = mpsc::channel(MIB / CHUNK);
                for _ in 0..MIB / CHUNK {
                    sender.try_send(bytes.clone()).unwrap();
                }
                drop(sender);
                let file = file.append(None, queue, |_| {}).await.unwrap();
                file.discard().await.unwrap();
            });
        });
    });
    group.finish();
}

/// The cost of a body that is read into frames.
fn frames(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blob");
    std::fs::write(&path, random(MIB)).unwrap();
    let file = Arc::new(File::open(path).unwrap());
    let delivery = FileDelivery::new(FramePool::default());
    let mut group = c.benchmark_group("hit");
    group.throughput(Throughput::Bytes(MIB as u64));
    group.bench_function("frames", |b| {
        b.iter(|| {
            let (mut reader, mut at) = (delivery.reader(&file), 0);
            while at < MIB as u64 {
                let Some(data) = reader.read_now(at, MIB as u64 - at).unwrap() else { return };
                at += data.len() as u64;
            }
        });
    });
    group.finish();
}

/// A whole request for a cached blob, from its bytes to those of the answer, over memory.
fn request(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (hub, blob) = (ScriptedRegistry::new(), Blob::random(1, 1000));
    hub.put_blob("library/a", &blob);
    let network = TestNetwork::default();
    network.put("up.test", 80, hub);
    let upstream = "[registry.'docker.io']\nupstream = 'http://up.test'\n";
    let settings = settings(dir.path(), upstream);
    let parts = AppParts { network: Arc::new(network), ..AppParts::default() };
    let app = runtime.block_on(App::open(&settings, parts)).unwrap();
    let (mut near, far) = tokio::io::duplex(64 << 10);
    runtime.spawn(app.serve_peer(Box::new(far), ClientPeer::default(), AccessOptions::default()));
    let path = blob.path("library/a");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut ask = || runtime.block_on(answer(&mut near, request.as_bytes()));
    ask();
    c.bench_function("hit/request", |b| b.iter(&mut ask));
}

async fn answer(io: &mut DuplexStream, request: &[u8]) {
    io.write_all(request).await.unwrap();
    let mut answer = Vec::with_capacity(4096);
    loop {
        assert!(io.read_buf(&mut answer).await.unwrap() > 0, "closed");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        if end.is_some_and(|end| answer.len() == end + 4 + 1000) {
            return;
        }
    }
}

fn settings(dir: &std::path::Path, registry: &str) -> larder::config::Settings {
    let file = dir.join("config.toml");
    let text = format!("[cache]\ndir = '{}'\nmin_free = '0B'\n{registry}", dir.display());
    std::fs::write(&file, text).unwrap();
    let arguments = ConfigArgs { config: Some(file), ..ConfigArgs::default() };
    let environment: Environment = std::iter::empty::<(String, String)>().collect();
    load(&arguments, &environment).unwrap().settings
}

criterion_group!(benches, digest, parsing, fill, frames, request);
criterion_main!(benches);
