//! The cache never lies about a repository: what it has from one is no news of another.

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

use crate::support::{Blob, Fault, Gate, Image, Manifest, Proxy, Reach, ScriptedRegistry};
use crate::support::{Setup, When};

const OWNER: &str = "library/owner";
const OTHER: &str = "library/other";

/// A mirror that holds an image of one repository, before a registry that has another, empty.
async fn warm() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(OWNER, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(OWNER, "latest", &image).await;
    for blob in image.blobs() {
        proxy.until_stored(&blob.digest).await;
    }
    hub.forget();
    (hub, image, proxy)
}

/// The disk never fails a pull, also where it does not even say no: a note that never comes to be.
#[tokio::test]
async fn a_disk_that_hangs_while_a_membership_is_written_delays_no_blob() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 300_000);
    hub.put_blob(OWNER, &blob);
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest).get(), Fault::HoldHeaders(gate.clone()));
    let proxy = Proxy::before(&hub).await;
    let reply = tokio::spawn(proxy.client.get(&blob.path(OWNER)));
    gate.reached().await;
    // To open a pipe for writing is to wait for who reads from it.
    let repository = proxy.cache_dir().join("registries/docker.io").join(OWNER);
    std::fs::create_dir_all(&repository).unwrap();
    let note = repository.join("_blobs");
    mknodat(CWD, &note, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();

    gate.open();
    let reply = tokio::time::timeout(std::time::Duration::from_secs(20), reply).await;

    // Threads that wait for it would keep the test from its end.
    let _reader = open(&note, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    reply.expect("the note is waited for a moment").unwrap().assert_is(&blob);
}

/// Knowing a digest is no right to it: private layers must not leak through a public name.
#[tokio::test(start_paused = true)]
async fn a_cached_blob_is_denied_where_the_upstream_denies_it() {
    let (hub, image, proxy) = warm().await;
    let blob = &image.layers[0];

    let get = proxy.get(&blob.path(OTHER)).await;
    let head = proxy.head(&blob.path(OTHER)).await;
    let part = proxy.get_with(&blob.path(OTHER), &[("range", "bytes=0-9")]).await;

    assert_eq!(get.error(404).0, "BLOB_UNKNOWN");
    head.assert_status(404);
    part.assert_status(404);
    assert!(!hub.asked().is_empty(), "the upstream was asked");
    assert!(hub.asked().iter().all(|asked| asked.path() == blob.path(OTHER)));
    assert!(hub.asked().iter().all(|asked| asked.status() == 404));
}

/// Asking costs a HEAD; fetching again what is here would cost the layer.
#[tokio::test(start_paused = true)]
async fn a_cached_blob_that_the_upstream_confirms_is_not_fetched_again() {
    let (hub, image, proxy) = warm().await;
    let blob = &image.layers[0];
    hub.put_blob(OTHER, blob);

    let first = proxy.get(&blob.path(OTHER)).await;
    let second = proxy.get(&blob.path(OTHER)).await;

    first.assert_is(blob);
    second.assert_is(blob);
    assert_eq!(hub.gets(&blob.digest).len(), 0, "no GET of what is here");
    assert_eq!(hub.heads(&blob.digest).len(), 1, "asked once, then known");
}

/// The same holds for manifests by digest.
#[tokio::test(start_paused = true)]
async fn a_cached_manifest_is_asked_for_in_each_repository() {
    let (hub, image, proxy) = warm().await;

    let denied = proxy.get(&image.manifest.path(OTHER)).await;
    assert_eq!(denied.error(404).0, "MANIFEST_UNKNOWN");
    assert_eq!(hub.asked().len(), 1);
    hub.put_manifest(OTHER, &image.manifest);
    hub.forget();
    proxy.get(&image.manifest.path(OTHER)).await.assert_is(&image.manifest.blob);

    assert_eq!(hub.gets("/manifests/").len(), 0, "a GET would cost a pull for what is here");
    assert_eq!(hub.heads("/manifests/").len(), 1);
}

/// A fill that ends while another repository's client is on its way must not open a side door.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fill_of_one_repository_serves_no_other_at_any_moment() {
    for round in 0..40 {
        let hub = ScriptedRegistry::new();
        let blob = Blob::random(round, 300_000);
        hub.put_blob(OWNER, &blob);
        let gate = Gate::new();
        hub.breaks(When::asked(&blob.digest).get(), Fault::HoldAt(299_999, gate.clone()));
        let proxy = Proxy::before(&hub).await;
        let owners = proxy.get_often(&blob.path(OWNER), 3);
        gate.reached().await;

        gate.open();
        let mut others = tokio::task::JoinSet::new();
        for _ in 0..60 {
            others.spawn(proxy.client.get(&blob.path(OTHER)));
            tokio::task::yield_now().await;
        }

        for reply in others.join_all().await {
            assert_eq!(reply.status, 404, "round {round}: {:?}", reply.headers);
        }
        for reply in owners.join_all().await {
            reply.assert_is(&blob);
        }
    }
}

/// A manifest vouches for what it lists, in its own repository: no question per layer.
#[tokio::test(start_paused = true)]
async fn blobs_that_a_manifest_lists_belong_to_its_repository() {
    let (hub, image, proxy) = warm().await;
    hub.put_tagged(OTHER, "copy", &image.manifest);
    proxy.get("/v2/library/other/manifests/copy").await.assert_is(&image.manifest.blob);
    hub.forget();

    let layer = proxy.get(&image.layers[0].path(OTHER)).await;

    layer.assert_is(&image.layers[0]);
    assert!(layer.decision().is_hit());
    hub.assert_not_asked();
}

/// An index vouches for its children, and they for their layers.
#[tokio::test(start_paused = true)]
async fn manifests_that_an_index_lists_belong_to_its_repository() {
    let (hub, image, proxy) = warm().await;
    let index = Manifest::index(&[&image.manifest]);
    hub.put_tagged(OTHER, "multi", &index);
    proxy.get("/v2/library/other/manifests/multi").await.assert_is(&index.blob);
    hub.forget();

    proxy.get(&image.manifest.path(OTHER)).await.assert_is(&image.manifest.blob);
    proxy.get(&image.layers[0].path(OTHER)).await.assert_is(&image.layers[0]);

    hub.assert_not_asked();
}

/// A manifest is also content: by the blob path it is there only if the repository says so.
#[tokio::test(start_paused = true)]
async fn a_manifests_digest_is_no_blob_unless_the_upstream_says_so() {
    let (hub, image, proxy) = warm().await;
    let path = image.manifest.blob.path(OTHER);

    proxy.get(&path).await.assert_status(404);

    assert!(!hub.asked().is_empty());
}

/// Two registries share bytes, never knowledge.
#[tokio::test(start_paused = true)]
async fn membership_at_one_registry_counts_for_no_other() {
    let (hub, quay) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let blob = Blob::random(1, 1000);
    hub.put_blob("library/a", &blob);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("quay.io", &quay);
    let proxy = setup.start().await;
    proxy.get(&blob.path("library/a")).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;

    let denied = proxy.get(&blob.path("quay.io/library/a")).await;
    assert_eq!(denied.error(404).0, "BLOB_UNKNOWN");
    quay.put_blob("library/a", &blob);
    proxy.get(&blob.path("quay.io/library/a")).await.assert_is(&blob);

    let fetched = quay.gets(&blob.digest);
    assert!(fetched.iter().all(|get| get.status() == 404), "the bytes were here already");
}

/// Without an upstream to ask, a membership in another repository is still none in this one.
#[tokio::test(start_paused = true)]
async fn without_an_upstream_nothing_is_guessed() {
    let (_hub, image, proxy) = warm().await;
    proxy.network.set("registry-1.docker.io", Reach::Down);

    proxy.get(&image.layers[0].path(OTHER)).await.error(502);
    proxy.get(&image.manifest.path(OTHER)).await.error(502);
    proxy.get(&image.layers[0].path(OWNER)).await.assert_is(&image.layers[0]);
}

/// Memberships are kept: a restart must not cost a question per layer.
#[tokio::test(start_paused = true)]
async fn memberships_survive_a_restart() {
    let (hub, image, proxy) = warm().await;
    let alone = Blob::random(7, 1000);
    hub.put_blob(OWNER, &alone);
    proxy.get(&alone.path(OWNER)).await.assert_is(&alone);
    proxy.until_stored(&alone.digest).await;

    proxy.restart().await;
    hub.forget();

    proxy.pull(OWNER, "latest", &image).await;
    proxy.get(&alone.path(OWNER)).await.assert_is(&alone);
    hub.assert_not_asked();
}
