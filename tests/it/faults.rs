//! Drips and crowds: the faults of `tests/lists/faults.tsv` that have no file of their own.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Blob, Fault, Proxy, ScriptedRegistry, Setup, When, settle};

const REPOSITORY: &str = "library/alpine";
const HOST: &str = "registry-1.docker.io";

/// One registry's drip must not be another's: theirs are two fills of one digest.
#[tokio::test(start_paused = true)]
async fn a_registry_that_drips_is_not_noticed_at_another() {
    const LEN: usize = 2 << 20;
    let (hub, quay) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let blob = Blob::random(1, LEN);
    hub.put_blob("library/a", &blob);
    quay.put_blob("b", &blob);
    hub.breaks(When::asked(&blob.digest), Fault::Drip(1));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("quay.io", &quay);
    let proxy = setup.start().await;

    let path = blob.path("library/a");
    let dripping = proxy.client.raw().get("1.1", &path, &[]).await.unwrap();
    let begin = Instant::now();
    for reply in proxy.get_often(&blob.path("quay.io/b"), 20).join_all().await {
        reply.assert_is(&blob);
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(quay.gets(&blob.digest).len(), 1);

    // Nor is the first one given other bytes than its own registry's, or hurt by the second.
    assert_eq!(hub.gets(&blob.digest).len(), 1);
    assert!(hub.body_bytes(&blob.digest) < 100, "{}", hub.body_bytes(&blob.digest));
    hub.heal();
    drop(dripping);
}

/// A drip holds a fill and all who follow it; where another upstream has the rest, it brings it.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_drips_is_left_for_another() {
    const LEN: usize = 500_000;
    let (mirror, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let blob = Blob::random(1, LEN);
    mirror.put_blob(REPOSITORY, &blob);
    hub.put_blob(REPOSITORY, &blob);
    mirror.breaks(When::asked(&blob.digest), Fault::Drip(1000));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.network.put("mirror.test", 80, mirror.clone());
    let registry = setup.settings.registries.last_mut().unwrap();
    let url = "http://mirror.test".parse().unwrap();
    registry.mirrors.push(larder::upstream::UpstreamOptions { url, ..registry.upstream.clone() });
    let proxy = setup.start().await;

    let begin = Instant::now();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    let gets = hub.gets(&blob.digest);
    assert_eq!((mirror.gets(&blob.digest).len(), gets.len()), (1, 1));
    let range = gets[0].header("range").expect("it goes on where the drip ended");
    let from: usize = range["bytes=".len()..].trim_end_matches('-').parse().unwrap();
    assert!((10_000..40_000).contains(&from), "{range}");
}

/// Alone, it is asked again, and then the pull fails, with its bytes kept for the next one.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_drips_fails_in_bounds() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 500_000);
    hub.put_blob(REPOSITORY, &blob);
    hub.breaks(When::asked(&blob.digest), Fault::Drip(100));
    let proxy = Proxy::before(&hub).await;

    let begin = Instant::now();
    let reply = proxy.get(&blob.path(REPOSITORY)).await;

    assert!(!reply.is_complete());
    assert!(begin.elapsed() < Duration::from_secs(240), "{:?}", begin.elapsed());
    let tries = hub.gets(&blob.digest).len();
    assert!((2..=6).contains(&tries), "{tries}");
    assert!(proxy.fills()[0] > 10_000, "{:?}", proxy.fills());
    hub.heal();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
}

/// A thin line is no drip: a pull over it takes long, and ends well.
#[tokio::test(start_paused = true)]
async fn a_slow_upstream_is_no_drip() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 500_000);
    hub.put_blob(REPOSITORY, &blob);
    hub.breaks(When::asked(&blob.digest), Fault::Drip(2000));
    let proxy = Proxy::before(&hub).await;

    let begin = Instant::now();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    assert!(begin.elapsed() >= Duration::from_secs(240), "{:?}", begin.elapsed());
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}

/// Fault F14: connections are a fixed number, open ones and those ever dialled; a fetch that gets
/// none waits for its turn.
#[tokio::test(start_paused = true)]
async fn a_thousand_cold_blobs_use_only_so_many_connections() {
    const CONNECTIONS_MAX: usize = 64;
    let hub = ScriptedRegistry::new();
    let blobs: Vec<_> = (0..1000).map(|seed| Blob::random(seed, 2000)).collect();
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
    }
    let proxy = Proxy::before(&hub).await;

    let mut clients = tokio::task::JoinSet::new();
    for blob in &blobs {
        let (reply, blob) = (proxy.client.get(&blob.path(REPOSITORY)), blob.clone());
        clients.spawn(async move { reply.await.assert_is(&blob) });
    }
    clients.join_all().await;

    assert_eq!(hub.asked().len(), blobs.len());
    let (open, dialled) = (proxy.network.most_open(), proxy.network.connections().len());
    assert!(
        open <= CONNECTIONS_MAX && dialled <= CONNECTIONS_MAX,
        "{open} of {dialled} connections to {HOST} were open at once"
    );
    settle().await;
}
