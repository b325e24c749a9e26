//! Clients that begin many pushes and do not go on: what they hold is bounded, and others push.

use std::time::Duration;

use larder::http::ClientPeer;
use tokio::time::{Instant, advance};

use crate::support::client::{RawClient, request};
use crate::support::{Blob, Client, Image, Proxy, ScriptedRegistry, Setup, settle};

const SECOND: Duration = Duration::from_secs(1);
const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// A proxy before docker.io that takes pushes, no more than four at once.
async fn open(hub: &ScriptedRegistry) -> Proxy {
    let mut setup = Setup::new();
    let options = setup.registry("docker.io", hub);
    options.rules.push = true;
    options.upstream.max_connections = 8;
    setup.start().await
}

fn at(proxy: &Proxy, address: &str) -> Client {
    proxy.client_of(ClientPeer::at(address.parse().unwrap()))
}

/// Begins a request with a body of this length, none of which is sent before it is asked for.
async fn announce(client: &Client, method: &str, path: &str, length: usize) -> RawClient {
    let length = length.to_string();
    let headers = [
        ("content-length", &*length),
        ("content-type", "application/vnd.oci.image.manifest.v1+json"),
        ("expect", "100-continue"),
    ];
    let mut raw = client.raw();
    raw.send(&request(method, "1.1", path, &headers)).await;
    raw
}

async fn announce_blobs(client: &Client, count: u64) -> Vec<RawClient> {
    let mut all = Vec::new();
    for seed in 0..count {
        let digest = Blob::random(1000 + seed, 10).digest;
        let path = format!("/v2/o/a/blobs/uploads/?digest={digest}");
        all.push(announce(client, "POST", &path, 1 << 20).await);
    }
    all
}

async fn announce_manifests(client: &Client, count: usize) -> Vec<RawClient> {
    let mut all = Vec::new();
    for number in 0..count {
        let path = format!("/v2/o/a/manifests/v{number}");
        all.push(announce(client, "PUT", &path, MANIFEST_BYTES_MAX).await);
    }
    all
}

/// How many of them were asked for their body.
async fn asked_for(clients: &mut [RawClient]) -> usize {
    let mut count = 0;
    for client in clients {
        count += usize::from(client.heard().await.starts_with(b"HTTP/1.1 100 "));
    }
    count
}

/// Pushes a blob in one request, and a manifest that names it.
async fn push(client: &Client, tag: &str) {
    let image = Image::random(7, &[1000]);
    for blob in image.blobs() {
        let path = format!("/v2/o/b/blobs/uploads/?digest={}", blob.digest);
        let reply = client.send(http::Method::POST, &path, &[], blob.bytes.clone()).await;
        reply.assert_status(201);
    }
    let path = format!("/v2/o/b/manifests/{tag}");
    let media_type = [("content-type", &*image.manifest.media_type)];
    let bytes = image.manifest.blob.bytes.clone();
    client.send(http::Method::PUT, &path, &media_type, bytes).await.assert_status(201);
}

#[tokio::test(start_paused = true)]
async fn one_client_holds_half_of_the_places_for_pushes_and_another_pushes_at_once() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let slow = at(&proxy, "10.0.0.1");
    let mut held = announce_blobs(&slow, 40).await;
    settle().await;

    let began = Instant::now();
    push(&at(&proxy, "10.0.0.2"), "v1").await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(asked_for(&mut held[..4]).await, 2);

    drop(held);
    settle().await;
    push(&slow, "v2").await;
}

/// A byte now and then is no push. Otherwise two clients could take all places for good.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_waited_for_without_end_is_broken_off_and_its_place_is_free() {
    for is_dripping in [false, true] {
        let hub = ScriptedRegistry::new();
        let proxy = open(&hub).await;
        let mut held = Vec::new();
        for address in ["10.0.0.1", "10.0.0.2"] {
            held.append(&mut announce_blobs(&at(&proxy, address), 2).await);
        }
        settle().await;
        assert_eq!(asked_for(&mut held).await, 4, "all places are taken");

        for _ in 0..13 {
            if is_dripping {
                for client in &mut held {
                    client.send(b"x").await;
                }
            }
            advance(10 * SECOND).await;
            settle().await;
        }

        let began = Instant::now();
        push(&at(&proxy, "10.0.0.3"), "v1").await;
        assert!(began.elapsed() < SECOND, "{is_dripping}: {:?}", began.elapsed());
        for client in held {
            let (answer, _) = client.read_all().await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
            assert!(answer.contains("timed out"), "{answer}");
        }
    }
}

/// A slow line is no attack: what counts is what comes while it is waited for.
#[tokio::test(start_paused = true)]
async fn a_push_over_a_slow_line_takes_its_time() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 400 << 10);
    let path = format!("/v2/o/a/blobs/uploads/?digest={}", blob.digest);
    let mut client = announce(&proxy.client, "POST", &path, blob.len()).await;
    for piece in blob.bytes.chunks(8 << 10) {
        client.send(piece).await;
        settle().await;
        advance(10 * SECOND).await;
    }
    let (answer, _) = client.read_all().await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("HTTP/1.1 201 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn manifests_that_are_on_their_way_take_bounded_memory_of_each_client_and_of_all() {
    let hub = ScriptedRegistry::new();
    let proxy = open(&hub).await;
    let slow = at(&proxy, "10.0.0.1");
    let mut held = announce_manifests(&slow, 20).await;
    settle().await;

    let began = Instant::now();
    push(&at(&proxy, "10.0.0.2"), "v1").await;
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(asked_for(&mut held).await, 4, "16 MiB of one client");

    let mut others = Vec::new();
    for number in 3..23 {
        let client = at(&proxy, &format!("10.0.0.{number}"));
        others.append(&mut announce_manifests(&client, 2).await);
    }
    settle().await;
    assert_eq!(asked_for(&mut others).await, 12, "64 MiB of all");
    advance(26 * SECOND).await;
    settle().await;
    let refused = others.pop().unwrap().read_all().await.0;
    let refused = String::from_utf8_lossy(&refused).into_owned();
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");

    drop((held, others));
    settle().await;
    push(&slow, "v2").await;
}
