//! kill -9 in the middle of evictions, with everything that touches the store going on.
//!
//! `LARDER_ROUNDS=200 cargo test --test it under_fire` kills the program as often.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use larder::oci::{Algorithm, Digest};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::capacity::blobs;
use crate::support::metrics::Metrics;
use crate::support::proxy::files_under;
use crate::support::usage::du;
use crate::support::{Blob, Client, Process, ScriptedRegistry, Version, often};

const REPOSITORY: &str = "library/alpine";

const MAY_PUSH: &str = "push = true\n[access]\nanonymous = 'push'";

/// A tenth of it is what the bound is lowered to.
const MAX: u64 = 40 << 20;

/// Clients that read blobs, of about twice the bound, one after the other.
const READERS: usize = 5;

fn cache_keys(max: u64) -> String {
    format!("min_free = '0B'\nmax_size = '{max}B'")
}

/// Reads a blob, whole or from some byte on: all of it, or up to where the program was killed.
async fn read(client: Client, blob: Blob, from: Option<usize>) -> Result<(), String> {
    let range = from.map(|from| format!("bytes={from}-"));
    let headers: Vec<_> = range.iter().map(|range| ("range", range.as_str())).collect();
    let path = blob.path(REPOSITORY);
    let reply = client.try_call(Version::Http11, Method::GET, &path, &headers).await?;
    let right = &blob.bytes[from.unwrap_or_default()..];
    assert!(right.starts_with(&reply.body), "{blob:?} from {from:?}: wrong bytes");
    assert!(!reply.is_complete() || reply.body == right, "{blob:?} from {from:?}: too few bytes");
    Ok(())
}

/// The calls that came to their end before the program was killed.
#[derive(Debug, Default)]
struct Done {
    pushes: AtomicUsize,
    mounts: AtomicUsize,
}

/// Mounts a blob of the repository into another, and reads it there.
async fn mount(client: Client, blob: Blob, target: String) -> Result<(), String> {
    let digest = &blob.digest;
    let path = format!("/v2/{target}/blobs/uploads/?mount={digest}&from={REPOSITORY}");
    let answer = client.try_send((Version::Http11, Method::POST), &path, &[], Bytes::new()).await?;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let path = blob.path(&target);
    let reply = client.try_call(Version::Http11, Method::GET, &path, &[]).await?;
    assert!(blob.bytes.starts_with(&reply.body), "{blob:?} in {target}: wrong bytes");
    assert!(!reply.is_complete() || reply.body == blob.bytes, "{blob:?}: too few bytes");
    if reply.is_complete() { Ok(()) } else { Err("it was cut".to_owned()) }
}

/// Pushes a blob in one piece.
async fn push(client: Client, blob: Blob) -> Result<(), String> {
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let begun =
        client.try_send((Version::Http11, Method::POST), &uploads, &[], Bytes::new()).await?;
    let location = begun.header("location").ok_or("no location")?.to_owned();
    let separator = if location.contains('?') { '&' } else { '?' };
    let path = format!("{location}{separator}digest={}", blob.digest);
    let put = client.try_send((Version::Http11, Method::PUT), &path, &[], blob.bytes).await?;
    assert_eq!(put.status, 201, "{}", put.text());
    Ok(())
}

/// Sends readers of popular blobs and others, followers of one, pushes and mounts.
fn fire(
    client: &Client,
    blobs: &[Blob],
    random: &mut fastrand::Rng,
    done: &Arc<Done>,
) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let followed = blobs[random.usize(..blobs.len())].clone();
    for _ in 0..3 {
        let reading = read(client.clone(), followed.clone(), None);
        clients.spawn(async move { drop(reading.await) });
    }
    for _ in 0..READERS {
        let client = client.clone();
        let mut random = random.fork();
        let blobs = blobs.to_vec();
        clients.spawn(async move {
            loop {
                let at = random.usize(..blobs.len()).min(random.usize(..blobs.len()));
                let from = random.bool().then(|| random.usize(..blobs[at].len()));
                if read(client.clone(), blobs[at].clone(), from).await.is_err() {
                    return;
                }
            }
        });
    }
    let (tally, pusher, mut seeds) = (Arc::clone(done), client.clone(), random.fork());
    clients.spawn(async move {
        while push(pusher.clone(), Blob::large(seeds.u64(1000..), 1 << 18)).await.is_ok() {
            tally.pushes.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (client, blobs, mut random) = (client.clone(), blobs.to_vec(), random.fork());
    let tally = Arc::clone(done);
    clients.spawn(async move {
        loop {
            let blob = blobs[random.usize(..blobs.len())].clone();
            let target = format!("library/other{}", random.u8(..4));
            if mount(client.clone(), blob, target).await.is_err() {
                return;
            }
            tally.mounts.fetch_add(1, Ordering::Relaxed);
        }
    });
    clients
}

/// Nothing wrong is served, nothing leaks, and the bound holds, whatever was evicted or begun at
/// that instant; and what was evicted costs one fetch.
#[tokio::test]
async fn a_kill_in_an_eviction_leaves_nothing_wrong_and_no_byte_above_the_bound() {
    let hub = ScriptedRegistry::new();
    let blobs = blobs(&hub, 60);
    let upstream = hub.listen().await;
    let mut larder = Process::with_keys(upstream, &cache_keys(MAX), MAY_PUSH).await;
    let (mut random, done) = (fastrand::Rng::with_seed(3), Arc::<Done>::default());
    for round in 0..often("LARDER_ROUNDS", 20) {
        if round % 2 == 0 {
            // The others may be killed before they serve.
            while larder.client().try_get(Version::Http11, "/v2/").await.is_err() {}
        }
        let mut clients = fire(&larder.client(), &blobs, &mut random, &done);
        let verification = larder.begin_command(&["verify", "--subset", "30%"]);
        let most = if round % 2 == 0 { 1000 } else { 200 };
        tokio::time::sleep(Duration::from_millis(random.u64(..most))).await;
        larder.change_config(&cache_keys(MAX), &cache_keys(MAX / 10));
        larder.signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(random.u64(..100))).await;
        larder.kill();
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        let verified = verification.await;
        assert!(!verified.err.contains("are wrong"), "{verified:?}");
        let taken = du(larder.cache_dir());
        assert!(taken <= MAX, "{taken} bytes after round {round}");
        assert_all_blobs_are_right(&larder);
        larder.change_config(&cache_keys(MAX / 10), &cache_keys(MAX));
        larder.start_again().await;
        hub.forget();
    }
    let ended = [&done.pushes, &done.mounts].map(|it| it.load(Ordering::Relaxed));
    assert!(ended.iter().all(|count| *count > 0), "{done:?}");
    assert_an_evicted_blob_costs_one_fetch(&larder, &hub, &blobs).await;

    larder.terminate().await;
    larder.start_again().await;
    assert_counters_agree_with_the_disk(&larder).await;
    assert_no_sums_without_blobs(larder.cache_dir());
    larder.change_config(&cache_keys(MAX), &cache_keys(MAX / 10));
    larder.signal(Signal::HUP);
    let shrinks = |larder: &Process| du(larder.cache_dir()) <= MAX / 10;
    larder.until(shrinks, "a bound of a tenth is met").await;
    assert_counters_agree_with_the_disk(&larder).await;
}

fn assert_all_blobs_are_right(larder: &Process) {
    for (path, _) in larder.files("blobs") {
        let digest = Digest::of(Algorithm::Sha256, &std::fs::read(&path).unwrap());
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(digest.hex()));
    }
}

/// The repository has it still, so nothing is asked but for the bytes.
async fn assert_an_evicted_blob_costs_one_fetch(
    larder: &Process,
    hub: &ScriptedRegistry,
    blobs: &[Blob],
) {
    for blob in blobs {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
        assert!(du(larder.cache_dir()) <= MAX);
    }
    let is_stored = |blob: &Blob| {
        let stored = larder.files("blobs");
        stored.iter().any(|(path, _)| path.ends_with(blob.digest.hex()))
    };
    let evicted = blobs.iter().find(|blob| !is_stored(blob)).expect("not all of them fit");
    hub.forget();
    larder.client().get(&evicted.path(REPOSITORY)).await.assert_is(evicted);
    assert_eq!(hub.asked().len(), 1, "{:?}", hub.asked());
}

/// Within 1 %, once evictions ahead of need have come to rest.
async fn assert_counters_agree_with_the_disk(larder: &Process) {
    let mut seen = Vec::new();
    for _ in 0..100 {
        let metrics = larder.admin().get("/metrics").await;
        if metrics.status == 200 {
            let text = std::str::from_utf8(&metrics.body).unwrap();
            let used = Metrics::read(text).sum("larder_store_used_bytes", &[]);
            let taken = du(larder.cache_dir());
            if used.abs_diff(taken) * 100 <= taken {
                return;
            }
            seen.push((used, taken));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("counted and taken: {seen:?}");
}

fn assert_no_sums_without_blobs(cache: &Path) {
    for path in files_under(&cache.join("sums")) {
        let blob = cache.join("blobs").join(path.strip_prefix(cache.join("sums")).unwrap());
        assert!(blob.exists(), "{} is without its blob", path.display());
    }
}
