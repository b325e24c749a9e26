//! Bugs of other programs that must not be repeated here: those of `tests/lists/regressions.tsv`
//! that have no test elsewhere.

use http::Method;

use crate::support::proxy::files_under;
use crate::support::{Blob, Fault, Image, Manifest, Proxy, Reach, ScriptedRegistry, Setup};
use crate::support::{TAG_TTL, Version, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";

async fn warm() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[200_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    for blob in image.blobs() {
        proxy.until_stored(&blob.digest).await;
    }
    hub.forget();
    (hub, image, proxy)
}

/// distribution#2367, quay#5877: all that is known of a blob is worth nothing without the blob.
#[tokio::test(start_paused = true)]
async fn a_blob_whose_file_is_gone_is_fetched_again() {
    for is_restarted in [false, true] {
        let (hub, image, proxy) = warm().await;
        for path in files_under(&proxy.cache_dir().join("blobs")) {
            std::fs::remove_file(path).unwrap();
        }
        if is_restarted {
            proxy.restart().await;
        }

        for version in Version::ALL {
            let path = image.layers[0].path(REPOSITORY);
            proxy.client.try_get(version, &path).await.unwrap().assert_is(&image.layers[0]);
        }
        proxy.pull(REPOSITORY, "latest", &image).await;
        assert_eq!(hub.gets(&image.layers[0].digest).len(), 1);
    }
}

/// distribution#4381: a file that lost its content, as some file systems leave it after a loss of
/// power, is not served as a blob of no bytes, and does not stand in the way of the right one.
#[tokio::test(start_paused = true)]
async fn an_empty_file_is_no_blob() {
    let (hub, image, proxy) = warm().await;
    for path in files_under(&proxy.cache_dir().join("blobs")) {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
    }
    let empty = Blob::new("");
    hub.put_blob(REPOSITORY, &empty);
    proxy.restart().await;

    for _ in ["emptied", "healed"] {
        let path = image.layers[0].path(REPOSITORY);
        proxy.get(&path).await.assert_is(&image.layers[0]);
        proxy.until_stored(&image.layers[0].digest).await;
        let head = proxy.head(&path).await;
        assert_eq!(head.header("content-length"), Some("200000"));
        proxy.pull(REPOSITORY, "latest", &image).await;
        proxy.get(&empty.path(REPOSITORY)).await.assert_is(&empty);
    }
    assert_eq!(hub.gets(&image.layers[0].digest).len(), 1);
}

/// artifact-keeper#3488: many clients read as many bytes as were announced and look no further.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_at_the_length_has_the_blob() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 300_000);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;

    for _ in ["cold", "warm"] {
        let path = blob.path(REPOSITORY);
        let mut client = proxy.client.raw().get("1.1", &path, &[]).await.unwrap();
        client.read_until(blob.len(), 1000).await.unwrap();
        assert!(client.body() == blob.bytes);
        drop(client);
        proxy.until_stored(&blob.digest).await;
    }
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}

/// artifact-keeper#3206: what cannot change has no age.
#[tokio::test(start_paused = true)]
async fn cached_content_named_by_digest_is_never_revalidated() {
    let (hub, image, proxy) = warm().await;
    for _ in 0..3 {
        tokio::time::advance(TAG_TTL * 1000).await;
        proxy.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);
        for blob in image.blobs() {
            let reply = proxy.get(&blob.path(REPOSITORY)).await;
            reply.assert_is(blob);
            assert!(reply.decision().is_hit());
        }
    }
    hub.assert_not_asked();
}

/// docker-registry-proxy#88: Docker Hub counts GETs of manifests.
#[tokio::test(start_paused = true)]
async fn a_head_stays_a_head() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;

    for path in [LATEST, &image.manifest.path(REPOSITORY), &image.layers[0].path(REPOSITORY)] {
        proxy.head(path).await.assert_status(200);
    }

    let gets: Vec<_> = hub.gets("/v2/").iter().map(|asked| asked.target.clone()).collect();
    let of_blobs = gets.iter().filter(|target| target.contains("/blobs/")).count();
    assert_eq!(of_blobs, 0, "{gets:?}");
    assert!(hub.heads("/v2/").len() >= 2, "{:?}", hub.asked());
}

/// harbor#23570: the platform that was pulled must be there, and not its index alone.
#[tokio::test(start_paused = true)]
async fn an_index_and_what_was_pulled_of_it_are_there_in_an_outage() {
    let hub = ScriptedRegistry::new();
    let children = [1, 2, 3].map(|seed| Image::random(seed, &[1000]));
    let manifests: Vec<_> = children.iter().map(|child| &child.manifest).collect();
    let index = Manifest::index(&manifests);
    hub.put_tagged(REPOSITORY, "latest", &index);
    for child in &children {
        hub.put_manifest(REPOSITORY, &child.manifest);
        child.blobs().for_each(|blob| hub.put_blob(REPOSITORY, blob));
    }
    let proxy = Proxy::before(&hub).await;
    proxy.get(LATEST).await.assert_is(&index.blob);
    proxy.get(&children[1].manifest.path(REPOSITORY)).await.assert_is(&children[1].manifest.blob);
    for blob in children[1].blobs() {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
        proxy.until_stored(&blob.digest).await;
    }

    proxy.network.set(HOST, Reach::Down);
    proxy.restart().await;
    tokio::time::advance(TAG_TTL * 1000).await;

    proxy.get(LATEST).await.assert_is(&index.blob);
    proxy.get(&children[1].manifest.path(REPOSITORY)).await.assert_is(&children[1].manifest.blob);
    for blob in children[1].blobs() {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
}

/// nexus-public#1061: a `Location` is resolved against what was asked (RFC 9110, 10.2.2).
#[tokio::test(start_paused = true)]
async fn a_relative_location_is_followed() {
    let blob = Blob::random(1, 1000);
    let absolute = format!("/cdn/{REPOSITORY}/{}", blob.digest);
    let up = format!("../../../../cdn/{REPOSITORY}/{}", blob.digest);
    let same_scheme = format!("//{HOST}{absolute}");
    for location in [&absolute, &up, &same_scheme] {
        let hub = ScriptedRegistry::new();
        hub.put_blob(REPOSITORY, &blob);
        hub.breaks(When::asked("/blobs/"), Fault::RedirectTo(location.clone()));
        let proxy = Proxy::before(&hub).await;

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        assert_eq!(hub.gets("/cdn/").len(), 1, "{location}");
    }
}

/// nexus-public#1070: the name of a digest on disk does not leave the disk.
#[tokio::test(start_paused = true)]
async fn a_digest_is_written_upstream_as_it_is() {
    let (hub, image, proxy) = warm().await;
    proxy.restart().await;
    for path in files_under(&proxy.cache_dir().join("blobs")) {
        std::fs::remove_file(path).unwrap();
    }
    proxy.get(&image.layers[0].path("library/other")).await.error(404);
    proxy.pull(REPOSITORY, "latest", &image).await;

    let targets: Vec<_> = hub.asked().iter().map(|asked| asked.target.clone()).collect();
    assert!(!targets.is_empty());
    for target in targets {
        let last = target.rsplit('/').next().unwrap();
        assert!(last == "latest" || last.starts_with("sha256:"), "{target}");
    }
}

/// quay#5347: cached content needs no name, no address and no token.
#[tokio::test(start_paused = true)]
async fn cached_content_is_served_without_dns_and_without_a_login() {
    let (hub, image, proxy) = warm().await;
    proxy.network.unname(HOST);
    proxy.restart().await;
    let before = (proxy.network.lookups().len(), proxy.network.connections().len());

    proxy.pull(REPOSITORY, "latest", &image).await;
    proxy.get("/v2/").await.assert_status(200);
    proxy.head(&image.layers[0].path(REPOSITORY)).await.assert_status(200);

    assert_eq!((proxy.network.lookups().len(), proxy.network.connections().len()), before);
    hub.assert_not_asked();
}

/// nora#474: the same name elsewhere belongs to others (dependency confusion).
#[tokio::test(start_paused = true)]
async fn content_that_a_registry_lacks_is_not_looked_for_at_another() {
    let (hub, quay) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[1000]);
    quay.put_image("owner/app", "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("quay.io", &quay);
    let proxy = setup.start().await;

    for path in [
        "/v2/owner/app/manifests/latest",
        &image.manifest.path("owner/app"),
        &image.layers[0].path("owner/app"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            proxy.call(method, path).await.assert_status(404);
        }
    }
    proxy.get("/v2/owner/app/tags/list").await.assert_status(404);
    quay.assert_not_asked();
    assert!(!hub.asked().is_empty());
}

/// zot#2413: a start must not depend on how much is stored. Listing a directory leaves a trace: its
/// time of access.
#[tokio::test(start_paused = true)]
async fn a_start_looks_at_no_blob() {
    let (_hub, image, proxy) = warm().await;
    proxy.stop().await;
    let dir = proxy.cache_dir().join("blobs/sha256");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    let looked_at = || std::fs::metadata(&dir).unwrap().accessed().unwrap();
    let times = std::fs::FileTimes::new().set_accessed(long_ago);
    std::fs::File::open(&dir).unwrap().set_times(times).unwrap();

    proxy.start_again().await;

    assert_eq!(looked_at(), long_ago, "the start has listed the store");
    proxy.get(&image.layers[0].path(REPOSITORY)).await.assert_is(&image.layers[0]);
    std::fs::read_dir(&dir).unwrap().for_each(drop);
    if looked_at() == long_ago {
        eprintln!("skipped: the file system of {} notes no looks", dir.display());
    }
}
