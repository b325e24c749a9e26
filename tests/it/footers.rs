//! The footer of a lazily pulled layer: a short range with the last byte of a blob, which leaves
//! before the whole is verified.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::support::{
    Blob, Fault, Gate, Place, Proxy, Reply, ScriptedRegistry, Version, When, settle,
};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 24 << 20;

/// As eStargz and zstd:chunked readers, and others by suffix, ask; with the first byte of each.
const FOOTERS: [(&str, usize); 4] = [
    ("bytes=25165773-25165823", LEN - 51),
    ("bytes=25165760-25165823", LEN - 64),
    ("bytes=-51", LEN - 51),
    ("bytes=25100288-25165823", LEN - (64 << 10)),
];

async fn lazy(fills: bool) -> (ScriptedRegistry, Blob, Proxy) {
    let blob = Blob::large(1, LEN);
    let (hub, proxy) = Proxy::before_a_blob(&blob, REPOSITORY, fills).await;
    (hub, blob, proxy)
}

/// A layer whose fill is held at its beginning.
async fn held() -> (ScriptedRegistry, Blob, Proxy, Gate) {
    let (hub, blob, proxy) = lazy(true).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::HoldAt(1 << 20, gate.clone()));
    (hub, blob, proxy, gate)
}

fn assert_is_part(reply: &Reply, blob: &Blob, first: usize) {
    reply.assert_status(206);
    assert!(reply.is_complete() && reply.body == blob.bytes[first..], "{}", reply.body.len());
    let content_range = format!("bytes {first}-{}/{LEN}", LEN - 1);
    assert_eq!(reply.header("content-range"), Some(content_range.as_str()));
}

/// A stargz snapshotter mounts no layer before it has the footer.
#[tokio::test(start_paused = true)]
async fn a_footer_does_not_wait_for_the_layer() {
    for (range, first) in FOOTERS {
        for version in Version::ALL {
            let (hub, blob, proxy, gate) = held().await;
            let (path, start) = (blob.path(REPOSITORY), Instant::now());

            let headers = [("range", range)];
            let reply = proxy.client.try_call(version, Method::GET, &path, &headers).await.unwrap();

            assert!(start.elapsed() < Duration::from_secs(1), "{range}: {:?}", start.elapsed());
            assert_is_part(&reply, &blob, first);
            assert!(reply.decision().is_unverified(), "{range}: {:?}", reply.decision());
            let asked = hub.gets(&blob.digest);
            assert_eq!(asked.len(), 2, "{range}: the fill, and the footer");
            assert_eq!(asked[1].body_sent(), (LEN - first) as u64, "{range}");
            gate.open();
            proxy.until_stored(&blob.digest).await;
            let reply = proxy.get_with(&path, &headers).await;
            assert_is_part(&reply, &blob, first);
            assert!(reply.decision().is_hit() && !reply.decision().is_unverified());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_fill_on_range_a_footer_is_all_that_the_upstream_sends() {
    for (range, first) in FOOTERS {
        let (hub, blob, proxy) = lazy(false).await;

        let reply = proxy.get_with(&blob.path(REPOSITORY), &[("range", range)]).await;
        settle().await;

        assert_is_part(&reply, &blob, first);
        assert_eq!(reply.decision().get("detail"), Some("unverified-range"), "{range}");
        assert_eq!(hub.body_bytes(&blob.digest), (LEN - first) as u64, "{range}");
        assert_eq!((proxy.stored(), proxy.fills()), (Vec::new(), Vec::new()), "{range}");
    }
}

/// An upstream that has no ranges, or sends another, is no help; the fill brings the footer.
#[tokio::test(start_paused = true)]
async fn a_footer_that_the_upstream_does_not_give_comes_with_the_fill() {
    let other_total = format!("bytes {}-{}/{}", LEN - 51, LEN - 1, LEN + 100);
    for fault in [
        Fault::IgnoreRange,
        Fault::WrongContentRange(7),
        Fault::Header("content-range", other_total),
        Fault::Header("content-range", "bytes".to_owned()),
        Fault::status(403),
        Fault::status(404),
        Fault::status(416),
    ] {
        let (hub, blob, proxy, gate) = held().await;
        hub.breaks(When::asked(&blob.digest).get().after(1), fault.clone());
        let range = [("range", "bytes=-51")];
        let path = blob.path(REPOSITORY);
        let footers = [0; 2].map(|_| tokio::spawn(proxy.client.get_with(&path, &range)));
        gate.reached().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(footers.iter().all(|footer| !footer.is_finished()), "{fault:?}");
        gate.open();

        for footer in footers {
            assert_is_part(&footer.await.unwrap(), &blob, LEN - 51);
        }
        proxy.until_stored(&blob.digest).await;
        assert_eq!(proxy.get(&path).await.body.len(), LEN, "{fault:?}");
    }
}

/// A resume is open-ended or long, and a client may take its last byte for that of the whole.
#[tokio::test(start_paused = true)]
async fn a_range_to_the_end_that_is_no_footer_waits_for_verification() {
    let ranges = ["bytes=25165773-", "bytes=-65537", "bytes=25100287-25165823", "bytes=0-0,-51"];
    for range in ranges {
        let (hub, blob, proxy) = lazy(true).await;
        hub.breaks(When::asked(&blob.digest), Fault::FlipByte(Place::At(50)));

        let path = blob.path(REPOSITORY);
        let headers = [("range", range)];
        let reply = proxy.client.try_call(Version::Http11, Method::GET, &path, &headers).await;

        let is_fooled = reply.is_ok_and(|it| it.status.is_success() && it.is_complete());
        assert!(!is_fooled, "{range}");
        assert_eq!(proxy.stored(), [""; 0], "{range}");
    }
}

/// A footer in hand stays; one that is under way is cut when the blob proves wrong.
#[tokio::test(start_paused = true)]
async fn a_footer_under_way_is_cut_when_the_blob_proves_wrong() {
    let (hub, blob, proxy, start) = held().await;
    let (fill, side) = (Gate::new(), Gate::new());
    let first = When::asked(&blob.digest).get().nth(1);
    hub.breaks(first.clone(), Fault::FlipByte(Place::First));
    hub.breaks(first, Fault::HoldAt(LEN - 1, fill.clone()));
    hub.breaks(When::asked(&blob.digest).get().nth(2), Fault::HoldAt(1000, side.clone()));

    let range = [("range", "bytes=-2000")];
    let raw = proxy.client.raw();
    let mut client = raw.get("1.1", &blob.path(REPOSITORY), &range).await.unwrap();
    client.read_until(1000, 100).await.unwrap();
    start.open();
    fill.reached().await;
    fill.open();
    proxy.until(|| proxy.fills().is_empty(), "the wrong fill is gone").await;
    settle().await;
    side.open();

    assert!(!client.finish().await.is_complete(), "complete after the blob was known to be wrong");
}

/// A short range is no way around membership: the digest alone is no right.
#[tokio::test(start_paused = true)]
async fn a_footer_is_given_in_repositories_that_have_the_blob_alone() {
    for fills in [true, false] {
        let (hub, blob, proxy) = lazy(fills).await;
        let gate = Gate::new();
        hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::HoldAt(1 << 20, gate.clone()));
        let whole = proxy.get_often(&blob.path(REPOSITORY), 1);
        gate.reached().await;

        let range = [("range", "bytes=-51")];
        proxy.get_with(&blob.path("library/other"), &range).await.error(404);
        gate.open();
        whole.join_all().await[0].assert_is(&blob);
        proxy.until_stored(&blob.digest).await;
        proxy.get_with(&blob.path("library/other"), &range).await.error(404);
    }
}
