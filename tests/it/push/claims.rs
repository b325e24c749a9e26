//! A blob is reported to exist only where the registry has said so: a client that is told so does
//! not upload it.

use std::time::Duration;

use super::{open, push_blob, push_image, put_manifest};
use crate::support::{Blob, Image, Reach, ScriptedRegistry, Setup};

const HUB: &str = "registry-1.docker.io";

/// harbor#22747, openshift/origin#12389: the layer was in the cache, and not in the repository.
#[tokio::test(start_paused = true)]
async fn a_blob_of_one_repository_is_not_claimed_in_another() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image("o/a", "v1", &image);
    let proxy = open(&hub).await;
    proxy.pull("o/a", "v1", &image).await;

    for blob in image.blobs() {
        proxy.head(&blob.path("o/b")).await.assert_status(404);
    }
    push_image(&proxy, "o/b", "v1", &image).await;

    for blob in image.blobs() {
        assert_eq!(hub.blob("o/b", &blob.digest).as_ref(), Some(&blob.bytes));
    }
}

/// To be named by a manifest is enough to be read, and not enough to be claimed.
#[tokio::test(start_paused = true)]
async fn a_reported_membership_holds_for_a_minute_and_is_then_confirmed_again() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    let proxy = open(&hub).await;
    push_blob(&proxy, "o/a", &blob).await.assert_status(201);
    hub.forget();

    proxy.head(&blob.path("o/a")).await.assert_status(200);
    tokio::time::advance(Duration::from_secs(59)).await;
    proxy.head(&blob.path("o/a")).await.assert_status(200);
    hub.assert_not_asked();

    tokio::time::advance(Duration::from_secs(2)).await;
    proxy.head(&blob.path("o/a")).await.assert_status(200);
    assert_eq!(hub.heads(blob.digest.hex()).len(), 1);
    proxy.head(&blob.path("o/a")).await.assert_status(200);
    assert_eq!(hub.heads(blob.digest.hex()).len(), 1, "the answer is a claim again");
}

/// Never stale: an upstream that is down has said nothing. Reading goes on.
#[tokio::test(start_paused = true)]
async fn no_blob_is_reported_while_the_upstream_cannot_be_asked() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "v1", &image).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    proxy.network.set(HUB, Reach::Down);

    proxy.head(&image.layers[0].path("o/a")).await.assert_status(502);
    proxy.head(&image.manifest.path("o/a")).await.assert_status(502);
    proxy.pull("o/a", "v1", &image).await;
    // Clients that pull ask for a tag so, too, and an outage is survived.
    let head = proxy.head("/v2/o/a/manifests/v1").await;
    head.assert_status(200);
    assert!(head.decision().is_stale());
}

/// The registry collects garbage behind our back; the next push must bring it back.
#[tokio::test(start_paused = true)]
async fn a_layer_that_the_upstream_has_lost_is_pushed_again() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "v1", &image).await;
    let layer = &image.layers[0];
    hub.collect_garbage("o/a", &layer.digest);

    // Within a minute the claim still holds, and the client skips the layer.
    proxy.head(&layer.path("o/a")).await.assert_status(200);
    let refused = put_manifest(&proxy, "o/a", "v2", &image.manifest).await;
    assert_eq!(refused.error(400).0, "MANIFEST_BLOB_UNKNOWN");

    // The refusal has ended the membership.
    proxy.head(&layer.path("o/a")).await.assert_status(404);
    push_image(&proxy, "o/a", "v2", &image).await;
    assert!(hub.blob("o/a", &layer.digest).is_some());
    proxy.pull("o/a", "v2", &image).await;
}

/// The blobs of a refused manifest are not served from the repository either, until they are asked
/// for upstream.
#[tokio::test(start_paused = true)]
async fn a_refused_manifest_ends_the_membership_of_what_it_lists_for_good() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "v1", &image).await;
    let layer = &image.layers[0];
    hub.collect_garbage("o/a", &layer.digest);
    put_manifest(&proxy, "o/a", "v2", &image.manifest).await.error(400);

    for _ in ["now", "after a restart"] {
        proxy.get(&layer.path("o/a")).await.error(404);
        proxy.get(&image.config.path("o/a")).await.assert_is(&image.config);
        proxy.restart().await;
    }
    push_blob(&proxy, "o/a", layer).await.assert_status(201);
    proxy.restart().await;
    hub.forget();
    proxy.get(&layer.path("o/a")).await.assert_is(layer);
    hub.assert_not_asked();
}

/// containerd compares what HEAD says with what it is about to push, and skips the tag if it is so.
#[tokio::test(start_paused = true)]
async fn a_tag_is_revalidated_for_clients_that_may_push() {
    let hub = ScriptedRegistry::new();
    let (old, new) = (Image::random(1, &[10]), Image::random(2, &[10]));
    hub.put_image("o/a", "v1", &old);
    let proxy = open(&hub).await;
    proxy.pull("o/a", "v1", &old).await;
    // Another client moves it, not through Larder.
    hub.put_image("o/a", "v1", &new);

    proxy.get("/v2/o/a/manifests/v1").await.assert_is(&old.manifest.blob);
    let head = proxy.head("/v2/o/a/manifests/v1").await;
    assert_eq!(head.header("docker-content-digest"), Some(new.manifest.digest().as_str()));
}

/// A registry that takes no pushes has no client that would skip an upload.
#[tokio::test(start_paused = true)]
async fn without_pushes_a_cached_membership_answers_head() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image("o/a", "v1", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let proxy = setup.start().await;
    proxy.pull("o/a", "v1", &image).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    hub.forget();

    proxy.head("/v2/o/a/manifests/v1").await.assert_status(200);
    proxy.head(&image.manifest.path("o/a")).await.assert_status(200);
    proxy.head(&image.layers[0].path("o/a")).await.assert_status(200);
    hub.assert_not_asked();
}
