//! An upstream that is down is found out once, and then no request waits for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Blob, Fault, Gate, Image, Proxy, Reach, STALE_WAIT, ScriptedRegistry};
use crate::support::{TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";
const CLIENTS: usize = 200;
const INSTANT: Duration = Duration::from_millis(50);

/// A mirror that holds an image whose tag's TTL is over.
async fn warm() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    tokio::time::advance(TAG_TTL * 2).await;
    hub.forget();
    (hub, image, proxy)
}

/// Fault F9: a storm of faults on the way to a dead upstream must not become one of requests.
#[tokio::test(start_paused = true)]
async fn a_storm_of_faults_ends_after_a_few_requests() {
    for status in [502, 503, 504] {
        let hub = ScriptedRegistry::new();
        let proxy = Proxy::before(&hub).await;
        hub.breaks(When::asked("/v2/"), Fault::status(status));

        for _ in 0..2 {
            let replies = proxy.get_often(LATEST, CLIENTS).join_all().await;
            for reply in replies {
                reply.error(502);
            }
        }
        let asked = hub.asked().len();
        assert!(asked <= 6, "{status}: {asked} requests");

        let begin = Instant::now();
        let blob = Blob::random(1, 10);
        let (_, message) = proxy.get(&blob.path(REPOSITORY)).await.error(502);
        assert!(begin.elapsed() < INSTANT && message.contains("breaker is open"), "{message}");
        assert_eq!(hub.asked().len(), asked);
    }
}

/// The worst case for dockerd, which never gives up waiting: it waits once.
#[tokio::test(start_paused = true)]
async fn a_black_hole_delays_a_warm_tag_once_and_then_not_at_all() {
    let (_hub, image, proxy) = warm().await;
    proxy.network.set(HOST, Reach::Dark);

    let begin = Instant::now();
    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    assert!(begin.elapsed() >= STALE_WAIT && begin.elapsed() <= STALE_WAIT + INSTANT);

    // The revalidation under way, those that fail after it, the open breaker, and its probes.
    for round in 0..300 {
        let begin = Instant::now();
        let reply = proxy.get(LATEST).await;
        reply.assert_is(&image.manifest.blob);
        assert!(reply.decision().is_stale());
        assert!(begin.elapsed() < INSTANT, "round {round}: {:?}", begin.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Not waiting must not become not asking: when the upstream is back, the tag is what it says.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_recovers_closes_the_circuit_breaker() {
    let (hub, image, proxy) = warm().await;
    proxy.network.set(HOST, Reach::Dark);
    for _ in 0..60 {
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let new = Image::random(2, &[10]);
    hub.put_image(REPOSITORY, "latest", &new);
    proxy.network.set(HOST, Reach::Up);

    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        proxy.get(LATEST).await;
    }
    let reply = proxy.get(LATEST).await;
    reply.assert_is(&new.manifest.blob);
    assert!(!reply.decision().is_stale());
}

/// Slow is not down: what one tag's revalidation taught is forgotten with the next good answer.
#[tokio::test(start_paused = true)]
async fn a_slow_upstream_is_waited_for_again_once_it_has_answered() {
    let (hub, image, proxy) = warm().await;
    let gate = Gate::new();
    hub.breaks(When::asked(LATEST).nth(1), Fault::HoldHeaders(gate.clone()));
    assert!(proxy.get(LATEST).await.decision().is_stale());
    gate.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::time::advance(TAG_TTL * 2).await;

    let reply = proxy.get(LATEST).await;

    reply.assert_is(&image.manifest.blob);
    assert!(!reply.decision().is_stale(), "{:?}", reply.decision());
}

/// A breaker stands before new requests, not in the middle of old ones.
#[tokio::test(start_paused = true)]
async fn a_body_that_runs_is_not_cut_by_an_open_breaker() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 500_000);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::HoldAt(250_000, gate.clone()));
    let pulling = tokio::spawn(proxy.client.get(&blob.path(REPOSITORY)));
    proxy.until(|| proxy.fills() == [250_000], "the first half comes").await;

    hub.breaks(When::asked("/manifests/"), Fault::status(503));
    for _ in 0..3 {
        proxy.get(LATEST).await.error(502);
    }
    let (_, message) = proxy.get(LATEST).await.error(502);
    assert!(message.contains("breaker is open"), "{message}");
    gate.open();

    pulling.await.unwrap().assert_is(&blob);
}
