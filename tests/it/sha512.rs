//! Content named by SHA-512, at each place where a digest is read, written or compared.

use crate::support::image::{OCI_IMAGE, OCI_INDEX};
use crate::support::{Blob, Fault, Manifest, Place, Proxy, Reach, ScriptedRegistry, Version};
use crate::support::{TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";
const LEN: usize = 300_000;

/// An image all of whose names are of SHA-512.
struct Image {
    manifest: Manifest,
    layer: Blob,
}

fn image() -> Image {
    let layer = Blob::random(1, LEN).by_sha512();
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","layers":[{{"digest":"{}","size":{LEN}}}]}}"#,
        layer.digest
    );
    let blob = Blob::new(body).by_sha512();
    Image { manifest: Manifest { media_type: OCI_IMAGE.to_owned(), blob }, layer }
}

async fn mirrored() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = image();
    hub.put_tagged(REPOSITORY, "latest", &image.manifest);
    hub.put_blob(REPOSITORY, &image.layer);
    let proxy = Proxy::before(&hub).await;
    (hub, image, proxy)
}

/// Pulls by tag as a client does: the tag, the manifest by the digest it was told, and the layer.
async fn pull(proxy: &Proxy, image: &Image) {
    let tag = proxy.get(LATEST).await;
    tag.assert_is(&image.manifest.blob);
    let told = tag.header("docker-content-digest").unwrap().to_owned();
    assert_eq!(told, image.manifest.digest().as_str());
    let manifest = proxy.get(&format!("/v2/{REPOSITORY}/manifests/{told}")).await;
    manifest.assert_is(&image.manifest.blob);
    let layer = proxy.get(&image.layer.path(REPOSITORY)).await;
    layer.assert_is(&image.layer);
    let etag = format!("\"{}\"", image.layer.digest);
    assert_eq!(layer.header("etag"), Some(etag.as_str()));
}

/// A tag may mean a manifest of either algorithm. The upstream's digest is reported and kept.
#[tokio::test(start_paused = true)]
async fn a_tag_may_mean_a_sha512_digest() {
    let (hub, image, proxy) = mirrored().await;
    pull(&proxy, &image).await;
    proxy.until_stored(&image.layer.digest).await;
    assert_eq!(hub.gets("/manifests/").len(), 1, "{:?}", hub.asked());
    hub.forget();

    // Warm, after the TTL, stale, and after a restart.
    pull(&proxy, &image).await;
    hub.assert_not_asked();
    tokio::time::advance(TAG_TTL * 2).await;
    pull(&proxy, &image).await;
    assert_eq!((hub.asked().len(), hub.heads("latest").len()), (1, 1));
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.network.set(HOST, Reach::Down);
    proxy.restart().await;
    pull(&proxy, &image).await;
}

/// A blob that a manifest names is in its repository, and is asked for by that digest.
#[tokio::test(start_paused = true)]
async fn membership_knows_sha512() {
    let (hub, image, proxy) = mirrored().await;
    pull(&proxy, &image).await;
    proxy.until_stored(&image.layer.digest).await;
    hub.forget();

    proxy.get(&image.layer.path("library/other")).await.error(404);
    proxy.get(&image.manifest.path("library/other")).await.error(404);
    assert!(!hub.asked().is_empty());
    let head = proxy.head(&image.layer.path(REPOSITORY)).await;
    head.assert_status(200);
    assert_eq!(head.header("docker-content-digest"), Some(image.layer.digest.as_str()));
}

/// The same bytes by their other name are another blob, to be asked for by that name.
#[tokio::test(start_paused = true)]
async fn the_two_names_of_one_content_are_two() {
    let (hub, image, proxy) = mirrored().await;
    let other = Blob::new(image.layer.bytes.clone());
    proxy.get(&other.path(REPOSITORY)).await.error(404);
    hub.put_blob(REPOSITORY, &other);

    proxy.get(&image.layer.path(REPOSITORY)).await.assert_is(&image.layer);
    proxy.get(&other.path(REPOSITORY)).await.assert_is(&other);

    assert_eq!(hub.gets(&other.digest).len(), 2);
    assert_eq!(hub.gets(&image.layer.digest).len(), 1);
    proxy.until_stored(&other.digest).await;
    proxy.until_stored(&image.layer.digest).await;
}

/// Resumed and parted, it is the same.
#[tokio::test(start_paused = true)]
async fn a_sha512_blob_is_resumed_and_served_in_parts() {
    let (hub, image, proxy) = mirrored().await;
    hub.breaks(When::asked(&image.layer.digest).nth(1), Fault::CutAt(LEN / 2));
    let path = image.layer.path(REPOSITORY);

    proxy.get(&path).await.assert_is(&image.layer);

    assert_eq!(hub.gets(&image.layer.digest)[1].header("range"), Some("bytes=150000-"));
    let part = proxy.get_with(&path, &[("range", "bytes=100000-200000")]).await;
    part.assert_status(206);
    assert!(part.body == image.layer.bytes[100_000..=200_000]);
}

/// And what is wrong is wrong.
#[tokio::test(start_paused = true)]
async fn wrong_bytes_under_a_sha512_digest_are_never_served_whole() {
    for fault in [Fault::FlipByte(Place::First), Fault::FlipByte(Place::Last), Fault::Truncated(1)]
    {
        for version in Version::ALL {
            let (hub, image, proxy) = mirrored().await;
            hub.breaks(When::asked("/v2/").get(), fault.clone());

            let layer = proxy.client.try_get(version, &image.layer.path(REPOSITORY)).await;
            assert!(!layer.is_ok_and(|reply| reply.status == 200 && reply.is_complete()));
            let manifest = proxy.client.try_get(version, &image.manifest.path(REPOSITORY)).await;
            assert_eq!(manifest.unwrap().status, 502, "{fault:?}");
            assert_eq!(proxy.stored(), [""; 0]);
        }
    }
}

/// Signatures of an image of that name are found by it.
#[tokio::test(start_paused = true)]
async fn referrers_of_a_sha512_subject_are_its_own() {
    let (hub, image, proxy) = mirrored().await;
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {OCI_INDEX}\r\nContent-Length: {}", index.len());
    let digest = image.manifest.digest();
    hub.breaks(When::asked(format!("/referrers/{digest}")), Fault::raw(&head, index.as_bytes()));
    let path = format!("/v2/{REPOSITORY}/referrers/{digest}");

    for _ in ["cold", "warm"] {
        let reply = proxy.get(&path).await;
        reply.assert_status(200);
        assert_eq!(reply.text(), index);
    }
    assert_eq!(hub.gets("/referrers/").len(), 1);
    let other = Blob::new(image.manifest.blob.bytes.clone()).digest;
    proxy.get(&format!("/v2/{REPOSITORY}/referrers/{other}")).await.error(404);
}
