//! Several ranges in one answer, and ranges of what is not here yet.

use std::time::Duration;

use crate::support::{Blob, Fault, Gate, Place, Proxy, ScriptedRegistry, Version, When, settle};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 150_000;

/// Far enough for every range of the tests to lie ahead of what a fill has soon.
const LARGE: usize = 24 << 20;

async fn mirrored(blob: &Blob) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.put_blob(REPOSITORY, blob);
    let proxy = Proxy::before(&hub).await;
    (hub, proxy)
}

/// podman counts the parts, and wants them in the order that it asked for.
#[tokio::test(start_paused = true)]
async fn several_ranges_come_as_parts_in_the_order_they_were_asked_for() {
    let blob = Blob::random(1, LEN);
    let (_hub, proxy) = mirrored(&blob).await;
    let path = blob.path(REPOSITORY);
    let range = "bytes=100-109, 0-0,99-150, -10,149999-200000,999999-, 5-4";
    let wanted = [100..110, 0..1, 99..151, LEN - 10..LEN, LEN - 1..LEN];

    for case in ["cold", "warm"] {
        let reply = proxy.get_with(&path, &[("range", range)]).await;

        let parts = reply.parts();
        let length = reply.body.len().to_string();
        assert_eq!(reply.header("content-length"), Some(length.as_str()), "{case}");
        assert_eq!(parts.len(), wanted.len(), "{case}: the unsatisfiable one is left out");
        for ((content_range, bytes), want) in parts.iter().zip(&wanted) {
            let (first, last) = (want.start, want.end - 1);
            assert_eq!(content_range, &format!("bytes {first}-{last}/{LEN}"), "{case}");
            assert!(bytes == &blob.bytes[want.clone()], "{case}: other bytes at {want:?}");
        }
        proxy.until_stored(&blob.digest).await;
    }
}

/// A few bytes of a request must not make many of an answer.
#[tokio::test(start_paused = true)]
async fn too_many_ranges_are_refused() {
    let blob = Blob::random(1, LEN);
    let (_hub, proxy) = mirrored(&blob).await;
    let path = blob.path(REPOSITORY);
    let many = format!("bytes={}0-1", "0-1,".repeat(2000));
    let overlapping = format!("bytes={}0-", "0-,".repeat(50));

    for _ in ["cold", "warm"] {
        for range in [&many, &overlapping] {
            let reply = proxy.get_with(&path, &[("range", range)]).await;
            reply.error(400);
        }
        let nonsense = [("range", "bytes=-17208,-9223372036854758792")];
        let reply = proxy.get_with(&path, &nonsense).await;
        assert!(matches!(reply.status.as_u16(), 200 | 206 | 400 | 416), "{}", reply.status);
        assert!(reply.body.len() <= LEN + 1000, "CVE-2017-7529: bytes from elsewhere");
        proxy.get(&path).await.assert_is(&blob);
        proxy.until_stored(&blob.digest).await;
    }
}

/// The end of a range may be the end of the blob: then it waits for the proof as the whole does,
/// even where its own bytes happen to be right.
#[tokio::test(start_paused = true)]
async fn a_range_to_the_end_of_a_wrong_blob_is_never_complete() {
    let ranges = ["bytes=0-", "bytes=100-", "bytes=149999-", "bytes=-100000", "bytes=0-0,-1"];
    for range in ranges {
        for version in Version::ALL {
            let blob = Blob::random(1, LEN);
            let (hub, proxy) = mirrored(&blob).await;
            hub.breaks(When::asked(&blob.digest), Fault::FlipByte(Place::At(50)));

            let path = blob.path(REPOSITORY);
            let get = http::Method::GET;
            let reply = proxy.client.try_call(version, get, &path, &[("range", range)]).await;

            if let Ok(reply) = reply {
                let is_fooled = reply.status.is_success() && reply.is_complete();
                assert!(!is_fooled, "{range} {version:?}: complete, {} bytes", reply.body.len());
            }
            assert_eq!(proxy.stored(), [""; 0], "{range} {version:?}");
        }
    }
}

/// If the upstream does not tell the length, `-5` means nothing until all is here.
#[tokio::test(start_paused = true)]
async fn a_range_of_a_blob_of_unknown_length_is_exact() {
    let table = [("bytes=5-9", 5..10), ("bytes=-5", LEN - 5..LEN), ("bytes=149990-", 149_990..LEN)];
    for (range, want) in table {
        for framing in [Fault::Chunked, Fault::CloseDelimited] {
            let blob = Blob::random(1, LEN);
            let (hub, proxy) = mirrored(&blob).await;
            hub.breaks(When::asked(&blob.digest), framing.clone());

            let reply = proxy.get_with(&blob.path(REPOSITORY), &[("range", range)]).await;

            reply.assert_status(206);
            assert!(reply.is_complete() && reply.body == blob.bytes[want.clone()], "{range}");
            let content_range = format!("bytes {}-{}/{LEN}", want.start, want.end - 1);
            assert_eq!(reply.header("content-range"), Some(content_range.as_str()), "{framing:?}");
        }
    }
}

/// A large blob whose fill is held at its beginning.
async fn held() -> (ScriptedRegistry, Blob, Proxy, Gate) {
    let blob = Blob::large(1, LARGE);
    let (hub, proxy) = mirrored(&blob).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::HoldAt(1 << 20, gate.clone()));
    (hub, blob, proxy, gate)
}

/// A lazy puller reads a few chunks anywhere and runs; it cannot wait for a whole layer.
#[tokio::test(start_paused = true)]
async fn a_range_far_ahead_of_the_fill_does_not_wait_for_it() {
    let (hub, blob, proxy, gate) = held().await;
    let path = blob.path(REPOSITORY);

    let far = proxy.get_with(&path, &[("range", "bytes=20000000-20000099")]).await;
    let again = proxy.get_with(&path, &[("range", "bytes=21000000-21000099")]).await;

    for (reply, at) in [(&far, 20_000_000), (&again, 21_000_000)] {
        reply.assert_status(206);
        assert!(reply.is_complete() && reply.body == blob.bytes[at..at + 100]);
        assert!(reply.decision().is_unverified(), "{:?}", reply.decision());
    }
    let beside = hub.gets(&blob.digest);
    assert_eq!(beside.len(), 3, "the fill, and one for each range");
    // Not a byte more than the reader wants: a request for the rest that is cut costs the upstream
    // the bytes on their way, and both sides a connection.
    assert_eq!(beside[1].header("range"), Some("bytes=20000000-20000099"));
    assert_eq!((beside[1].body_sent(), beside[2].body_sent()), (100, 100));
    assert_eq!(proxy.stored(), [""; 0]);
    gate.open();
    proxy.until_stored(&blob.digest).await;
    assert_eq!(hub.gets(&blob.digest).len(), 3, "the fill was not disturbed");
}

/// A registry without ranges would send the whole again, later than the fill brings it.
#[tokio::test(start_paused = true)]
async fn ranges_follow_the_fill_where_the_registry_has_none() {
    let (hub, blob, proxy, gate) = held().await;
    hub.breaks(When::asked(&blob.digest).get().after(1), Fault::IgnoreRange);
    let range = [("range", "bytes=20000000-20000099,21000000-21000099")];
    let path = blob.path(REPOSITORY);

    let reply = tokio::spawn(proxy.client.get_with(&path, &range));
    gate.reached().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    gate.open();

    let parts = reply.await.unwrap().parts();
    assert_eq!(parts.len(), 2);
    for ((_, bytes), at) in parts.iter().zip([20_000_000, 21_000_000]) {
        assert!(*bytes == blob.bytes[at..at + 100], "{at}");
    }
    let asked = hub.gets(&blob.digest);
    assert_eq!(asked.len(), 2, "it is not asked for a range again");
    assert!(asked[1].body_sent() < 4 << 20, "{}", asked[1].body_sent());
}

/// Bytes that the fill will soon bring are not fetched a second time.
#[tokio::test(start_paused = true)]
async fn a_range_just_ahead_of_the_fill_waits_for_it() {
    let (hub, blob, proxy, gate) = held().await;
    let path = blob.path(REPOSITORY);
    let client = proxy.client.get_with(&path, &[("range", "bytes=2000000-2000099")]);
    let near = tokio::spawn(client);
    gate.reached().await;
    settle().await;
    gate.open();

    let near = near.await.unwrap();

    near.assert_status(206);
    assert!(near.body == blob.bytes[2_000_000..2_000_100]);
    assert_eq!(hub.gets(&blob.digest).len(), 1);
}

/// Containerd's parallel fetch opens ranges and closes them early; upstream must not pay for it.
#[tokio::test(start_paused = true)]
async fn ranges_beside_a_fill_are_few_at_once_and_end_with_their_readers() {
    let (hub, blob, proxy, gate) = held().await;
    let path = blob.path(REPOSITORY);
    let stuck = Gate::new();
    hub.breaks(When::asked(&blob.digest).get().after(1), Fault::HoldAt(1000, stuck.clone()));
    let ranges: Vec<_> =
        (0..20).map(|i| format!("bytes={}-{}", (10 << 20) + i * 100_000, 20 << 20)).collect();

    let mut clients = tokio::task::JoinSet::new();
    for range in &ranges {
        clients.spawn(proxy.client.get_with(&path, &[("range", range)]));
    }
    // Large ranges wait a moment for others beside them.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let beside = hub.gets(&blob.digest).len() - 1;
    assert!((1..=8).contains(&beside), "{beside} fetches beside the fill");

    clients.shutdown().await;
    hub.heal();
    gate.open();
    proxy.until_stored(&blob.digest).await;
    let bytes = hub.body_bytes(&blob.digest);
    let most = LARGE + beside * (200 << 10);
    assert!(bytes <= most as u64, "{bytes} bytes: fetches went on without readers");
}

/// When the whole turns out wrong, a part of it that is still under way is cut off.
#[tokio::test(start_paused = true)]
async fn a_range_under_way_is_cut_when_the_blob_proves_wrong() {
    let blob = Blob::large(1, LARGE);
    let (hub, proxy) = mirrored(&blob).await;
    let (fill, side) = (Gate::new(), Gate::new());
    let first = When::asked(&blob.digest).get().nth(1);
    hub.breaks(first.clone(), Fault::FlipByte(Place::First));
    hub.breaks(first, Fault::HoldAt(LARGE - 1, fill.clone()));
    let path = blob.path(REPOSITORY);
    // The fill has to be at its beginning for a range to be far ahead.
    let start = Gate::new();
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::HoldAt(1 << 20, start.clone()));
    hub.breaks(When::asked(&blob.digest).get().nth(2), Fault::HoldAt(1000, side.clone()));

    let range = [("range", "bytes=20000000-20001999")];
    let mut client = proxy.client.raw().get("1.1", &path, &range).await.unwrap();
    client.read_until(1000, 100).await.unwrap();
    start.open();
    fill.reached().await;
    fill.open();
    proxy.until(|| proxy.fills().is_empty(), "the wrong fill is gone").await;
    settle().await;
    side.open();
    let reply = client.finish().await;

    assert!(!reply.is_complete(), "complete after the blob was known to be wrong");
    assert_eq!(proxy.stored(), [""; 0]);
}

/// containerd fetches a layer so: each worker opens a range to the end, and leaves when it has its
/// share.
#[tokio::test(start_paused = true)]
async fn eight_open_ranges_that_are_closed_early_cost_the_upstream_one_blob() {
    const TOTAL: usize = 256 << 20;
    const SHARE: usize = TOTAL / 8;
    let blob = Blob::large(1, TOTAL);
    let (hub, proxy) = mirrored(&blob).await;

    let mut workers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (client, path, blob) = (proxy.client.raw(), blob.path(REPOSITORY), blob.clone());
        let at = number * SHARE;
        workers.spawn(async move {
            let range = format!("bytes={at}-");
            let mut download = client.get("1.1", &path, &[("range", &range)]).await.unwrap();
            assert_eq!(download.status, 206);
            download.read_until(SHARE, 64 << 10).await.unwrap();
            assert!(download.body() == &blob.bytes[at..at + SHARE], "share {number} is another");
        });
    }
    workers.join_all().await;
    proxy.until_stored(&blob.digest).await;

    let bytes = hub.body_bytes(&blob.digest);
    assert!(bytes <= (TOTAL + TOTAL / 10) as u64, "{bytes} bytes of {TOTAL}");
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
}
