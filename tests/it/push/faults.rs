//! Whatever happens on the way: no client sees a 201 that the upstream did not give.

use bytes::Bytes;
use http::Method;
use larder::store::SpaceAmount;

use super::{begin, copies, location, open, patch, push_blob, push_image, put, put_manifest};
use crate::support::{Blob, Fault, Gate, Image, Proxy, Reach, ScriptedRegistry, When, settle};

const HUB: &str = "registry-1.docker.io";

async fn assert_nothing_is_left(proxy: &Proxy) {
    settle().await;
    assert_eq!(copies(proxy), 0, "a copy is left behind");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_dies_after_the_upload_was_begun() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 300_000);
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    proxy.network.set(HUB, Reach::Down);

    patch(&proxy, &begun, &blob.bytes).await.error(502);
    put(&proxy, &begun, &blob, &blob.bytes).await.error(502);
    assert_nothing_is_left(&proxy).await;
    assert!(!proxy.has_stored(&blob.digest));

    proxy.network.set(HUB, Reach::Up);
    push_blob(&proxy, "o/a", &blob).await.assert_status(201);
    assert_nothing_is_left(&proxy).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_dies_in_the_middle_of_a_body() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 300_000);
    let proxy = open(&hub).await;
    for method in ["PATCH", "PUT"] {
        hub.breaks(When::asked("").by(method).first(1), Fault::DieInBody(100_000));
        let begun = begin(&proxy, "o/a").await;

        let reply = match method {
            "PATCH" => patch(&proxy, &begun, &blob.bytes).await,
            _ => put(&proxy, &begun, &blob, &blob.bytes).await,
        };

        reply.error(502);
        assert_nothing_is_left(&proxy).await;
        assert!(!proxy.has_stored(&blob.digest), "{method}");
        hub.heal();
    }
    push_blob(&proxy, "o/a", &blob).await.assert_status(201);
}

/// The upstream may have it and have died before it could say so. A second try is right in either
/// case.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_dies_before_its_answer() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let proxy = open(&hub).await;
    hub.breaks(When::asked("digest=").by("PUT").first(1), Fault::CutHeaders);
    let layer = &image.layers[0];

    push_blob(&proxy, "o/a", layer).await.error(502);
    assert_nothing_is_left(&proxy).await;
    assert!(!proxy.has_stored(&layer.digest));

    push_image(&proxy, "o/a", "v1", &image).await;
    hub.breaks(When::asked("/manifests/").by("PUT"), Fault::CutHeaders);
    put_manifest(&proxy, "o/a", "v2", &image.manifest).await.error(502);
    hub.heal();
    put_manifest(&proxy, "o/a", "v2", &image.manifest).await.assert_status(201);
    assert_nothing_is_left(&proxy).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_dies_after_its_answer() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "v1", &image).await;

    proxy.network.set(HUB, Reach::Down);

    proxy.pull("o/a", "v1", &image).await;
    assert_nothing_is_left(&proxy).await;
}

/// The connection is taken from the pool a moment after the upstream has closed it.
#[tokio::test(start_paused = true)]
async fn a_push_without_a_streamed_body_is_retried_once() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let proxy = open(&hub).await;
    hub.breaks(When::asked("/uploads/").by("POST").first(1), Fault::CutHeaders);
    hub.breaks(When::asked("/manifests/").by("PUT").first(1), Fault::CutHeaders);

    push_image(&proxy, "o/a", "v1", &image).await;

    assert_eq!(hub.changes("PUT", "/manifests/").len(), 2);
}

/// A client that dies in the middle leaves nothing, and is no fault of the upstream.
#[tokio::test(start_paused = true)]
async fn a_client_that_dies_in_the_middle_of_a_body() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 300_000);
    let proxy = open(&hub).await;
    for _ in 0..10 {
        let begun = begin(&proxy, "o/a").await;
        let mut client = proxy.client.raw();
        let head = format!(
            "PATCH {begun} HTTP/1.1\r\nHost: larder.test\r\nContent-Length: 300000\r\n\r\n"
        );
        client.send(head.as_bytes()).await;
        client.send(&blob.bytes[..100_000]).await;
        settle().await;
        drop(client);
        assert_nothing_is_left(&proxy).await;
    }

    // The upstream is not held to be down for it.
    push_blob(&proxy, "o/a", &blob).await.assert_status(201);
}

/// An answer of success that came before all of the body was sent is none.
#[tokio::test(start_paused = true)]
async fn a_success_in_the_middle_of_a_body_is_no_success() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 3_000_000);
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    hub.breaks(When::asked("digest=").by("PUT"), Fault::AnswerInBody(100_000, 201));

    put(&proxy, &begun, &blob, &blob.bytes).await.error(502);

    assert_nothing_is_left(&proxy).await;
    assert!(!proxy.has_stored(&blob.digest));
}

/// A disk that is full costs the copy, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_full_disk_fails_no_push() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 300_000);
    let mut setup = crate::support::Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    setup.settings.store.limits.min_free = SpaceAmount::Bytes(u64::MAX);
    let proxy = setup.start().await;
    // Nothing but the directory itself takes part in this.
    std::fs::remove_dir_all(proxy.cache_dir().join("uploads")).unwrap();
    std::fs::write(proxy.cache_dir().join("uploads"), b"in the way").unwrap();

    push_blob(&proxy, "o/a", &blob).await.assert_status(201);

    assert_eq!(hub.blob("o/a", &blob.digest).as_ref(), Some(&blob.bytes));
    assert!(!proxy.has_stored(&blob.digest));
    proxy.get(&blob.path("o/a")).await.assert_is(&blob);
}

/// Nothing is buffered: what the upstream does not take, the client cannot send.
#[tokio::test(start_paused = true)]
async fn a_slow_upstream_slows_its_client_and_fills_no_memory() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 8 << 20);
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    let gate = Gate::new();
    hub.breaks(When::asked("").by("PATCH"), Fault::HoldInBody(1 << 20, gate.clone()));

    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    let (client, bytes) = (proxy.client.clone(), blob.bytes.clone());
    let sending = tokio::spawn(async move {
        let mut client = client.raw();
        let head = format!(
            "PATCH {begun} HTTP/1.1\r\nHost: larder.test\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        client.send(head.as_bytes()).await;
        for piece in bytes.chunks(64 << 10) {
            client.send(piece).await;
            counter.fetch_add(piece.len(), std::sync::atomic::Ordering::Relaxed);
        }
        client.download().await.unwrap().finish().await
    });
    gate.reached().await;
    settle().await;
    let held = sent.load(std::sync::atomic::Ordering::Relaxed) - (1 << 20);
    assert!(held < 1 << 20, "{held} bytes are on their way");

    gate.open();
    let appended = sending.await.unwrap();
    appended.assert_status(202);
    put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);
}

/// A pull that has been asked for before the push, and is answered after it, is no answer to who
/// asks now.
#[tokio::test(start_paused = true)]
async fn an_upstream_answer_from_before_a_push_is_not_cached() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let proxy = open(&hub).await;
    let layer = image.layers[0].clone();
    let (blob_gate, tag_gate) = (Gate::new(), Gate::new());
    hub.breaks(
        When::asked(layer.digest.hex()).head().first(1),
        Fault::HoldHeaders(blob_gate.clone()),
    );
    hub.breaks(When::asked("/manifests/v1").head().first(1), Fault::HoldHeaders(tag_gate.clone()));
    let early_head = tokio::spawn(proxy.client.head(&layer.path("o/a")));
    let early_tag = tokio::spawn(proxy.client.get("/v2/o/a/manifests/v1"));
    blob_gate.reached().await;
    tag_gate.reached().await;

    push_image(&proxy, "o/a", "v1", &image).await;
    blob_gate.open();
    tag_gate.open();
    drop((early_head.await, early_tag.await));

    proxy.head(&layer.path("o/a")).await.assert_status(200);
    proxy.get("/v2/o/a/manifests/v1").await.assert_is(&image.manifest.blob);
}

/// A single POST is a hint that a registry may ignore: it opens an upload, and has taken nothing.
#[tokio::test(start_paused = true)]
async fn a_single_post_that_only_opens_an_upload_goes_on() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    let proxy = open(&hub).await;
    let path = format!("/v2/o/a/blobs/uploads/?digest={}", blob.digest);
    let opened = ("Location", "/v2/o/a/blobs/uploads/upload-1?state=1".to_owned());
    begin(&proxy, "o/a").await;
    hub.breaks(When::asked("digest=").by("POST"), Fault::Status(202, vec![opened], ""));

    let reply = proxy.client.send(Method::POST, &path, &[], blob.bytes.clone()).await;

    reply.assert_status(202);
    put(&proxy, &location(&reply), &blob, &blob.bytes).await.assert_status(201);
    assert_nothing_is_left(&proxy).await;
    let empty = Bytes::new();
    let odd = proxy.client.send(Method::POST, &path.replace("sha256:", "sha256:x"), &[], empty);
    assert_eq!(odd.await.error(400).0, "DIGEST_INVALID");
}
