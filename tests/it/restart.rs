//! What outlives the process: everything stored, what was known, and half a download.

use std::fs;
use std::time::Duration;

use larder::app::{App, Parts};
use larder::clock::SystemClock;
use tokio::runtime::{Builder, Runtime};

use crate::support::{Blob, Fault, Gate, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 400_000;

/// A mirror whose upstream stops for ever at half of a blob.
async fn stuck_at_half() -> (ScriptedRegistry, Blob, Proxy, Gate) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::HoldAt(LEN / 2, gate.clone()));
    let proxy = Proxy::before(&hub).await;
    (hub, blob, proxy, gate)
}

/// A restart is an upgrade or a reboot; neither is a reason to pay for anything again.
#[tokio::test(start_paused = true)]
async fn a_restart_forgets_nothing() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000, 10]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    for blob in image.blobs() {
        proxy.until_stored(&blob.digest).await;
    }
    hub.forget();

    proxy.restart().await;
    let decisions = proxy.pull(REPOSITORY, "latest", &image).await;

    assert!(decisions.iter().all(|decision| decision.is_hit()), "{decisions:?}");
    hub.assert_not_asked();
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    assert_eq!((hub.asked().len(), hub.heads("manifests/latest").len()), (1, 1));
}

/// SIGTERM in the middle of a layer: what came is kept, and the next start goes on from there.
#[tokio::test(start_paused = true)]
async fn a_stop_in_mid_fill_keeps_what_came() {
    let (hub, blob, proxy, gate) = stuck_at_half().await;
    let clients = proxy.get_often(&blob.path(REPOSITORY), 3);
    gate.reached().await;
    proxy.until(|| proxy.fills() == [LEN as u64 / 2], "half of it is on disk").await;

    proxy.stop().await;
    drop(clients);

    assert_eq!((proxy.fills(), proxy.stored()), (vec![LEN as u64 / 2], Vec::new()));
    hub.heal();
    hub.forget();
    proxy.start_again().await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    let gets = hub.gets(&blob.digest);
    assert_eq!((gets.len(), gets[0].header("range")), (1, Some("bytes=200000-")));
    assert_eq!(hub.body_bytes(&blob.digest), LEN as u64 / 2);
    assert_eq!(proxy.fills(), [0_u64; 0]);
}

/// kill -9, as near as one process can come to it: every task of the app ceases at once.
#[test]
fn a_death_in_mid_fill_leaves_nothing_wrong_and_half_to_go() {
    let (hub, blob, setup) = run(async {
        let (hub, blob, proxy, gate) = stuck_at_half().await;
        let client = proxy.client.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
        gate.reached().await;
        proxy.until(|| proxy.fills() == [LEN as u64 / 2], "half of it is on disk").await;
        drop(client);
        (hub, blob, proxy.outlive())
    });
    hub.heal();
    hub.forget();

    run(async {
        let proxy = setup.start().await;
        assert_eq!(proxy.stored(), [""; 0]);
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        proxy.until_stored(&blob.digest).await;
    });

    let gets = hub.gets(&blob.digest);
    assert_eq!((gets.len(), gets[0].header("range")), (1, Some("bytes=200000-")));
    assert_eq!(hub.body_bytes(&blob.digest), LEN as u64 / 2);
}

/// Runs something to its end in a runtime of its own, which dies with it.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime: Runtime =
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// Half a download that nobody came back for is lost space, and the disk is not ours alone.
#[tokio::test(start_paused = true)]
async fn an_old_partial_download_is_swept_at_the_start_and_a_young_one_is_not() {
    let (hub, blob, proxy, gate) = stuck_at_half().await;
    let client = proxy.client.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;
    proxy.until(|| proxy.fills() == [LEN as u64 / 2], "half of it is on disk").await;
    drop(client);
    proxy.stop().await;

    proxy.clock.skip(Duration::from_secs(23 * 60 * 60));
    proxy.start_again().await;
    assert_eq!(proxy.fills(), [LEN as u64 / 2], "fill_keep is 24 hours");
    proxy.stop().await;
    proxy.clock.skip(Duration::from_secs(2 * 60 * 60));
    proxy.start_again().await;
    proxy.until(|| proxy.fills().is_empty(), "it is swept").await;

    hub.heal();
    hub.forget();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    assert_eq!(hub.gets(&blob.digest)[0].header("range"), None, "from the beginning");
}

/// A torn or damaged half must not spoil the whole: it is found out and fetched anew.
#[tokio::test(start_paused = true)]
async fn a_damaged_partial_download_is_fetched_anew() {
    let (hub, blob, proxy, gate) = stuck_at_half().await;
    let client = proxy.client.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;
    proxy.until(|| proxy.fills() == [LEN as u64 / 2], "half of it is on disk").await;
    drop(client);
    proxy.stop().await;
    let path = &crate::support::proxy::files_under(&proxy.cache_dir().join("fills"))[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[1000] ^= 1;
    fs::write(path, bytes).unwrap();
    hub.heal();
    hub.forget();

    proxy.start_again().await;
    let reply = proxy.client.try_get(crate::support::Version::Http11, &blob.path(REPOSITORY)).await;

    if let Ok(reply) = reply
        && reply.is_complete()
    {
        reply.assert_is(&blob);
    }
    proxy.until_stored(&blob.digest).await;
    let ranges: Vec<_> =
        hub.gets(&blob.digest).iter().map(|get| get.header("range").is_some()).collect();
    assert_eq!(ranges, [true, false], "gone on with, then once from zero");
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
}

/// A file longer than its blob, as another program or a bug may leave it, is no obstacle either.
#[tokio::test(start_paused = true)]
async fn a_partial_download_that_is_too_long_is_no_obstacle() {
    let (hub, blob, proxy, gate) = stuck_at_half().await;
    let client = proxy.client.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;
    proxy.until(|| proxy.fills() == [LEN as u64 / 2], "half of it is on disk").await;
    drop(client);
    proxy.stop().await;
    let path = &crate::support::proxy::files_under(&proxy.cache_dir().join("fills"))[0];
    fs::write(path, vec![0x55; LEN + 1]).unwrap();
    hub.heal();

    proxy.start_again().await;
    let reply = proxy.client.try_get(crate::support::Version::Http11, &blob.path(REPOSITORY)).await;

    if let Ok(reply) = reply
        && reply.status == 200
        && reply.is_complete()
    {
        reply.assert_is(&blob);
    }
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
}

/// Two processes in one directory would trust each other's half-written files.
#[tokio::test(start_paused = true)]
async fn a_second_app_in_the_same_directory_does_not_start() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    let mut second = Setup::new();
    second.settings.store.dir = proxy.cache_dir();
    second.registry("docker.io", &hub);

    let network = std::sync::Arc::new(second.network.clone());
    let parts = Parts { network, clock: std::sync::Arc::new(SystemClock) };
    let opened = App::open(&second.settings, parts).await;

    assert!(opened.is_err(), "the first has the lock");
    proxy.get("/v2/").await.assert_status(200);
}
