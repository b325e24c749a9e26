//! Blobs: every way to upload one, and what clients are told of it.

use bytes::Bytes;
use http::Method;

use super::{begin, location, open, patch, post, push_blob, push_image, put, put_manifest};
use crate::support::{Blob, Image, Proxy, ScriptedRegistry, Version};

#[tokio::test(start_paused = true)]
async fn pushed_content_is_stored_by_the_upstream() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10, 200_000]);
    let proxy = open(&hub).await;

    push_image(&proxy, "o/a", "v1", &image).await;

    for blob in image.blobs() {
        assert_eq!(hub.blob("o/a", &blob.digest).as_ref(), Some(&blob.bytes), "{blob:?}");
    }
    assert_eq!(hub.tagged("o/a", "v1"), Some(image.manifest.digest().to_string()));
    assert_eq!(hub.uploads(), 0);
    proxy.pull("o/a", "v1", &image).await;
}

/// Clients differ in how they send a blob; none may be told that theirs does not work.
#[tokio::test(start_paused = true)]
async fn every_way_to_upload_a_blob_works() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = |seed| Blob::random(seed, 100_000);

    let monolithic = blob(1);
    let begun = begin(&proxy, "o/a").await;
    put(&proxy, &begun, &monolithic, &monolithic.bytes).await.assert_status(201);

    let chunked = blob(2);
    let mut at = begin(&proxy, "o/a").await;
    for (first, last) in [(0, 39_999), (40_000, 40_000), (40_001, 79_999)] {
        let range = format!("{first}-{last}");
        let bytes = chunked.bytes.slice(first..=last);
        let headers = [("content-range", range.as_str())];
        let reply = proxy.client.send(Method::PATCH, &at, &headers, bytes).await;
        reply.assert_status(202);
        assert_eq!(reply.header("range"), Some(format!("0-{last}").as_str()));
        at = location(&reply);
    }
    put(&proxy, &at, &chunked, &chunked.bytes[80_000..]).await.assert_status(201);

    let single = blob(3);
    let path = format!("/v2/o/a/blobs/uploads/?digest={}", single.digest);
    let reply = proxy.client.send(Method::POST, &path, &[], single.bytes.clone()).await;
    reply.assert_status(201);
    assert_eq!(location(&reply), single.path("o/a"));

    let long_hash = blob(4).by_sha512();
    let path = "/v2/o/a/blobs/uploads/?digest-algorithm=sha512";
    let begun = location(&post(&proxy, path).await);
    put(&proxy, &begun, &long_hash, &long_hash.bytes).await.assert_status(201);

    let empty = Blob::new(Bytes::new());
    push_blob(&proxy, "o/a", &empty).await.assert_status(201);

    for pushed in [monolithic, chunked, single, long_hash, empty] {
        assert_eq!(hub.blob("o/a", &pushed.digest).as_ref(), Some(&pushed.bytes), "{pushed:?}");
        proxy.get(&pushed.path("o/a")).await.assert_is(&pushed);
    }
}

/// dockerd and `crane` send layers that are compressed on the way: their length is not known.
#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_stays_one() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 50_000);
    let begun = begin(&proxy, "o/a").await;

    let mut client = proxy.client.raw();
    let head = format!(
        "PATCH {begun} HTTP/1.1\r\nHost: larder.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.send(head.as_bytes()).await;
    for piece in blob.bytes.chunks(7_000) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
        client.send(piece).await;
        client.send(b"\r\n").await;
    }
    client.send(b"0\r\n\r\n").await;
    let reply = client.download().await.unwrap().finish().await;
    reply.assert_status(202);
    put(&proxy, &location(&reply), &blob, &[]).await.assert_status(201);

    let sent = &hub.changes("PATCH", "")[0];
    assert_eq!(sent.header("transfer-encoding"), Some("chunked"));
    assert!(sent.body == blob.bytes);
}

/// Over HTTP/2, too, where a length may be missing as well.
#[tokio::test(start_paused = true)]
async fn pushes_over_http_2_are_passed_on() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 300_000);
    let send = async |method, path: &str, body: Bytes| {
        let sent = proxy.client.try_send((Version::H2, method), path, &[], body).await;
        sent.unwrap()
    };

    let begun = send(Method::POST, "/v2/o/a/blobs/uploads/", Bytes::new()).await;
    let path = format!("{}?digest={}", location(&begun), blob.digest);
    send(Method::PUT, &path, blob.bytes.clone()).await.assert_status(201);

    assert_eq!(hub.blob("o/a", &blob.digest).as_ref(), Some(&blob.bytes));
}

/// Clients ask how far an upload is, and give uploads up.
#[tokio::test(start_paused = true)]
async fn an_upload_is_asked_after_and_cancelled() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let begun = begin(&proxy, "o/a").await;
    let appended = patch(&proxy, &begun, &[7; 10]).await;

    let status = proxy.get(&location(&appended)).await;
    status.assert_status(204);
    assert_eq!(status.header("range"), Some("0-9"));
    assert_eq!(hub.uploads(), 1);

    proxy.call(Method::DELETE, &location(&status)).await.assert_status(204);
    assert_eq!(hub.uploads(), 0);
    assert_eq!(proxy.get(&location(&status)).await.error(404).0, "BLOB_UPLOAD_UNKNOWN");
}

/// A chunk out of order is the upstream's to refuse; the client learns how far it is and goes on.
#[tokio::test(start_paused = true)]
async fn a_chunk_out_of_order_is_416_and_the_upload_goes_on() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 20);
    let begun = begin(&proxy, "o/a").await;
    let send = async |at: &str, range: &str, bytes: Bytes| {
        proxy.client.send(Method::PATCH, at, &[("content-range", range)], bytes).await
    };
    let first = send(&begun, "0-9", blob.bytes.slice(..10)).await;
    first.assert_status(202);

    let early = send(&location(&first), "15-19", blob.bytes.slice(15..)).await;
    early.assert_status(416);
    assert_eq!(early.header("range"), Some("0-9"));

    let status = proxy.get(&location(&early)).await;
    status.assert_status(204);
    let second = send(&location(&status), "10-19", blob.bytes.slice(10..)).await;
    second.assert_status(202);
    put(&proxy, &location(&second), &blob, &[]).await.assert_status(201);
}

/// harbor#12731: a client that reads the refusal late has sent gigabytes in vain.
#[tokio::test(start_paused = true)]
async fn a_registry_that_takes_no_pushes_says_so_first() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    let image = Image::random(1, &[10]);

    let reply = post(&proxy, "/v2/o/a/blobs/uploads/").await;
    let (code, message) = reply.error(405);
    assert_eq!(code, "UNSUPPORTED");
    assert!(message.contains("docker.io") && message.contains("push"), "{message}");
    let reply = put_manifest(&proxy, "o/a", "v1", &image.manifest).await;
    assert_eq!(reply.error(405).0, "UNSUPPORTED");
    hub.assert_not_asked();
}
