//! Cold and warm pulls: what a client gets, what the upstream is asked, and what stays on disk.

use std::collections::BTreeMap;

use crate::support::{Blob, Decision, Fault, Gate, Image, Manifest, Proxy, Reply};
use crate::support::{ScriptedRegistry, TAG_TTL, When, settle};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

/// A registry with one image, and a mirror in front of it.
async fn mirrored() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[300_000, 70_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    (hub, image, proxy)
}

/// The product in one sentence: what is missing is fetched once, checked, and kept.
#[tokio::test(start_paused = true)]
async fn a_cold_pull_fetches_each_thing_once_and_keeps_it() {
    let (hub, image, proxy) = mirrored().await;

    let decisions = proxy.pull(REPOSITORY, "latest", &image).await;

    assert!(decisions.iter().all(Decision::is_miss), "{decisions:?}");
    for blob in image.blobs() {
        assert_eq!(hub.gets(&blob.digest).len(), 1, "GETs of {blob:?}");
        assert_eq!(hub.body_bytes(&blob.digest), blob.len() as u64, "bytes of {blob:?}");
        proxy.until_stored(&blob.digest).await;
    }
    assert_eq!(hub.gets("/manifests/").len(), 1, "a GET costs a pull on Docker Hub");
    assert!(proxy.has_stored(image.manifest.digest()));
    assert_eq!(proxy.fills(), [0_u64; 0], "nothing half is left");
}

/// No ping, login, look-up or connection for what the cache can answer: this is the bandwidth,
/// the rate limit and the air gap.
#[tokio::test(start_paused = true)]
async fn a_warm_pull_asks_the_upstream_nothing() {
    let (hub, image, proxy) = mirrored().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    for blob in image.blobs() {
        proxy.until_stored(&blob.digest).await;
    }
    hub.forget();
    let before = (proxy.network.connections().len(), proxy.network.lookups().len());

    let decisions = proxy.pull(REPOSITORY, "latest", &image).await;
    let by_digest = proxy.get(&image.manifest.path(REPOSITORY)).await;
    let head = proxy.head(LATEST).await;

    hub.assert_not_asked();
    assert!(decisions.iter().all(Decision::is_hit), "{decisions:?}");
    by_digest.assert_is(&image.manifest.blob);
    assert!(by_digest.decision().is_hit() && head.decision().is_hit());
    let after = (proxy.network.connections().len(), proxy.network.lookups().len());
    assert_eq!(before, after, "connections and look-ups");
}

/// A CI fleet asks for the same tag at the same second; Docker Hub counts each of them.
#[tokio::test(start_paused = true)]
async fn after_its_ttl_a_tag_costs_one_head_for_fifty_clients() {
    let (hub, image, proxy) = mirrored().await;
    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    tokio::time::advance(TAG_TTL * 2).await;
    hub.forget();
    let gate = Gate::new();
    hub.breaks(When::asked("manifests/latest"), Fault::HoldHeaders(gate.clone()));

    let clients = proxy.get_often(LATEST, 50);
    gate.reached().await;
    settle().await;
    gate.open();
    let replies = clients.join_all().await;

    assert_eq!(replies.len(), 50);
    for reply in &replies {
        reply.assert_is(&image.manifest.blob);
        assert_eq!(reply.decision().get("fwd"), Some("stale"), "{:?}", reply.decision());
    }
    assert_eq!(hub.heads("manifests/latest").len(), 1);
    assert_eq!(hub.asked().len(), 1, "the HEAD and nothing else");
    proxy.get(LATEST).await;
    assert_eq!(hub.asked().len(), 1, "the record is fresh again");
}

/// A moved tag must be seen after its TTL, and must cost one GET, by digest.
#[tokio::test(start_paused = true)]
async fn a_tag_that_moved_is_fetched_by_its_new_digest() {
    let (hub, old, proxy) = mirrored().await;
    proxy.get(LATEST).await.assert_is(&old.manifest.blob);
    let new = Image::random(2, &[1000]);
    hub.put_image(REPOSITORY, "latest", &new);

    proxy.get(LATEST).await.assert_is(&old.manifest.blob);
    tokio::time::advance(TAG_TTL * 2).await;
    hub.forget();
    let moved = proxy.get(LATEST).await;

    moved.assert_is(&new.manifest.blob);
    assert_eq!(moved.header("docker-content-digest"), Some(new.manifest.digest().as_str()));
    assert_eq!(hub.heads("manifests/latest").len(), 1);
    assert_eq!(hub.gets(new.manifest.digest()).len(), 1);
    assert_eq!(hub.asked().len(), 2);
    proxy.get(&old.manifest.path(REPOSITORY)).await.assert_is(&old.manifest.blob);
    assert_eq!(hub.asked().len(), 2, "the old digest is still what it was");
}

/// Some registries know no HEAD, others do not say the digest: then one GET must do.
#[tokio::test(start_paused = true)]
async fn a_tag_without_a_usable_head_costs_one_get() {
    for fault in [Fault::HeadNotAllowed, Fault::status(501), Fault::NoDigestHeader] {
        let (hub, image, proxy) = mirrored().await;
        hub.breaks(When::asked("manifests/latest").head(), fault.clone());

        let cold = proxy.get(LATEST).await;
        let warm = proxy.get(LATEST).await;

        cold.assert_is(&image.manifest.blob);
        assert_eq!(cold.header("docker-content-digest"), Some(image.manifest.digest().as_str()));
        warm.assert_is(&image.manifest.blob);
        assert!(warm.decision().is_hit(), "{fault:?}");
        assert_eq!(hub.gets("manifests/").len(), 1, "{fault:?}");
    }
}

/// Clients size buffers and compare digests by HEAD; containerd falls back to a GET when one
/// of these headers is missing, and dockerd gives up.
#[tokio::test(start_paused = true)]
async fn head_says_what_get_says() {
    let (_hub, image, proxy) = mirrored().await;
    let layer = &image.layers[0];
    let digest = layer.digest.to_string();
    for path in [LATEST.to_owned(), image.manifest.path(REPOSITORY), layer.path(REPOSITORY)] {
        proxy.get(&path).await.assert_status(200);
        settle().await;

        let (get, head) = (proxy.get(&path).await, proxy.head(&path).await);

        assert_eq!(stable_headers(&head), stable_headers(&get), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
        assert!(head.body.is_empty() && !head.headers.contains_key("transfer-encoding"));
    }
    let headers = stable_headers(&proxy.head(&layer.path(REPOSITORY)).await);
    let says = |name: &str, value: &str| headers.get(name).is_some_and(|have| have == value);
    assert!(says("docker-content-digest", &digest), "{headers:?}");
    assert!(says("etag", &format!("\"{digest}\"")), "{headers:?}");
    assert!(says("accept-ranges", "bytes"), "{headers:?}");
    assert!(says("content-type", "application/octet-stream"), "{headers:?}");
    assert!(headers["cache-control"].contains("immutable"), "{headers:?}");
    assert!(!headers.contains_key("content-encoding"), "{headers:?}");
}

/// The headers that must be equal between HEAD and GET.
fn stable_headers(reply: &Reply) -> BTreeMap<String, String> {
    let unstable = ["date", "age", "cache-status", "x-request-id"];
    let headers = reply.headers.iter();
    let headers = headers.filter(|(name, _)| !unstable.contains(&name.as_str()));
    headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

/// Chained proxies and pushing clients ask by HEAD; answering from an empty cache would lie.
#[tokio::test(start_paused = true)]
async fn a_head_of_a_cold_blob_is_the_upstreams_answer() {
    let (hub, image, proxy) = mirrored().await;
    let (there, absent) = (&image.layers[0], Blob::random(9, 10));

    let found = proxy.head(&there.path(REPOSITORY)).await;
    let missing = proxy.head(&absent.path(REPOSITORY)).await;

    found.assert_status(200);
    assert_eq!(found.header("content-length"), Some(there.len().to_string().as_str()));
    assert_eq!(found.header("docker-content-digest"), Some(there.digest.as_str()));
    assert!(!found.decision().is_hit());
    missing.assert_status(404);
    assert_eq!((hub.heads(&there.digest).len(), hub.heads(&absent.digest).len()), (1, 1));
    assert_eq!(hub.gets("/blobs/").len(), 0, "a HEAD downloads nothing");
    assert_eq!(proxy.stored(), [""; 0]);
}

/// A cold HEAD of a tag must carry the three headers that clients need.
#[tokio::test(start_paused = true)]
async fn a_head_of_a_cold_tag_says_type_length_and_digest() {
    let (_hub, image, proxy) = mirrored().await;

    let head = proxy.head(LATEST).await;

    head.assert_status(200);
    assert_eq!(head.header("content-type"), Some(image.manifest.media_type.as_str()));
    let length = image.manifest.blob.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    assert_eq!(head.header("docker-content-digest"), Some(image.manifest.digest().as_str()));
}

/// The specification registers two algorithms; content of either is stored under its own name.
#[tokio::test(start_paused = true)]
async fn content_named_by_sha512_is_cached_too() {
    let (hub, _image, proxy) = mirrored().await;
    let blob = Blob::random(5, 100_000).by_sha512();
    let manifest = Manifest { blob: Blob::new("{\"a\": 1}").by_sha512(), ..Manifest::index(&[]) };
    hub.put_blob(REPOSITORY, &blob);
    hub.put_manifest(REPOSITORY, &manifest);

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.get(&manifest.path(REPOSITORY)).await.assert_is(&manifest.blob);
    proxy.until_stored(&blob.digest).await;
    hub.forget();

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.get(&manifest.path(REPOSITORY)).await.assert_is(&manifest.blob);
    hub.assert_not_asked();
}

/// `/v2/` is how every client begins; it asks about us, not about the upstream.
#[tokio::test(start_paused = true)]
async fn the_ping_is_answered_without_the_upstream() {
    let (hub, _image, proxy) = mirrored().await;

    for path in ["/v2/", "/v2"] {
        let ping = proxy.get(path).await;

        ping.assert_status(200);
        assert!(!ping.headers.contains_key("x-registry-supports-signatures"));
        assert!(!ping.headers.contains_key("www-authenticate"));
    }
    hub.assert_not_asked();
}

/// Some load balancers can ask for `/` alone.
#[tokio::test]
async fn the_root_is_200_for_health_checks() {
    let (hub, _image, proxy) = mirrored().await;

    for path in ["/", "/?probe=1"] {
        proxy.get(path).await.assert_status(200);
        proxy.head(path).await.assert_status(200);
    }
    for path in ["//", "/index.html", "/v1/"] {
        proxy.get(path).await.assert_status(404);
    }
    hub.assert_not_asked();
}
