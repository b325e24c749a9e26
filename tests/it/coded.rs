//! `Content-Encoding` from upstream: the digest decides, and clients get the bytes plainly.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Fault, Image, Proxy, ScriptedRegistry, When};

const REPOSITORY: &str = "library/alpine";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Answers requests for `needle` with these bytes under this label.
fn labelled(hub: &ScriptedRegistry, needle: &str, media_type: &str, label: &str, bytes: &[u8]) {
    let length = bytes.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Encoding: {label}\r\n\
         Content-Length: {length}"
    );
    hub.breaks(When::asked(needle).get(), Fault::raw(&head, bytes));
}

/// Object stores and web servers label layers for what is in them.
#[tokio::test(start_paused = true)]
async fn a_layer_is_served_and_kept_whatever_its_label() {
    for label in
        ["gzip", "x-gzip", "aws-chunked", "binary", "utf-8", "none", "", "identity", "zstd"]
    {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[300_000]);
        hub.put_image(REPOSITORY, "latest", &image);
        let layer = &image.layers[0];
        labelled(&hub, layer.digest.as_str(), "application/octet-stream", label, &layer.bytes);
        let proxy = Proxy::before(&hub).await;

        for reply in
            [proxy.get(&layer.path(REPOSITORY)).await, proxy.get(&layer.path(REPOSITORY)).await]
        {
            reply.assert_is(layer);
            assert_eq!(reply.header("content-encoding"), None, "{label:?}");
        }
        assert_eq!(hub.gets(layer.digest.as_str()).len(), 1, "{label:?}: it was kept");
    }
}

/// A layer that a gateway has really compressed is not the layer.
#[tokio::test(start_paused = true)]
async fn a_layer_that_was_compressed_on_the_way_is_never_served_whole() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[300_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let layer = &image.layers[0];
    let bytes = gzip(&layer.bytes);
    labelled(&hub, layer.digest.as_str(), "application/octet-stream", "gzip", &bytes);
    let proxy = Proxy::before(&hub).await;

    let reply = proxy.get(&layer.path(REPOSITORY)).await;

    assert!(reply.status != 200 || !reply.is_complete(), "{}", reply.status);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_a_gateway_compressed_is_served_as_its_digest_says() {
    let image = Image::random(1, &[10]);
    let other = Image::random(2, &[10]);
    let manifest = &image.manifest;
    let (plain, wrong) = (manifest.blob.bytes.to_vec(), gzip(&other.manifest.blob.bytes));
    for (name, label, bytes, is_right) in [
        ("compressed", "gzip", gzip(&plain), true),
        ("compressed, by its old name", "x-gzip", gzip(&plain), true),
        ("labelled alone", "gzip", plain.clone(), true),
        ("labelled for nothing", "aws-chunked", plain.clone(), true),
        ("another's", "gzip", wrong, false),
        ("not labelled", "identity", gzip(&plain), false),
        ("otherwise compressed", "br", plain.clone(), false),
    ] {
        for reference in [manifest.digest().to_string(), "latest".to_owned()] {
            // By tag, what comes is what the tag means, whichever image that is.
            if name == "another's" && reference == "latest" {
                continue;
            }
            let hub = ScriptedRegistry::new();
            hub.put_image(REPOSITORY, "latest", &image);
            labelled(&hub, "/manifests/", &manifest.media_type, label, &bytes);
            let proxy = Proxy::before(&hub).await;
            let path = format!("/v2/{REPOSITORY}/manifests/{reference}");

            let reply = proxy.get(&path).await;

            if is_right {
                reply.assert_is(&manifest.blob);
                assert_eq!(reply.header("content-encoding"), None, "{name}");
                assert!(proxy.get(&path).await.decision().is_hit(), "{name}");
            } else {
                assert_eq!(reply.status, 502, "{name}, {reference}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_a_gateway_compressed_is_served_plainly() {
    let tags = br#"{"name":"library/alpine","tags":["3.20","latest"]}"#;
    for (label, bytes) in [("gzip", gzip(tags)), ("gzip", tags.to_vec()), ("none", tags.to_vec())] {
        let hub = ScriptedRegistry::new();
        labelled(&hub, "/tags/list", "application/json", label, &bytes);
        let proxy = Proxy::before(&hub).await;

        let reply = proxy.get("/v2/library/alpine/tags/list").await;

        reply.assert_status(200);
        assert_eq!(reply.text().as_bytes(), tags, "{label}");
        assert_eq!(reply.header("content-encoding"), None);
    }
}
