//! An interrupted fetch is resumed from its last byte, within the same pull.

use crate::support::{Blob, Fault, Place, Proxy, ScriptedRegistry, Version, When, settle};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 500_000;

async fn mirrored() -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    (hub, blob, proxy)
}

/// The `Range` headers of the GETs of a blob, in order.
fn ranges(hub: &ScriptedRegistry, blob: &Blob) -> Vec<Option<String>> {
    let gets = hub.gets(&blob.digest);
    gets.iter().map(|asked| asked.header("range").map(str::to_owned)).collect()
}

/// Bad lines break off; the client must not notice, and the bytes must not be paid for twice.
#[tokio::test(start_paused = true)]
async fn a_fetch_cut_anywhere_goes_on_within_the_pull() {
    let table = [
        (Fault::CutHeaders, None),
        (Fault::CutAt(0), None),
        (Fault::CutAt(1), Some("bytes=1-")),
        (Fault::CutAt(LEN / 2), Some("bytes=250000-")),
        (Fault::CutLastByte, Some("bytes=499999-")),
    ];
    for (fault, range) in table {
        let (hub, blob, proxy) = mirrored().await;
        hub.breaks(When::asked(&blob.digest).get().nth(1), fault.clone());

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        assert_eq!(ranges(&hub, &blob), [None, range.map(str::to_owned)], "{fault:?}");
        assert_eq!(hub.body_bytes(&blob.digest), LEN as u64, "{fault:?}: no byte came twice");
        proxy.until_stored(&blob.digest).await;
        assert_eq!(proxy.fills(), [0_u64; 0]);
    }
}

/// One cut is often followed by another.
#[tokio::test(start_paused = true)]
async fn a_fetch_cut_again_and_again_goes_on_each_time() {
    let (hub, blob, proxy) = mirrored().await;
    hub.breaks(When::asked(&blob.digest).get().first(2), Fault::CutAt(LEN / 4));

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    let want = [None, Some("bytes=125000-".to_owned()), Some("bytes=250000-".to_owned())];
    assert_eq!(ranges(&hub, &blob), want);
    assert_eq!(hub.body_bytes(&blob.digest), LEN as u64);
}

/// Silence is a cut without an end: it must be noticed, and the rest fetched from there.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_falls_silent_goes_on_over_another_connection() {
    let (hub, blob, proxy) = mirrored().await;
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::stall_at(LEN / 2));

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    assert_eq!(ranges(&hub, &blob), [None, Some("bytes=250000-".to_owned())]);
}

/// A 200 to a range is allowed to every server; its first bytes are ours already.
#[tokio::test(start_paused = true)]
async fn a_server_that_ignores_ranges_is_understood() {
    for cut in [1, LEN / 2, LEN - 1] {
        let (hub, blob, proxy) = mirrored().await;
        hub.breaks(When::asked(&blob.digest).get(), Fault::IgnoreRange);
        hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::CutAt(cut));

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        assert_eq!(hub.gets(&blob.digest).len(), 2, "cut at {cut}");
        proxy.until_stored(&blob.digest).await;
    }
}

/// Bytes that say they belong elsewhere must not be put here, whichever side is wrong.
#[tokio::test(start_paused = true)]
async fn a_resumption_at_the_wrong_offset_is_never_believed() {
    for version in Version::ALL {
        let (hub, blob, proxy) = mirrored().await;
        hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::CutAt(LEN / 2));
        hub.breaks(When::asked(&blob.digest).get().after(1), Fault::WrongContentRange(1));

        let reply = proxy.client.try_get(version, &blob.path(REPOSITORY)).await;

        if let Ok(reply) = reply
            && reply.status == 200
            && reply.is_complete()
        {
            assert!(reply.body == blob.bytes, "{version:?}: complete and wrong");
        }
        settle().await;
        assert_eq!(proxy.fills(), [LEN as u64 / 2], "{version:?}: none of it was taken");
        hub.heal();
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        proxy.until_stored(&blob.digest).await;
    }
}

/// The wrong part may be the old one: before the upstream is blamed, all is fetched once more.
#[tokio::test(start_paused = true)]
async fn a_resumed_fetch_that_does_not_match_is_fetched_once_from_zero() {
    let (hub, blob, proxy) = mirrored().await;
    let first = When::asked(&blob.digest).get().nth(1);
    hub.breaks(first.clone(), Fault::FlipByte(Place::First));
    hub.breaks(first, Fault::CutAt(LEN / 2));

    let reply = proxy.client.try_get(Version::Http11, &blob.path(REPOSITORY)).await;

    if let Ok(reply) = reply
        && reply.is_complete()
    {
        reply.assert_is(&blob);
    }
    proxy.until_stored(&blob.digest).await;
    assert_eq!(ranges(&hub, &blob), [None, Some("bytes=250000-".to_owned()), None]);
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    assert_eq!(hub.gets(&blob.digest).len(), 3, "the next pull is a hit");
}

/// A registry that shrinks or grows between two answers is not serving one blob.
#[tokio::test(start_paused = true)]
async fn a_total_that_changes_between_answers_is_not_believed() {
    let (hub, blob, proxy) = mirrored().await;
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::CutAt(LEN / 2));
    hub.breaks(When::asked(&blob.digest).get().nth(2), Fault::TooLong(1000));

    let reply = proxy.client.try_get(Version::Http11, &blob.path(REPOSITORY)).await;

    if let Ok(reply) = reply
        && reply.is_complete()
    {
        reply.assert_is(&blob);
    }
    hub.heal();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
}

/// A download that one pull could not finish is resumed by the next one.
#[tokio::test(start_paused = true)]
async fn a_pull_resumes_where_a_failed_one_ended() {
    let (hub, blob, proxy) = mirrored().await;
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::CutAt(LEN / 2));
    hub.breaks(When::asked(&blob.digest).get().after(1), Fault::CutAt(0));

    let failed = proxy.get(&blob.path(REPOSITORY)).await;
    assert!(!failed.is_complete(), "the upstream never sent the second half");
    proxy.until(|| proxy.fills() == [LEN as u64 / 2], "the first half is kept").await;
    hub.heal();
    hub.forget();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    assert_eq!(ranges(&hub, &blob), [Some("bytes=250000-".to_owned())]);
    assert_eq!(hub.body_bytes(&blob.digest), LEN as u64 / 2);
}

/// Nothing came, so there is nothing to go on from, and nothing to keep for a day.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_brings_nothing_leaves_nothing() {
    for fault in [Fault::status(404), Fault::status(500), Fault::CutAt(0)] {
        let hub = ScriptedRegistry::new();
        let blob = Blob::random(1, 1000);
        hub.put_blob(REPOSITORY, &blob);
        hub.breaks(When::asked(&blob.digest), fault.clone());
        let proxy = Proxy::before(&hub).await;

        let reply = proxy.get(&blob.path(REPOSITORY)).await;

        assert!(reply.status != 200 || !reply.is_complete(), "{fault:?}");
        assert_eq!(proxy.fills(), [0_u64; 0], "{fault:?}");
    }
}

/// The registry had the blob a moment ago: a load balancer or a firewall says that it has not.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_something_in_between_in_the_middle_of_a_blob_is_asked_again() {
    let portal = vec![("WWW-Authenticate", "Basic realm=\"portal\"".to_owned())];
    let page = vec![("Content-Type", "text/html".to_owned())];
    // Each with the number of requests that it takes, those to `/v2/` included.
    for (times, fault) in [
        (3, Fault::Status(401, Vec::new(), "")),
        (3, Fault::Status(401, portal, "<html>login")),
        (2, Fault::Status(403, page.clone(), "<html>blocked")),
        (2, Fault::Status(404, page, "<html>404")),
        (3, Fault::Status(404, Vec::new(), "default backend - 404")),
    ] {
        let (hub, blob, proxy) = mirrored().await;
        hub.breaks(When::asked("/v2/").nth(1), Fault::CutAt(LEN / 2));
        hub.breaks(When::asked("/v2/").after(1).first(times), fault.clone());

        let reply = proxy.get(&blob.path(REPOSITORY)).await;

        assert!(reply.is_complete(), "{fault:?}");
        reply.assert_is(&blob);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_gone_in_the_middle_of_its_fetch_is_not_asked_for_again_and_again() {
    let (hub, blob, proxy) = mirrored().await;
    hub.breaks(When::asked(&blob.digest).nth(1), Fault::CutAt(LEN / 2));
    hub.breaks(When::asked(&blob.digest).after(1), Fault::status(404));

    let reply = proxy.get(&blob.path(REPOSITORY)).await;

    assert!(!reply.is_complete());
    assert!(hub.gets(&blob.digest).len() <= 6, "{}", hub.gets(&blob.digest).len());
}
