//! Blobs over TCP, where the kernel sends files: the same answers as over memory.
//!
//! The handling of placeholders in a connection is tested beside it, in `src/http/socket`.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::ranges::{LEN, assert_answers, table};
use crate::support::client::request;
use crate::support::proxy::files_under;
use crate::support::settle;
use crate::support::{Blob, Client, Fault, Gate, Place, Proxy, ScriptedRegistry, Version, When};

const REPOSITORY: &str = "library/alpine";

/// More than a socket holds, so that it is sent in several parts.
const LARGE: usize = 24 << 20;

async fn mirrored(blob: &Blob) -> (ScriptedRegistry, Proxy, Client) {
    let hub = ScriptedRegistry::new();
    hub.put_blob(REPOSITORY, blob);
    let proxy = Proxy::before(&hub).await;
    let client = proxy.tcp_client().await;
    (hub, proxy, client)
}

/// The same with the blob stored.
async fn warm(blob: &Blob) -> (Proxy, Client) {
    let (hub, proxy, client) = mirrored(blob).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
    proxy.until_stored(&blob.digest).await;
    hub.delete(REPOSITORY);
    (proxy, client)
}

#[tokio::test]
async fn a_stored_blob_is_whole_in_every_version() {
    let blob = Blob::random(1, LARGE);
    let (_proxy, client) = warm(&blob).await;
    for version in Version::ALL {
        let reply = client.try_get(version, &blob.path(REPOSITORY)).await.unwrap();
        reply.assert_is(&blob);
    }
    let head = client.head(&blob.path(REPOSITORY)).await;
    head.assert_status(200);
    assert_eq!(head.header("content-length"), Some(LARGE.to_string().as_str()));
}

#[tokio::test]
async fn a_range_of_a_stored_blob_is_exact() {
    let blob = Blob::random(1, LEN);
    let (_proxy, client) = warm(&blob).await;
    for (row, range, want) in table() {
        let reply = client.get_with(&blob.path(REPOSITORY), &[("range", &range)]).await;
        assert_answers(&reply, &want, &blob, &format!("row {row}, {range:?} over TCP"));
    }
}

#[tokio::test]
async fn parts_small_and_large_come_in_order() {
    let blob = Blob::random(1, 4 << 20);
    let (_proxy, client) = warm(&blob).await;
    let wanted = [0..1, 10..3_000_000, 5..9, 1_000_000..1_100_000, (4 << 20) - 1..4 << 20];
    let ranges: Vec<_> = wanted.iter().map(|it| format!("{}-{}", it.start, it.end - 1)).collect();
    let range = format!("bytes={}", ranges.join(","));

    let reply = client.get_with(&blob.path(REPOSITORY), &[("range", &range)]).await;

    let parts = reply.parts();
    assert_eq!(parts.len(), wanted.len());
    for ((_, bytes), want) in parts.iter().zip(wanted) {
        assert!(bytes == &blob.bytes[want.clone()], "other bytes at {want:?}");
    }
}

/// Head, file, head, file: on one connection, all asked for at once.
#[tokio::test]
async fn answers_to_pipelined_requests_do_not_mix() {
    let (blob, count) = (Blob::random(1, 3_000_000), 5);
    let (_proxy, client) = warm(&blob).await;
    let path = blob.path(REPOSITORY);
    let mut raw = client.raw();
    for at in 0..count {
        let range = format!("bytes={at}-");
        raw.send(&request("GET", "1.1", &path, &[("range", &range)])).await;
        raw.send(&request("HEAD", "1.1", &path, &[])).await;
    }
    for at in 0..count {
        let mut answer = raw.download().await.unwrap();
        answer.read_until(blob.len() - at, 64 << 10).await.unwrap();
        assert!(answer.body() == &blob.bytes[at..], "other bytes in answer {at}");
        raw = answer.into_client().download().await.unwrap().into_client();
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_delays_no_other() {
    let blob = Blob::random(1, LARGE);
    let (_proxy, client) = warm(&blob).await;
    let path = blob.path(REPOSITORY);
    let mut stopped = client.raw().get("1.1", &path, &[]).await.unwrap();
    stopped.read_until(100_000, 10_000).await.unwrap();

    client.get(&path).await.assert_is(&blob);
    drop(client.raw().get("1.1", &path, &[]).await.unwrap());
    client.get(&path).await.assert_is(&blob);

    let reply = stopped.finish().await;
    reply.assert_is(&blob);
}

/// A disk that lost the end of a file: the answer goes on from the upstream.
#[tokio::test]
async fn a_stored_file_that_was_cut_off_is_fetched_anew_in_mid_answer() {
    let blob = Blob::large(1, LARGE);
    let (_hub, proxy, client) = mirrored(&blob).await;
    client.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    let has_sums = || proxy.sums_file(&blob.digest).exists();
    proxy.until(has_sums, "the fill has ended").await;
    settle().await;
    let stored = files_under(&proxy.cache_dir().join("blobs")).remove(0);
    fs::set_permissions(&stored, Permissions::from_mode(0o600)).unwrap();
    let mut reading = client.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
    reading.read_until(100_000, 10_000).await.unwrap();

    OpenOptions::new().write(true).open(&stored).unwrap().set_len(LARGE as u64 / 2).unwrap();

    reading.finish().await.assert_is(&blob);
    let is_whole = || fs::metadata(&stored).is_ok_and(|stored| stored.len() == LARGE as u64);
    proxy.until(is_whole, "it is stored anew").await;
}

#[tokio::test]
async fn readers_of_a_running_fill_get_what_is_written_so_far() {
    let blob = Blob::random(1, LARGE);
    let (hub, proxy, client) = mirrored(&blob).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::HoldAt(LARGE / 2, gate.clone()));
    let path = blob.path(REPOSITORY);
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = client.raw().get("1.1", &path, &[]).await.unwrap();
        reader.read_until(LARGE / 2, 64 << 10).await.unwrap();
        readers.push(reader);
    }
    gate.open();
    for reader in readers {
        reader.finish().await.assert_is(&blob);
    }
    proxy.until_stored(&blob.digest).await;
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}

/// The last 64 KiB wait for the digest over TCP as they do elsewhere.
#[tokio::test]
async fn a_wrong_blob_is_never_complete() {
    for (seed, place) in (0..).zip([Place::First, Place::Middle, Place::Last]) {
        let blob = Blob::random(seed, 1_000_000);
        let (hub, proxy, client) = mirrored(&blob).await;
        hub.breaks(When::asked(&blob.digest), Fault::FlipByte(place));
        for version in Version::ALL {
            let Ok(reply) = client.try_get(version, &blob.path(REPOSITORY)).await else { continue };
            let is_whole = reply.status.is_success() && reply.is_complete();
            assert!(!is_whole, "{place:?} {version:?}: {} bytes", reply.body.len());
        }
        assert!(!proxy.has_stored(&blob.digest));
    }
}
