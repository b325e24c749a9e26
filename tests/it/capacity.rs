//! A finite cache: it stays below `max_size`, and is never the reason that a pull fails.

use std::fs;
use std::path::Path;
use std::time::Duration;

use larder::store::{SpaceAmount, SpacePart};
use tokio::task::JoinSet;

use crate::support::instance::{client_of, free_address};
use crate::support::proxy::files_under;
use crate::support::usage::du;
use crate::support::{Blob, Fault, Gate, Image, Instance, Proxy, ScriptedRegistry, Setup, When};

const REPOSITORY: &str = "library/alpine";
const MIB: usize = 1 << 20;

async fn finite(hub: &ScriptedRegistry, max_mib: usize) -> Proxy {
    let mut setup = Setup::new();
    setup.registry("docker.io", hub);
    setup.settings.store.limits.max_size = Some(SpaceAmount::Bytes((max_mib * MIB) as u64));
    setup.start().await
}

/// Blobs of half a MiB to three, in the registry.
pub fn blobs(hub: &ScriptedRegistry, count: u64) -> Vec<Blob> {
    let blobs = (0..count).map(|seed| {
        let halves = usize::try_from(seed % 6).unwrap() + 1;
        Blob::large(seed, halves * MIB / 2)
    });
    let blobs: Vec<_> = blobs.collect();
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
    }
    blobs
}

fn evicted(proxy: &Proxy) -> u64 {
    proxy.store_report().space.evicted.iter().map(|it| it.count).sum()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect(what);
}

/// Within 1 %, once evictions ahead of need and readers have come to rest.
async fn assert_counters_agree_with_the_disk(proxy: &Proxy) {
    until("the counters agree with the disk", || {
        let used: u64 = proxy.store_report().space.used.iter().sum();
        let taken = du(&proxy.cache_dir());
        used.abs_diff(taken) * 100 <= taken
    })
    .await;
}

/// Popular blobs and others, whole and in ranges, by many clients, in a cache of a sixth of them.
#[tokio::test]
async fn a_full_cache_under_load_fails_no_reader_and_stays_below_its_bound() {
    let hub = ScriptedRegistry::new();
    let blobs = blobs(&hub, 60);
    let proxy = finite(&hub, 18).await;
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let mut readers = JoinSet::new();
        for _ in 0..6 {
            let blob = blobs[random.usize(..60).min(random.usize(..60))].clone();
            let path = blob.path(REPOSITORY);
            let start = random.bool().then(|| random.usize(..blob.len()));
            let range = start.map(|start| format!("bytes={start}-"));
            let headers: Vec<_> = range.iter().map(|range| ("Range", range.as_str())).collect();
            let get = proxy.client.get_with(&path, &headers);
            readers.spawn(async move { (get.await, blob, start) });
        }
        while let Some(read) = readers.join_next().await {
            let (reply, blob, start) = read.unwrap();
            assert!(reply.is_complete(), "{blob:?} from {start:?}");
            assert!(reply.body == blob.bytes[start.unwrap_or_default()..], "{blob:?}");
        }
        let taken = du(&proxy.cache_dir());
        assert!(taken <= 18 * MIB as u64, "{taken} bytes after round {round}");
    }
    assert!(evicted(&proxy) > 50);
    // A blob that is evicted while it is open counts until it is closed.
    assert_counters_agree_with_the_disk(&proxy).await;
}

/// Promise 7: the repository has it still, so nothing is asked but for the bytes.
#[tokio::test]
async fn an_evicted_blob_costs_one_fetch_and_no_other_question() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[3 * MIB]);
    hub.put_image(REPOSITORY, "latest", &image);
    let others = blobs(&hub, 12);
    let proxy = finite(&hub, 10).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    let layer = &image.layers[0];
    for blob in &others {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    assert!(!proxy.has_stored(&layer.digest), "it was evicted");
    hub.forget();

    proxy.pull(REPOSITORY, "latest", &image).await;

    assert_eq!(hub.asked().len(), 1, "manifests and configuration are small, and stay");
    assert_eq!(hub.gets(&layer.digest).len(), 1);
}

/// A blob in flight is not evicted, nor one that is read, whatever else is pulled.
#[tokio::test]
async fn readers_and_followers_get_every_byte_while_all_else_is_evicted() {
    let hub = ScriptedRegistry::new();
    let (stored, filling) = (Blob::large(100, 4 * MIB), Blob::large(101, 4 * MIB));
    let others = blobs(&hub, 24);
    for blob in [&stored, &filling] {
        hub.put_blob(REPOSITORY, blob);
    }
    let gate = Gate::new();
    hub.breaks(When::asked(&filling.digest), Fault::HoldAt(2 * MIB, gate.clone()));
    let proxy = finite(&hub, 14).await;
    proxy.get(&stored.path(REPOSITORY)).await.assert_is(&stored);
    let narrow = proxy.narrow_client(4096).raw();
    let mut reader = narrow.get("1.1", &stored.path(REPOSITORY), &[]).await.unwrap();
    reader.read_until(MIB, 4096).await.unwrap();
    let followers = proxy.get_often(&filling.path(REPOSITORY), 3);
    gate.reached().await;

    for blob in &others {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
        assert!(du(&proxy.cache_dir()) <= 14 * MIB as u64);
    }
    assert!(evicted(&proxy) > 10, "{}", evicted(&proxy));
    assert!(proxy.has_stored(&stored.digest));

    gate.open();
    for reply in followers.join_all().await {
        reply.assert_is(&filling);
    }
    reader.finish().await.assert_is(&stored);
    until("it is stored", || proxy.has_stored(&filling.digest)).await;
}

#[tokio::test]
async fn a_blob_that_is_larger_than_the_cache_is_passed_through_and_evicts_nothing() {
    let hub = ScriptedRegistry::new();
    let (small, large) = (Blob::large(1, 2 * MIB), Blob::large(2, 12 * MIB));
    for blob in [&small, &large] {
        hub.put_blob(REPOSITORY, blob);
    }
    let proxy = finite(&hub, 8).await;
    proxy.get(&small.path(REPOSITORY)).await.assert_is(&small);

    let reply = proxy.get(&large.path(REPOSITORY)).await;

    reply.assert_is(&large);
    let decision = reply.decision();
    assert!(decision.is_bypass() && decision.get("detail") == Some("no-space"), "{decision:?}");
    assert!(proxy.has_stored(&small.digest) && !proxy.has_stored(&large.digest));
    assert_eq!(evicted(&proxy), 0);
}

/// Without an index the files say when they were last read.
#[tokio::test]
async fn a_restart_knows_what_is_stored_and_stays_below_the_bound() {
    let hub = ScriptedRegistry::new();
    let blobs = blobs(&hub, 24);
    let proxy = finite(&hub, 12).await;
    for blob in &blobs {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    proxy.restart().await;
    for blob in &blobs {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
        assert!(du(&proxy.cache_dir()) <= 12 * MIB as u64);
    }
    assert_counters_agree_with_the_disk(&proxy).await;
}

#[tokio::test]
async fn metrics_say_what_is_taken_and_what_was_evicted() {
    let hub = ScriptedRegistry::new();
    let blobs = blobs(&hub, 12);
    let proxy = finite(&hub, 8).await;
    for blob in &blobs {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.value("larder_store_max_bytes", &[]), 8 * MIB as u64);
    let used = metrics.value("larder_store_used_bytes", &[("part", SpacePart::Blobs.as_str())]);
    assert!((2 * MIB as u64..=8 * MIB as u64).contains(&used), "{used}");
    let reason = [("reason", "max_size")];
    assert_eq!(metrics.value("larder_evicted_total", &reason), evicted(&proxy));
    assert!(metrics.value("larder_evicted_bytes_total", &reason) > 8 * MIB as u64);
    assert!(metrics.value("larder_evicted_unused_seconds", &[]) < 60);
}

/// An operator who needs the disk for something else does not wait for a restart.
#[tokio::test]
async fn a_lower_bound_is_taken_up_on_sighup() {
    let hub = ScriptedRegistry::new();
    let blobs = blobs(&hub, 12);
    let (address, upstream) = (free_address(), hub.listen().await);
    let config = |max: &str| {
        format!(
            "listen = ['{address}']\n[cache]\nmax_size = '{max}'\n\
             [registry.'docker.io']\nupstream = 'http://{upstream}'\ndefault = true\n"
        )
    };
    let mut larder = Instance::start(&[], &config("100MiB")).await;
    let client = client_of(address);
    for blob in &blobs {
        client.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    let cache = larder.path("cache");
    let taken = || files_under(&cache.join("blobs")).iter().map(|path| len(path)).sum::<u64>();
    until("all is stored", || taken() == 21 * MIB as u64).await;

    larder.write("config.toml", &config("10MiB"));
    let said = larder.reload().await;

    assert!(!said.contains("ERROR") && !said.contains("restart"), "{said}");
    until("it shrinks by itself", || du(&cache) <= 10 * MIB as u64).await;
    for blob in &blobs {
        client.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
