//! Pushed content is in the cache, and content that it replaces is not.

use std::fs;

use http::Method;

use super::{begin, copies, location, open, patch, push_blob, push_image, put, put_manifest};
use crate::support::image::OCI_INDEX;
use crate::support::{Blob, Fault, Gate, Image, Manifest, Reach, ScriptedRegistry, Setup, When};

const HUB: &str = "registry-1.docker.io";

/// A node that pulls what CI has just pushed asks the registry for nothing.
#[tokio::test(start_paused = true)]
async fn pushed_content_is_pulled_from_the_cache() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10, 200_000]);
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "v1", &image).await;
    proxy.network.set(HUB, Reach::Down);
    hub.forget();

    for decision in proxy.pull("o/a", "v1", &image).await {
        assert!(decision.is_hit(), "{decision:?}");
    }
    proxy.get(&image.manifest.path("o/a")).await.assert_is(&image.manifest.blob);
    proxy.get("/v2/docker.io/o/a/manifests/v1").await.assert_is(&image.manifest.blob);
    hub.assert_not_asked();
    assert_eq!(copies(&proxy), 0);

    proxy.restart().await;
    proxy.pull("o/a", "v1", &image).await;
    hub.assert_not_asked();
}

/// distribution#3424: CI pushes `v1` again, and the nodes went on with the old one.
#[tokio::test(start_paused = true)]
async fn a_tag_that_is_pushed_again_is_the_new_one_at_once_at_every_door() {
    let hub = ScriptedRegistry::new();
    let (old, new) = (Image::random(1, &[10]), Image::random(2, &[20]));
    hub.put_image("o/a", "v1", &old);
    let proxy = open(&hub).await;
    let paths = [
        "/v2/o/a/manifests/v1",
        "/v2/docker.io/o/a/manifests/v1",
        "/docker.io/v2/o/a/manifests/v1",
        "/v2/o/a/manifests/v1?ns=docker.io",
    ];
    for path in paths {
        proxy.get(path).await.assert_is(&old.manifest.blob);
    }

    push_image(&proxy, "o/a", "v1", &new).await;

    for path in paths {
        let reply = proxy.get(path).await;
        reply.assert_is(&new.manifest.blob);
        assert!(reply.decision().is_hit());
    }
    proxy.get(&old.manifest.path("o/a")).await.assert_is(&old.manifest.blob);
}

/// A client asks whether it is there, is told no, and pushes it.
#[tokio::test(start_paused = true)]
async fn a_cached_404_ends_when_the_content_is_pushed() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    let proxy = open(&hub).await;
    proxy.get("/v2/o/a/manifests/v1").await.error(404);
    for blob in image.blobs() {
        proxy.head(&blob.path("o/a")).await.assert_status(404);
        proxy.get(&blob.path("o/a")).await.error(404);
    }

    push_image(&proxy, "o/a", "v1", &image).await;

    proxy.pull("o/a", "v1", &image).await;
    for blob in image.blobs() {
        let head = proxy.head(&blob.path("o/a")).await;
        head.assert_status(200);
        assert_eq!(head.header("content-length"), Some(blob.len().to_string().as_str()));
    }
}

/// A push takes nothing of the disk's trouble, and a copy that is missing costs a fetch.
#[tokio::test(start_paused = true)]
async fn a_blob_pushed_over_a_restart_is_fetched_when_it_is_pulled() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    let appended = patch(&proxy, &begun, &blob.bytes[..500]).await;

    proxy.restart().await;

    let appended = patch(&proxy, &location(&appended), &blob.bytes[500..]).await;
    put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);
    assert!(!proxy.has_stored(&blob.digest));
    assert_eq!(copies(&proxy), 0);
    let reply = proxy.get(&blob.path("o/a")).await;
    reply.assert_is(&blob);
    assert!(reply.decision().is_miss());
}

/// The upstream checks what it got, and so do we: nothing else enters the store.
#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_what_they_claim_are_refused_and_not_kept() {
    let hub = ScriptedRegistry::new();
    let (blob, other) = (Blob::random(1, 1000), Blob::random(2, 1000));
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    let appended = patch(&proxy, &begun, &other.bytes).await;

    let reply = put(&proxy, &location(&appended), &blob, &[]).await;

    assert_eq!(reply.error(400).0, "DIGEST_INVALID");
    proxy.until(|| copies(&proxy) == 0, "the copy is still there").await;
    assert!(proxy.stored().is_empty());
    proxy.get(&blob.path("o/a")).await.error(404);
}

/// The registry decides what it takes: a lie of its own is not kept here either.
#[tokio::test(start_paused = true)]
async fn a_registry_that_takes_wrong_bytes_does_not_spoil_the_store() {
    let hub = ScriptedRegistry::new();
    let (blob, other) = (Blob::random(1, 1000), Blob::random(2, 1000));
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    let appended = patch(&proxy, &begun, &other.bytes).await;
    let created = Fault::Status(201, Vec::new(), "");
    hub.breaks(When::asked("digest=").by("PUT"), created);

    put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);

    proxy.until(|| copies(&proxy) == 0, "the copy is still there").await;
    assert!(proxy.stored().is_empty());
}

/// Index, image, artifact: what a manifest is, is told by its type, which stays as it was pushed.
#[tokio::test(start_paused = true)]
async fn manifests_of_every_kind_keep_their_bytes_and_their_type() {
    let hub = ScriptedRegistry::new();
    hub.knows_referrers();
    let image = Image::random(1, &[10]);
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "v1", &image).await;
    let index = Manifest::index(&[&image.manifest]);
    let body = format!(
        "{{ \"schemaVersion\": 2,\n\"manifests\": [],  \"subject\": {{\"digest\": \"{}\"}} }}",
        image.manifest.digest()
    );
    let about = Manifest::raw(OCI_INDEX, body);

    put_manifest(&proxy, "o/a", "all", &index).await.assert_status(201);
    let by_digest = put_manifest(&proxy, "o/a", about.digest().as_str(), &about).await;
    by_digest.assert_status(201);
    assert_eq!(by_digest.header("oci-subject"), Some(image.manifest.digest().as_str()));
    assert_eq!(location(&by_digest), about.path("o/a"));
    assert_eq!(by_digest.header("docker-content-digest"), Some(about.digest().as_str()));

    hub.forget();
    for (path, manifest) in [("/v2/o/a/manifests/all", &index), (&*about.path("o/a"), &about)] {
        let reply = proxy.get(path).await;
        reply.assert_is(&manifest.blob);
        assert_eq!(reply.header("content-type"), Some(OCI_INDEX));
    }
    hub.assert_not_asked();
}

/// Several tags at once (distribution-spec main, end-7b): those are moved that the registry took.
#[tokio::test(start_paused = true)]
async fn tags_in_a_query_mean_what_was_pushed_if_the_registry_took_them() {
    let hub = ScriptedRegistry::new();
    let (old, new) = (Image::random(1, &[10]), Image::random(2, &[10]));
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "one", &old).await;
    for blob in new.blobs() {
        push_blob(&proxy, "o/a", blob).await.assert_status(201);
    }

    let path = format!("{}?tag=one&tag=two", new.manifest.path("o/a"));
    let media_type = [("content-type", new.manifest.media_type.as_str())];
    let body = new.manifest.blob.bytes.clone();
    let reply = proxy.client.send(Method::PUT, &path, &media_type, body).await;
    reply.assert_status(201);
    assert_eq!(reply.header("oci-tag"), Some("one, two"));

    hub.forget();
    for tag in ["one", "two"] {
        let reply = proxy.get(&format!("/v2/o/a/manifests/{tag}")).await;
        reply.assert_is(&new.manifest.blob);
    }
    hub.assert_not_asked();

    let many: Vec<_> = (0..65).map(|number| format!("tag=t{number}")).collect();
    let path = format!("{}?{}", new.manifest.path("o/a"), many.join("&"));
    let body = new.manifest.blob.bytes.clone();
    proxy.client.send(Method::PUT, &path, &media_type, body).await.error(400);
}

/// Two that push the same at once are both told that it is there.
#[tokio::test(start_paused = true)]
async fn two_clients_push_the_same_blob_and_tag_at_once() {
    let hub = ScriptedRegistry::new();
    let (one, other) = (Image::random(1, &[200_000]), Image::random(1, &[200_000]));
    let proxy = open(&hub).await;

    tokio::join!(
        push_image(&proxy, "o/a", "v1", &one),
        push_image(&proxy, "o/a", "v1", &other),
        push_image(&proxy, "o/b", "v1", &other),
    );

    assert_eq!(copies(&proxy), 0);
    proxy.network.set(HUB, Reach::Down);
    for repository in ["o/a", "o/b"] {
        proxy.pull(repository, "v1", &one).await;
    }
}

/// Mirrors have no part in pushes, which go to the registry itself.
#[tokio::test(start_paused = true)]
async fn pushes_go_to_the_registry_itself_and_to_no_mirror() {
    let (hub, mirror) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let mut setup = Setup::new();
    setup.network.put("mirror.test", 80, mirror.clone());
    let options = setup.registry("docker.io", &hub);
    options.rules.push = true;
    let upstream = larder::upstream::UpstreamOptions {
        url: "http://mirror.test".parse().unwrap(),
        ..options.upstream.clone()
    };
    options.mirrors = vec![upstream];
    let proxy = setup.start().await;
    let image = Image::random(1, &[10]);

    push_image(&proxy, "o/a", "v1", &image).await;
    for blob in image.blobs() {
        proxy.head(&blob.path("o/a")).await.assert_status(200);
    }

    mirror.assert_not_asked();
    assert!(hub.tagged("o/a", "v1").is_some());

    // Nor is it asked when the registry cannot be: its word would not do.
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    proxy.network.set(HUB, Reach::Down);
    for path in [&*image.layers[0].path("o/a"), &*image.manifest.path("o/a")] {
        proxy.head(path).await.assert_status(502);
    }
    mirror.assert_not_asked();
}

/// The registry took the one before the other, and answered to them the other way round: the order
/// of its answers does not tell what the tag means.
#[tokio::test(start_paused = true)]
async fn two_pushes_of_a_tag_that_overlap_leave_what_the_registry_has() {
    let hub = ScriptedRegistry::new();
    let (first, last) = (Image::random(1, &[10]), Image::random(2, &[20]));
    let proxy = open(&hub).await;
    for image in [&first, &last] {
        for blob in image.blobs() {
            push_blob(&proxy, "o/a", blob).await.assert_status(201);
        }
    }
    let gate = Gate::new();
    let puts = When::asked("/manifests/v1").by("PUT").first(1);
    hub.breaks(puts, Fault::HoldHeaders(gate.clone()));
    let (client, manifest) = (proxy.client.clone(), first.manifest.clone());
    let early = tokio::spawn(async move {
        let media_type = [("content-type", manifest.media_type.as_str())];
        let body = manifest.blob.bytes.clone();
        client.send(Method::PUT, "/v2/o/a/manifests/v1", &media_type, body).await
    });
    gate.reached().await;

    put_manifest(&proxy, "o/a", "v1", &last.manifest).await.assert_status(201);
    proxy.get("/v2/o/a/manifests/v1").await.assert_is(&last.manifest.blob);
    gate.open();
    early.await.unwrap().assert_status(201);

    proxy.get("/v2/o/a/manifests/v1").await.assert_is(&last.manifest.blob);
    proxy.get("/v2/docker.io/o/a/manifests/v1").await.assert_is(&last.manifest.blob);
}

/// A power cut may bring back what a record was before an acknowledged push or delete: the disk had
/// not kept its new name yet.
#[tokio::test(start_paused = true)]
async fn what_a_power_cut_brings_back_is_asked_about_before_it_is_a_hit() {
    let hub = ScriptedRegistry::new();
    let (old, new) = (Image::random(1, &[10]), Image::random(2, &[20]));
    let proxy = open(&hub).await;
    push_image(&proxy, "o/a", "v1", &old).await;
    let record = proxy.cache_dir().join("registries/docker.io/o/a/_tags/v1");
    let before = fs::read(&record).unwrap();
    push_image(&proxy, "o/a", "v1", &new).await;
    for is_up in [true, false] {
        fs::write(&record, &before).unwrap();
        proxy.reboot().await;
        proxy.network.set(HUB, if is_up { Reach::Up } else { Reach::Down });
        let reply = proxy.get("/v2/o/a/manifests/v1").await;

        reply.assert_is(if is_up { &new.manifest.blob } else { &old.manifest.blob });
        assert!(is_up || reply.decision().is_stale(), "{:?}", reply.decision());
        assert!(!reply.decision().is_hit() || reply.decision().is_stale());
    }
}
