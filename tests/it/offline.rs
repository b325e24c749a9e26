//! `offline = true`: the cache alone answers, however old it is.

use std::time::Duration;

use crate::support::{Blob, Image, Manifest, Proxy, Reply, ScriptedRegistry, Setup};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A mirror that pulled an image a year ago and has been offline since, and the one blob more that
/// another registry brought.
async fn warm() -> (ScriptedRegistry, Image, Blob, Proxy) {
    let (hub, other) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[100_000]);
    let stranger = Image::random(2, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    other.put_image("o/a", "latest", &stranger);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("ghcr.io", &other);
    let proxy = setup.start().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    proxy.get("/v2/library/alpine/manifests/missing").await.error(404);
    proxy.get(&stranger.layers[0].path("ghcr.io/o/a")).await.assert_is(&stranger.layers[0]);
    for blob in image.blobs().chain(&stranger.layers) {
        proxy.until_stored(&blob.digest).await;
    }
    proxy.stop().await;
    let mut setup = proxy.outlive();
    setup.settings.registries[0].rules.offline = true;
    let proxy = setup.start().await;
    proxy.clock.skip(YEAR);
    hub.forget();
    (hub, image, stranger.layers[0].clone(), proxy)
}

#[track_caller]
fn assert_offline(reply: &Reply, code: &str) {
    reply.error(404);
    let text = reply.text();
    assert!(text.contains(code) && text.contains("offline"), "{text}");
}

/// The air gap: what was brought in once is there, whatever the calendar says.
#[tokio::test(start_paused = true)]
async fn offline_cached_content_of_any_age_is_served_without_an_upstream_request() {
    let (hub, image, _, proxy) = warm().await;

    for _ in 0..2 {
        for decision in proxy.pull(REPOSITORY, "latest", &image).await {
            assert!(decision.is_hit() || decision.is_stale(), "{decision:?}");
        }
        proxy.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);
        let tag = proxy.head(LATEST).await;
        assert_eq!(tag.status, 200);
        assert_eq!(tag.decision().get("detail"), Some("offline"), "{:?}", tag.decision());
        let age: u64 = tag.header("age").unwrap().parse().unwrap();
        assert!(age >= YEAR.as_secs(), "{age}");
        proxy.restart().await;
    }

    hub.assert_not_asked();
}

/// No client waits for an upstream that is not asked.
#[tokio::test(start_paused = true)]
async fn offline_content_that_is_not_cached_is_a_404() {
    let (hub, _, _, proxy) = warm().await;
    let begin = tokio::time::Instant::now();
    let cold = Image::random(9, &[10]);

    for path in ["/v2/library/alpine/manifests/cold", &cold.manifest.path(REPOSITORY)] {
        assert_offline(&proxy.get(path).await, "MANIFEST_UNKNOWN");
        assert_eq!(proxy.head(path).await.status, 404);
    }
    let blob = cold.layers[0].path(REPOSITORY);
    assert_offline(&proxy.get(&blob).await, "BLOB_UNKNOWN");
    assert_eq!(proxy.head(&blob).await.status, 404);
    let missing = proxy.get("/v2/library/alpine/manifests/missing").await;
    missing.error(404);

    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    hub.assert_not_asked();
    assert!(proxy.fills().is_empty(), "{:?}", proxy.fills());
}

/// An upstream that cannot be asked opens no other repository's content.
#[tokio::test(start_paused = true)]
async fn offline_a_blob_cached_for_another_repository_is_not_served() {
    let (hub, image, stranger, proxy) = warm().await;

    assert_offline(&proxy.get(&stranger.path(REPOSITORY)).await, "BLOB_UNKNOWN");
    assert_offline(&proxy.get(&image.layers[0].path("library/other")).await, "BLOB_UNKNOWN");
    assert_eq!(proxy.head(&image.layers[0].path("library/other")).await.status, 404);
    assert_offline(&proxy.get(&image.manifest.path("library/other")).await, "MANIFEST_UNKNOWN");

    hub.assert_not_asked();
}

/// A child that a cached index names needs no upstream, so being offline is no obstacle to it.
#[tokio::test(start_paused = true)]
async fn a_child_of_a_held_index_is_there_though_another_repository_brought_it() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let index = Manifest::index(&[&image.manifest]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.put_tagged("library/other", "multi", &index);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let proxy = setup.start().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    proxy.get("/v2/library/other/manifests/multi").await.assert_is(&index.blob);
    proxy.stop().await;
    let mut setup = proxy.outlive();
    setup.settings.registries[0].rules.offline = true;
    let proxy = setup.start().await;
    hub.forget();

    proxy.get(&image.manifest.path("library/other")).await.assert_is(&image.manifest.blob);

    hub.assert_not_asked();
}
