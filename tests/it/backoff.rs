//! An upstream that limits us is left alone for as long as it says. Cold pulls wait for the end of
//! a limit where there is time for that (`waited.rs`); all others are told of it at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Blob, Fault, Gate, Image, Proxy, ScriptedRegistry, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const CLIENTS: usize = 200;

fn limit(seconds: u64) -> Fault {
    Fault::Status(429, vec![("Retry-After", seconds.to_string())], "toomanyrequests")
}

/// Fault F8: containerd asks again at once, five times; that must not make the limit longer for
/// all.
#[tokio::test(start_paused = true)]
async fn a_storm_of_429s_costs_one_request_in_each_window() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    hub.breaks(When::asked("/v2/"), limit(30));

    for window in 1..=3 {
        let replies = proxy.get_often(LATEST, CLIENTS).join_all().await;

        for reply in replies {
            assert_eq!(reply.error(429).0, "TOOMANYREQUESTS");
            let wait: u64 = reply.header("retry-after").expect("it says when").parse().unwrap();
            assert!((1..=30).contains(&wait), "{wait}");
        }
        assert_eq!(hub.asked().len(), window, "one request in the window");
        tokio::time::advance(Duration::from_secs(31)).await;
    }
}

/// The same for tags of many images, all of which are held.
#[tokio::test(start_paused = true)]
async fn a_429_does_not_affect_pulls_of_cached_content() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    for number in 0..20 {
        hub.put_image(&format!("team/app{number}"), "latest", &image);
    }
    let proxy = Proxy::before(&hub).await;
    for number in 0..20 {
        proxy.get(&format!("/v2/team/app{number}/manifests/latest")).await;
    }
    tokio::time::advance(TAG_TTL * 2).await;
    hub.breaks(When::asked("/v2/"), limit(600));
    hub.forget();

    for number in 0..20 {
        let reply = proxy.get(&format!("/v2/team/app{number}/manifests/latest")).await;
        reply.assert_is(&image.manifest.blob);
        assert_eq!(reply.decision().get("detail"), Some("upstream-throttled"));
    }
    assert_eq!(hub.asked().len(), 1, "{:?}", hub.asked());
}

/// Docker Hub limits manifests and not blobs: a pull that has its manifest must end.
#[tokio::test(start_paused = true)]
async fn a_429_on_manifests_stops_no_blob() {
    let hub = ScriptedRegistry::new();
    let (running, next) = (Blob::random(1, 500_000), Blob::random(2, 1000));
    hub.put_blob(REPOSITORY, &running);
    hub.put_blob(REPOSITORY, &next);
    let image = Image::random(3, &[]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&running.digest), Fault::HoldAt(250_000, gate.clone()));
    let pulling = tokio::spawn(proxy.client.get(&running.path(REPOSITORY)));
    proxy.until(|| proxy.fills() == [250_000], "the first half comes").await;

    hub.breaks(When::asked("/manifests/"), limit(600));
    for path in [LATEST, &image.manifest.path(REPOSITORY)] {
        proxy.get(path).await.error(429);
    }
    gate.open();

    pulling.await.unwrap().assert_is(&running);
    proxy.get(&next.path(REPOSITORY)).await.assert_is(&next);
}

/// Told nothing, we wait a second, and ever longer while it goes on.
#[tokio::test(start_paused = true)]
async fn a_429_without_retry_after_is_retried_after_growing_pauses() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    hub.breaks(When::asked("/v2/"), Fault::status(429));

    // Asked for five minutes, by a client that comes again a second after each answer.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(300) {
        proxy.get(LATEST).await.error(429);
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    let asked = hub.asked().len();
    assert!((8..=20).contains(&asked), "{asked} requests in five minutes");
}

/// The same when everybody wants something else: no two of the questions are one.
#[tokio::test(start_paused = true)]
async fn a_storm_of_429s_over_many_images_costs_one_request_in_each_window() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    let path = |client: usize| format!("/v2/team/app{client}/manifests/latest");
    for client in 0..CLIENTS {
        hub.put_image(&format!("team/app{client}"), "latest", &image);
    }
    let proxy = Proxy::before(&hub).await;
    hub.breaks(When::asked("/v2/"), limit(30));
    // The first request finds out. Requests on their way already cannot be called back.
    proxy.get("/v2/team/other/manifests/latest").await.error(429);

    for window in 1..=3 {
        assert_eq!(hub.asked().len(), window, "one request for each window");
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(proxy.client.get(&path(client)));
        }
        for reply in clients.join_all().await {
            let (code, message) = reply.error(429);
            assert_eq!(code, "TOOMANYREQUESTS");
            assert!(message.contains("registry-1.docker.io"), "{message}");
            assert!(reply.header("retry-after").is_some());
        }
        assert_eq!(hub.asked().len(), window, "and nobody is asked in between");
        tokio::time::advance(Duration::from_secs(31)).await;
        proxy.get("/v2/team/other/manifests/latest").await.error(429);
    }

    hub.heal();
    tokio::time::advance(Duration::from_secs(31)).await;
    for client in 0..CLIENTS {
        proxy.get(&path(client)).await.assert_is(&image.manifest.blob);
    }
}

/// A client reads the upstream's error, and which host sent it; a 404 would hide the cause.
#[tokio::test(start_paused = true)]
async fn a_miss_passes_on_the_upstreams_error() {
    for (status, want, code) in [
        (403, 403, "DENIED"),
        (404, 404, "MANIFEST_UNKNOWN"),
        (429, 429, "TOOMANYREQUESTS"),
        (500, 502, "UNAVAILABLE"),
        (502, 502, "UNAVAILABLE"),
        (503, 502, "UNAVAILABLE"),
        (504, 502, "UNAVAILABLE"),
    ] {
        let hub = ScriptedRegistry::new();
        let proxy = Proxy::before(&hub).await;
        hub.breaks(When::asked("/v2/"), Fault::status(status));

        let (got, message) = proxy.get(LATEST).await.error(want);

        assert_eq!(got, code, "{status}");
        assert!(message.contains("registry-1.docker.io"), "{status}: {message}");
        if want == 502 || status == 403 {
            assert!(message.contains(&status.to_string()), "{status}: {message}");
        }
    }
}
