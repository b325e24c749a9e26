//! Many clients, one fetch: the fill goes on whichever of them comes, goes or dawdles.

use crate::support::{Blob, Fault, Gate, Proxy, ScriptedRegistry, Setup, When, settle};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 1 << 20;

/// The most that is held back until length and digest match.
const TAIL: usize = 64 << 10;

/// A cold blob whose upstream stops at `percent` until the gate opens.
async fn held_at(percent: usize) -> (ScriptedRegistry, Blob, Proxy, Gate) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest).get(), Fault::HoldAt(LEN * percent / 100, gate.clone()));
    let proxy = Proxy::before(&hub).await;
    (hub, blob, proxy, gate)
}

/// A rollout starts two hundred machines at once; the upstream must notice one.
#[tokio::test(start_paused = true)]
async fn two_hundred_clients_of_a_cold_blob_cost_one_fetch() {
    let (hub, blob, proxy, gate) = held_at(10).await;

    let clients = proxy.get_often(&blob.path(REPOSITORY), 200);
    gate.reached().await;
    settle().await;
    gate.open();
    let replies = clients.join_all().await;

    assert_eq!(replies.len(), 200);
    for reply in &replies {
        reply.assert_is(&blob);
        assert!(reply.decision().is_miss(), "{:?}", reply.decision());
    }
    let alone = replies.iter().filter(|reply| !reply.decision().is_collapsed()).count();
    assert_eq!(alone, 1, "one began the fetch, the others joined it");
    assert_eq!(hub.gets(&blob.digest).len(), 1);
    assert_eq!(hub.asked().len(), 1, "whose 200 is the proof for all: {:?}", hub.asked());
    assert_eq!(hub.body_bytes(&blob.digest), LEN as u64);
    assert!(proxy.has_stored(&blob.digest));
}

/// The client that began the fetch has no special part: its death harms no other.
#[tokio::test(start_paused = true)]
async fn the_death_of_the_first_client_harms_no_other() {
    for percent in [10, 50, 99] {
        let (hub, blob, proxy, gate) = held_at(percent).await;
        let path = blob.path(REPOSITORY);

        let mut first = proxy.client.raw().get("1.1", &path, &[]).await.unwrap();
        gate.reached().await;
        let others = proxy.get_often(&path, 5);
        let readable = (LEN * percent / 100).min(LEN - TAIL);
        first.read_until(readable, 4096).await.unwrap();
        drop(first);
        settle().await;
        gate.open();

        for reply in others.join_all().await {
            reply.assert_is(&blob);
        }
        assert_eq!(hub.gets(&blob.digest).len(), 1, "killed at {percent} %");
        assert_eq!(hub.body_bytes(&blob.digest), LEN as u64, "killed at {percent} %");
        proxy.until_stored(&blob.digest).await;
    }
}

/// Impatient clients come back; what was already paid for must then be there.
#[tokio::test(start_paused = true)]
async fn a_fill_completes_after_every_client_has_left() {
    for percent in [0, 10, 99] {
        let (hub, blob, proxy, gate) = held_at(percent).await;
        let path = blob.path(REPOSITORY);

        let client = proxy.client.raw().get("1.1", &path, &[]).await.unwrap();
        gate.reached().await;
        drop(client);
        settle().await;
        gate.open();
        proxy.until_stored(&blob.digest).await;
        hub.forget();

        let warm = proxy.get(&path).await;
        warm.assert_is(&blob);
        assert!(warm.decision().is_hit());
        hub.assert_not_asked();
    }
}

/// Reading slowly is a client's right and costs the others nothing: the fill runs ahead of it.
#[tokio::test(start_paused = true)]
async fn a_slow_client_slows_no_other() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(2, 4 * LEN);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    let path = blob.path(REPOSITORY);

    let mut slow = proxy.narrow_client(512).raw().get("1.1", &path, &[]).await.unwrap();
    slow.read_until(100, 10).await.unwrap();
    proxy.get(&path).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;

    assert!(slow.received() == 100, "it has read no more meanwhile");
    assert_eq!(hub.gets(&blob.digest).len(), 1);
    slow.finish().await.assert_is(&blob);
}

/// Streaming is what makes a miss as fast as the upstream: bytes go out before the last is in.
#[tokio::test(start_paused = true)]
async fn a_miss_is_streamed_while_it_is_fetched() {
    let (_hub, blob, proxy, gate) = held_at(50).await;

    let mut client = proxy.client.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;
    client.read_until(LEN / 2, 64 << 10).await.unwrap();

    assert_eq!(proxy.stored(), [""; 0]);
    gate.open();
    client.finish().await.assert_is(&blob);
}

/// One registry's stall must not be another's: fills of one digest are separate by registry.
#[tokio::test(start_paused = true)]
async fn two_registries_fill_one_digest_apart() {
    let (hub, quay) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let blob = Blob::random(3, LEN);
    hub.put_blob("library/a", &blob);
    quay.put_blob("b", &blob);
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::HoldAt(LEN / 10, gate.clone()));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("quay.io", &quay);
    let proxy = setup.start().await;

    let stalled = proxy.get_often(&blob.path("library/a"), 1);
    gate.reached().await;
    proxy.get(&blob.path("quay.io/b")).await.assert_is(&blob);

    assert_eq!((hub.gets(&blob.digest).len(), quay.gets(&blob.digest).len()), (1, 1));
    gate.open();
    for reply in stalled.join_all().await {
        reply.assert_is(&blob);
    }
    proxy.until(|| proxy.fills().is_empty(), "the second to finish leaves something").await;
}

/// A door is how a client spells a name; behind it the content is the same.
#[tokio::test(start_paused = true)]
async fn clients_at_different_doors_share_one_fetch() {
    let (hub, blob, proxy, gate) = held_at(10).await;
    let digest = &blob.digest;
    let doors = [
        format!("/v2/library/alpine/blobs/{digest}"),
        format!("/v2/alpine/blobs/{digest}"),
        format!("/v2/library/alpine/blobs/{digest}?ns=docker.io"),
        format!("/v2/docker.io/library/alpine/blobs/{digest}"),
        format!("/docker.io/v2/library/alpine/blobs/{digest}"),
    ];

    let clients: tokio::task::JoinSet<_> =
        doors.iter().map(|path| proxy.client.get(path)).collect();
    gate.reached().await;
    settle().await;
    gate.open();

    for reply in clients.join_all().await {
        reply.assert_is(&blob);
    }
    assert_eq!(hub.gets(digest).len(), 1);
}

/// The same for manifests: a cold tag asked for by fifty is one HEAD and one GET at most.
#[tokio::test(start_paused = true)]
async fn fifty_clients_of_a_missing_tag_cost_one_upstream_request() {
    let hub = ScriptedRegistry::new();
    let image = crate::support::Image::random(4, &[]);
    hub.put_image(REPOSITORY, "latest", &image);
    let gate = Gate::new();
    hub.breaks(When::asked("manifests/"), Fault::HoldHeaders(gate.clone()));
    let proxy = Proxy::before(&hub).await;

    let clients = proxy.get_often("/v2/library/alpine/manifests/latest", 50);
    gate.reached().await;
    settle().await;
    gate.open();

    for reply in clients.join_all().await {
        reply.assert_is(&image.manifest.blob);
    }
    assert_eq!(hub.gets("manifests/").len(), 1);
    assert!(hub.heads("manifests/").len() <= 1);
}
