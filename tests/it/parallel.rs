//! A layer that is pulled by several large ranges at once, as SOCI does: 8 MB, ten at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{Blob, Fault, Proxy, ScriptedRegistry, When};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 100 << 20;

async fn with_fill_on_range(fills: bool) -> (ScriptedRegistry, Blob, Proxy) {
    let blob = Blob::large(1, LEN);
    let (hub, proxy) = Proxy::before_a_blob(&blob, REPOSITORY, fills).await;
    (hub, blob, proxy)
}

/// Pulls all of the blob in bounded ranges of `chunk` bytes, so many at a time.
async fn pull_in_ranges(proxy: &Proxy, blob: &Blob, chunk: usize, at_once: usize) {
    let (path, slots) = (blob.path(REPOSITORY), Arc::new(Semaphore::new(at_once)));
    let mut workers = JoinSet::new();
    for first in (0..LEN).step_by(chunk) {
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        let end = LEN.min(first + chunk);
        let range = format!("bytes={first}-{}", end - 1);
        let get = proxy.client.get_with(&path, &[("range", &range)]);
        let blob = blob.clone();
        workers.spawn(async move {
            let reply = get.await;
            reply.assert_status(206);
            assert!(reply.is_complete() && reply.body == blob.bytes[first..end], "{range}");
            drop(slot);
        });
    }
    workers.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_layer_in_parallel_ranges_is_sent_once_by_the_upstream() {
    for (chunk, at_once, bytes_per_s) in [
        (8_000_000, 10, 40 << 20),
        (8_000_000, 10, 8 << 20),
        (8 << 20, 3, 40 << 20),
        (16 << 20, 10, 40 << 20),
    ] {
        for fills in [true, false] {
            let (hub, blob, proxy) = with_fill_on_range(fills).await;
            hub.breaks(When::asked(&blob.digest).get(), Fault::Drip(bytes_per_s));

            pull_in_ranges(&proxy, &blob, chunk, at_once).await;

            let case = format!("{chunk} bytes, {at_once} at once, {bytes_per_s} B/s, {fills}");
            assert_eq!(hub.body_bytes(&blob.digest), LEN as u64, "{case}");
            assert_eq!(hub.gets(&blob.digest).len(), 1, "{case}");
            proxy.until_stored(&blob.digest).await;
        }
    }
}

/// A lazy puller that reads one large span is not pulling the layer.
#[tokio::test(start_paused = true)]
async fn a_large_range_alone_costs_the_upstream_that_range() {
    let (hub, blob, proxy) = with_fill_on_range(false).await;
    for first in [40_000_000, 0, 80_000_000] {
        let range = format!("bytes={first}-{}", first + 7_999_999);
        let start = Instant::now();
        let reply = proxy.get_with(&blob.path(REPOSITORY), &[("range", &range)]).await;
        assert!(reply.is_complete() && reply.body == blob.bytes[first..first + 8_000_000]);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    assert_eq!(hub.body_bytes(&blob.digest), 24_000_000);
    assert_eq!(proxy.stored(), [""; 0]);
}

/// A fill that does not come near in time is not waited for.
#[tokio::test(start_paused = true)]
async fn ranges_are_fetched_on_their_own_while_the_fill_stands_still() {
    for (first, len, most) in [
        (3_000_000, 100_000, 1),
        (50_000_000, 100_000, 0),
        (50_000_000, 8_000_000, 1),
        (LEN - 51, 51, 0),
    ] {
        let (hub, blob, proxy) = with_fill_on_range(true).await;
        hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::stall_at(1 << 20));
        let (path, start) = (blob.path(REPOSITORY), Instant::now());

        let range = format!("bytes={first}-{}", first + len - 1);
        let reply = proxy.get_with(&path, &[("range", &range)]).await;

        assert!(reply.is_complete() && reply.body == blob.bytes[first..first + len], "{range}");
        let waited = start.elapsed();
        assert!(waited < Duration::from_millis(most * 1000 + 500), "{range}: {waited:?}");
        assert_eq!(hub.gets(&blob.digest)[1].body_sent(), len as u64, "{range}");
    }
}

#[tokio::test(start_paused = true)]
async fn parallel_ranges_wait_for_a_fill_that_stands_still_for_twenty_seconds() {
    let (hub, blob, proxy) = with_fill_on_range(true).await;
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::stall_at(1 << 20));
    let (path, start) = (blob.path(REPOSITORY), Instant::now());
    let ranges =
        [40_000_000, 48_000_000].map(|first| format!("bytes={first}-{}", first + 7_999_999));
    let replies =
        ranges.map(|range| tokio::spawn(proxy.client.get_with(&path, &[("range", &range)])));

    for reply in replies {
        let reply = reply.await.unwrap();
        assert!(reply.is_complete() && reply.body.len() == 8_000_000);
    }

    let waited = start.elapsed().as_secs();
    assert!((20..25).contains(&waited), "{waited} s");
    assert_eq!(hub.gets(&blob.digest).len(), 3);
}
