//! `fill_on_range = false`: what lazy pullers read of a cold layer is passed through.

use crate::support::{Blob, Fault, Gate, Proxy, ScriptedRegistry, When, settle};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 1 << 20;

async fn lazy(fills: bool) -> (ScriptedRegistry, Blob, Proxy) {
    let blob = Blob::random(1, LEN);
    let (hub, proxy) = Proxy::before_a_blob(&blob, REPOSITORY, fills).await;
    (hub, blob, proxy)
}

/// The reason for the key: a hundredth of a layer must not cost the whole layer.
#[tokio::test(start_paused = true)]
async fn without_fill_on_range_the_upstream_sends_only_the_ranges() {
    let (hub, blob, proxy) = lazy(false).await;
    let path = blob.path(REPOSITORY);

    for at in [0, 500_000, 1_000_000] {
        let reply = proxy.get_with(&path, &[("range", &format!("bytes={at}-{}", at + 999))]).await;
        reply.assert_status(206);
        assert!(reply.is_complete() && reply.body == blob.bytes[at..at + 1000]);
        let content_range = format!("bytes {at}-{}/{LEN}", at + 999);
        assert_eq!(reply.header("content-range"), Some(content_range.as_str()));
        let decision = reply.decision();
        assert!(decision.is_bypass(), "{decision:?}");
        assert_eq!(decision.get("detail"), Some("unverified-range"));
    }
    let several = [("range", "bytes=0-9,700000-700009,5-6")];
    let parts = proxy.get_with(&path, &several).await.parts();
    settle().await;

    let parts: Vec<_> = parts.iter().map(|(_, bytes)| &bytes[..]).collect();
    assert_eq!(parts, [&blob.bytes[..10], &blob.bytes[700_000..700_010], &blob.bytes[5..7]]);
    assert_eq!(hub.body_bytes(&blob.digest), 3000 + 10 + 10 + 2);
    assert_eq!(hub.heads(&blob.digest).len(), 1, "the length is asked for once");
    assert_eq!((proxy.stored(), proxy.fills()), (Vec::new(), Vec::new()));
}

/// By default the cache has it after the first who asks for any of it.
#[tokio::test(start_paused = true)]
async fn by_default_a_range_request_fetches_the_whole_blob_once() {
    let (hub, blob, proxy) = lazy(true).await;
    let path = blob.path(REPOSITORY);
    proxy.get_with(&path, &[("range", "bytes=500000-500999")]).await.assert_status(206);
    proxy.until_stored(&blob.digest).await;
    proxy.get_with(&path, &[("range", "bytes=0-999")]).await.assert_status(206);
    assert_eq!(hub.body_bytes(&blob.digest), LEN as u64);
}

/// A client looks for the blob, waits for its length, and by then another's fetch has stored it.
#[tokio::test(start_paused = true)]
async fn a_blob_that_is_stored_between_look_up_and_fill_is_not_fetched_again() {
    let (hub, blob, proxy) = lazy(false).await;
    let (path, gate) = (blob.path(REPOSITORY), Gate::new());
    hub.breaks(When::asked(&blob.digest).head(), Fault::HoldHeaders(gate.clone()));

    let tail = tokio::spawn(proxy.client.get_with(&path, &[("range", "bytes=1048566-")]));
    gate.reached().await;
    proxy.get(&path).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    settle().await;
    gate.open();

    let tail = tail.await.unwrap();
    tail.assert_status(206);
    assert!(tail.is_complete() && tail.body == blob.bytes[LEN - 10..]);
    assert_eq!(hub.gets(&blob.digest).len(), 1, "the fill finds what the look-up did not");
}

/// An answer that a client could take for the end of the blob is checked, whatever the key says.
#[tokio::test(start_paused = true)]
async fn without_fill_on_range_a_range_with_the_last_byte_is_still_verified() {
    let ranges = ["bytes=1048575-", "bytes=5-", "bytes=900000-1048575", "bytes=0-1,-51"];
    for range in ranges {
        let (hub, blob, proxy) = lazy(false).await;
        let path = blob.path(REPOSITORY);
        proxy.get_with(&path, &[("range", range)]).await.assert_status(206);
        proxy.until_stored(&blob.digest).await;
        assert_eq!(hub.body_bytes(&blob.digest), LEN as u64, "{range}");

        let (hub, blob, proxy) = lazy(false).await;
        hub.breaks(When::asked(&blob.digest).get(), Fault::FlipByte(crate::support::Place::First));
        let reply = proxy.get_with(&blob.path(REPOSITORY), &[("range", range)]).await;
        assert!(reply.status != 206 || !reply.is_complete(), "{range}");
    }
}

/// A pull of the whole fills the cache, and ranges join it.
#[tokio::test(start_paused = true)]
async fn a_range_request_joins_a_running_fill() {
    let (hub, blob, proxy) = lazy(false).await;
    let (path, gate) = (blob.path(REPOSITORY), Gate::new());
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::HoldAt(LEN / 2, gate.clone()));
    let whole = proxy.get_often(&path, 1);
    gate.reached().await;
    settle().await;

    let reply = proxy.get_with(&path, &[("range", "bytes=1000-1999")]).await;
    gate.open();

    assert!(reply.is_complete() && reply.body == blob.bytes[1000..2000]);
    whole.join_all().await[0].assert_is(&blob);
    assert_eq!(hub.body_bytes(&blob.digest), LEN as u64);
}

/// The upstream's refusal is passed on as such, not as a cut.
#[tokio::test(start_paused = true)]
async fn without_fill_on_range_404_and_416_are_passed_on() {
    let (hub, blob, proxy) = lazy(false).await;
    let path = blob.path(REPOSITORY);
    let beyond = proxy.get_with(&path, &[("range", "bytes=9999999-")]).await;
    beyond.assert_status(416);
    assert_eq!(hub.gets(&blob.digest).len(), 0);
    hub.breaks(When::asked(&blob.digest).get(), Fault::status(404));
    proxy.get_with(&path, &[("range", "bytes=0-9")]).await.error(404);
    hub.heal();
    hub.breaks(When::asked(&blob.digest).get(), Fault::status(500));
    proxy.get_with(&path, &[("range", "bytes=0-9")]).await.error(502);
}

/// A cut in the middle is gone on from, as for a fill, and no further than to the range's end.
#[tokio::test(start_paused = true)]
async fn a_range_that_breaks_off_is_gone_on_with() {
    let (hub, blob, proxy) = lazy(false).await;
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::CutAt(4000));
    let range = [("range", "bytes=100000-109999")];

    let reply = proxy.get_with(&blob.path(REPOSITORY), &range).await;

    assert!(reply.is_complete() && reply.body == blob.bytes[100_000..110_000]);
    let gets = hub.gets(&blob.digest);
    assert_eq!(gets[1].header("range"), Some("bytes=104000-109999"));
}

/// An upstream that ignores `Range` would send the layer up to each range, again and again.
#[tokio::test(start_paused = true)]
async fn without_fill_on_range_an_upstream_without_ranges_sends_the_layer_once() {
    let (hub, blob, proxy) = lazy(false).await;
    hub.breaks(When::asked(&blob.digest).get(), Fault::IgnoreRange);
    let path = blob.path(REPOSITORY);
    for (range, bytes) in [
        ("bytes=900000-900999", 900_000..901_000),
        ("bytes=-51", LEN - 51..LEN),
        ("bytes=500000-500999", 500_000..501_000),
    ] {
        let reply = proxy.get_with(&path, &[("range", range)]).await;
        reply.assert_status(206);
        assert!(reply.is_complete() && reply.body == blob.bytes[bytes], "{range}");
        proxy.until_stored(&blob.digest).await;
    }
    assert_eq!(hub.gets(&blob.digest).len(), 2, "the range, and the fill");
    let sent = hub.body_bytes(&blob.digest);
    assert!(sent < (LEN + LEN / 2) as u64, "{sent} bytes of {LEN}");
}
