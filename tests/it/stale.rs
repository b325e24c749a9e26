//! Cached content survives the upstream: refused, unresolvable, silent, failing or limiting.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Blob, Fault, Image, Proxy, Reach, Reply, STALE_WAIT, ScriptedRegistry};
use crate::support::{Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";

/// A mirror that holds an image whose tag's TTL is over.
async fn warm() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    for blob in image.blobs() {
        proxy.until_stored(&blob.digest).await;
    }
    tokio::time::advance(TAG_TTL * 2).await;
    (hub, image, proxy)
}

/// Fails unless this is the tag, marked as a stale answer must be.
#[track_caller]
fn assert_stale(reply: &Reply, image: &Image, what: &str) {
    reply.assert_is(&image.manifest.blob);
    let decision = reply.decision();
    assert!(decision.is_stale(), "{what}: {decision:?}");
    assert!(decision.get("detail").is_some_and(|why| !why.is_empty()), "{what}: {decision:?}");
    let warning = reply.header("warning").unwrap_or_default();
    assert!(warning.starts_with("299 "), "{what}: Warning: {warning:?}");
    let age: u64 = reply.header("age").expect("a tag has an age").parse().unwrap();
    assert!(age >= TAG_TTL.as_secs() * 2, "{what}: Age: {age}");
}

/// The reason why a mirror is run: the pull goes on whatever the upstream does.
#[tokio::test(start_paused = true)]
async fn a_warm_tag_is_served_stale_whatever_ails_the_upstream() {
    let limit = vec![("Retry-After", "3600".to_owned())];
    let faults = [
        Fault::status(500),
        Fault::status(502),
        Fault::status(503),
        Fault::Status(429, limit, "toomanyrequests"),
        Fault::CutHeaders,
        Fault::Html200,
    ];
    for fault in faults {
        let (hub, image, proxy) = warm().await;
        hub.breaks(When::asked("/v2/"), fault.clone());

        let tag = proxy.get(LATEST).await;
        let head = proxy.head(LATEST).await;
        hub.forget();
        let digest = proxy.get(&image.manifest.path(REPOSITORY)).await;
        let layer = proxy.get(&image.layers[0].path(REPOSITORY)).await;

        assert_stale(&tag, &image, &format!("{fault:?}"));
        assert!(head.decision().is_stale(), "{fault:?}");
        digest.assert_is(&image.manifest.blob);
        layer.assert_is(&image.layers[0]);
        assert!(digest.decision().is_hit() && layer.decision().is_hit(), "{fault:?}");
        hub.assert_not_asked();
    }
}

/// Also when the host refuses connections, or its name does not resolve, and also after a restart.
#[tokio::test(start_paused = true)]
async fn a_warm_tag_is_served_without_an_upstream_and_after_a_restart() {
    for has_name in [true, false] {
        let (_hub, image, proxy) = warm().await;
        if has_name {
            proxy.network.set(HOST, Reach::Down);
        } else {
            proxy.network.unname(HOST);
        }

        assert_stale(&proxy.get(LATEST).await, &image, "before the restart");
        proxy.restart().await;
        assert_stale(&proxy.get(LATEST).await, &image, "after the restart");

        let layer = proxy.get(&image.layers[0].path(REPOSITORY)).await;
        layer.assert_is(&image.layers[0]);
        proxy.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);
    }
}

/// A mirror that hangs is the worst case for dockerd, which never gives up waiting.
#[tokio::test(start_paused = true)]
async fn a_silent_upstream_delays_a_warm_tag_by_the_stale_wait_only() {
    let (_hub, image, proxy) = warm().await;
    proxy.network.set(HOST, Reach::Dark);

    for round in 1..=3 {
        let begin = Instant::now();
        let tag = proxy.get(LATEST).await;
        let waited = begin.elapsed();

        assert_stale(&tag, &image, "silence");
        assert!(waited <= STALE_WAIT + Duration::from_millis(50), "round {round}: {waited:?}");
    }
    let begin = Instant::now();
    proxy.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);
    assert!(begin.elapsed() < Duration::from_millis(50), "a digest waits for nobody");
}

/// A headless answer is silence too: the connection stands, and nothing comes.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_accepts_and_says_nothing_is_silent_too() {
    let (hub, image, proxy) = warm().await;
    let gate = crate::support::Gate::new();
    hub.breaks(When::asked("/v2/"), Fault::HoldHeaders(gate));

    let begin = Instant::now();
    let tag = proxy.get(LATEST).await;

    assert_stale(&tag, &image, "no headers");
    assert!(begin.elapsed() <= STALE_WAIT + Duration::from_millis(50), "{:?}", begin.elapsed());
}

/// Stale must not be for ever: when the upstream is back, the tag is what it says.
#[tokio::test(start_paused = true)]
async fn a_stale_tag_is_fresh_again_when_the_upstream_is_back() {
    let (hub, image, proxy) = warm().await;
    proxy.network.set(HOST, Reach::Down);
    assert_stale(&proxy.get(LATEST).await, &image, "down");
    let new = Image::random(2, &[10]);
    hub.put_image(REPOSITORY, "latest", &new);
    proxy.network.set(HOST, Reach::Up);

    // Longer than any back-off between two looks at a broken upstream.
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    let tag = proxy.get(LATEST).await;

    tag.assert_is(&new.manifest.blob);
    assert!(!tag.decision().is_stale() && !tag.headers.contains_key("warning"));
}

/// There is an age at which no answer is better than an old one; the operator sets it.
#[tokio::test(start_paused = true)]
async fn a_tag_is_not_served_beyond_its_max_stale() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image(REPOSITORY, "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).tags.max_stale = Duration::from_secs(3600);
    let proxy = setup.start().await;
    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    proxy.network.set(HOST, Reach::Down);

    tokio::time::advance(Duration::from_secs(3000)).await;
    assert!(proxy.get(LATEST).await.decision().is_stale());
    tokio::time::advance(Duration::from_secs(3000)).await;

    assert_eq!(proxy.get(LATEST).await.error(502).0, "UNAVAILABLE");
}

/// The operator reads the error in the client's output; it must say who failed and how.
#[tokio::test(start_paused = true)]
async fn a_cold_pull_without_an_upstream_says_who_cannot_be_reached() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    proxy.network.set(HOST, Reach::Down);
    let blob = Blob::random(1, 10);

    for path in [LATEST.to_owned(), blob.path(REPOSITORY)] {
        let (code, message) = proxy.get(&path).await.error(502);

        assert_eq!(code, "UNAVAILABLE", "{path}");
        assert!(message.contains(HOST), "{path}: {message}");
    }
}

/// containerd gives up on headers at 30 s and then asks the internet; we must answer before.
#[tokio::test(start_paused = true)]
async fn a_cold_pull_from_a_silent_upstream_ends_before_clients_give_up() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    proxy.network.set(HOST, Reach::Dark);
    let blob = Blob::random(1, 10);

    for path in [LATEST.to_owned(), blob.path(REPOSITORY)] {
        let begin = Instant::now();
        let reply = proxy.get(&path).await;

        let status = reply.status.as_u16();
        assert!(status == 502 || status == 504, "{path}: {status}");
        reply.error(status);
        assert!(begin.elapsed() <= Duration::from_secs(26), "{path}: {:?}", begin.elapsed());
    }
}

/// A client that is told when to come back may do so; one that is told nothing hammers.
#[tokio::test(start_paused = true)]
async fn a_cold_pull_that_is_limited_says_so() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    let limit = vec![("Retry-After", "7".to_owned())];
    hub.breaks(When::asked("/v2/"), Fault::Status(429, limit, "toomanyrequests"));

    let reply = proxy.get(LATEST).await;

    assert_eq!(reply.error(429).0, "TOOMANYREQUESTS");
    assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
}
