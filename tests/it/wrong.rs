//! No client receives a complete wrong blob, whatever the upstream does and however either speaks.
//!
//! Complete means that the framing says so: all bytes of the `Content-Length`, a clean last
//! chunk, a clean end of a stream, or, over HTTP/1.0 without a length, the end of the connection.

use std::time::Duration;

use crate::support::{Blob, Fault, Gate, Place, Proxy, Reply, ScriptedRegistry, Version};
use crate::support::{When, settle};

const REPOSITORY: &str = "library/alpine";

/// The most that is held back until length and digest match.
const TAIL: usize = 64 << 10;

/// One below the tail that is held back, one at it, one well beyond.
const LENS: [usize; 3] = [1000, TAIL, 300_000];

async fn mirrored(len: usize) -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(len as u64, len);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    (hub, blob, proxy)
}

/// Everything that makes other bytes of a blob.
fn wrongs() -> Vec<Fault> {
    vec![
        Fault::FlipByte(Place::First),
        Fault::FlipByte(Place::Middle),
        Fault::FlipByte(Place::Last),
        Fault::TooShort(1),
        Fault::TooShort(500),
        Fault::TooLong(1),
        Fault::TooLong(100_000),
        Fault::Truncated(1),
        Fault::Truncated(999),
        Fault::Html200,
        Fault::GzipEncoding,
    ]
}

#[track_caller]
fn assert_not_fooled(reply: Result<Reply, String>, blob: &Blob, case: &str) {
    let Ok(reply) = reply else { return };
    if reply.status.is_success() && reply.is_complete() {
        assert!(reply.body == blob.bytes, "{case}: {} wrong bytes, complete", reply.body.len());
    }
    if !reply.status.is_success() {
        reply.error(reply.status.as_u16());
    }
}

/// Injects each wrong with this framing, pulls in each version, heals, and pulls again.
async fn never_complete_and_wrong(framing: Option<Fault>) {
    for wrong in wrongs() {
        let hub = ScriptedRegistry::new();
        let proxy = Proxy::before(&hub).await;
        let cases = Version::ALL.into_iter().flat_map(|version| LENS.map(|len| (version, len)));
        for (seed, (version, len)) in (0..).zip(cases) {
            let case = format!("{wrong:?} {framing:?} {version:?} {len}");
            let blob = Blob::random(seed, len);
            hub.put_blob(REPOSITORY, &blob);
            hub.breaks(When::asked(&blob.digest), wrong.clone());
            if let Some(framing) = &framing {
                hub.breaks(When::asked(&blob.digest), framing.clone());
            }

            let reply = proxy.client.try_get(version, &blob.path(REPOSITORY)).await;

            assert_not_fooled(reply, &blob, &case);
            settle().await;
            assert!(!hub.gets(&blob.digest).is_empty(), "{case}: was asked");
            assert!(!proxy.has_stored(&blob.digest), "{case}: wrong bytes are stored");
            hub.heal();
            let healed = proxy.client.try_get(version, &blob.path(REPOSITORY)).await;
            healed.unwrap_or_else(|e| panic!("{case}: after healing: {e}")).assert_is(&blob);
            proxy.until_stored(&blob.digest).await;
        }
    }
}

/// The usual upstream: it says how long the blob is.
#[tokio::test(start_paused = true)]
async fn wrong_bytes_with_a_length_are_never_served_whole() {
    never_complete_and_wrong(None).await;
}

/// Chunks: nothing says how long the blob should be, but their end is clean.
#[tokio::test(start_paused = true)]
async fn wrong_bytes_in_chunks_are_never_served_whole() {
    never_complete_and_wrong(Some(Fault::Chunked)).await;
}

/// The end of the connection is the end of the body: a cut looks like an end, only the digest
/// knows.
#[tokio::test(start_paused = true)]
async fn wrong_bytes_up_to_the_close_are_never_served_whole() {
    never_complete_and_wrong(Some(Fault::CloseDelimited)).await;
}

/// The upstream's idea of the digest proves nothing, right or wrong: the bytes do.
#[tokio::test(start_paused = true)]
async fn the_upstreams_digest_header_is_no_proof() {
    let other = Blob::random(77, 10);
    for claim in [Fault::WrongDigestHeader(other.digest.to_string()), Fault::NoDigestHeader] {
        let (hub, blob, proxy) = mirrored(LENS[2]).await;
        hub.breaks(When::asked(&blob.digest), claim);

        let reply = proxy.get(&blob.path(REPOSITORY)).await;

        reply.assert_is(&blob);
        assert_eq!(reply.header("docker-content-digest"), Some(blob.digest.as_str()));
    }
    let (hub, blob, proxy) = mirrored(1000).await;
    hub.breaks(When::asked(&blob.digest), Fault::FlipByte(Place::Middle));
    hub.breaks(When::asked(&blob.digest), Fault::WrongDigestHeader(blob.digest.to_string()));
    let reply = proxy.client.try_get(Version::Http11, &blob.path(REPOSITORY)).await;
    assert_not_fooled(reply, &blob, "a right header over wrong bytes");
    assert_eq!(proxy.stored(), [""; 0]);
}

/// All clients of one fill learn at once that it is wrong, also those who came late.
#[tokio::test(start_paused = true)]
async fn every_follower_of_a_wrong_fill_is_cut_off() {
    let (hub, blob, proxy) = mirrored(LENS[2]).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::FlipByte(Place::Last));
    hub.breaks(When::asked(&blob.digest).get().nth(1), Fault::HoldAt(LENS[2] / 2, gate.clone()));

    let clients: tokio::task::JoinSet<_> = (0..30)
        .map(|i| proxy.client.try_get(Version::ALL[i % 3], &blob.path(REPOSITORY)))
        .collect();
    gate.reached().await;
    settle().await;
    gate.open();

    for reply in clients.join_all().await {
        assert_not_fooled(reply, &blob, "a follower");
    }
    assert!(!proxy.has_stored(&blob.digest));
    assert!(hub.gets(&blob.digest).len() <= 4, "thirty clients are no reason for thirty tries");
}

/// The tail waits for the proof, and no more than the tail does.
#[tokio::test(start_paused = true)]
async fn the_last_bytes_wait_for_the_proof_and_the_others_do_not() {
    let (hub, blob, proxy) = mirrored(LENS[2]).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::HoldAt(blob.len() - 1, gate.clone()));

    let mut client = proxy.client.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
    gate.reached().await;
    client.read_until(blob.len() - TAIL, 4096).await.expect("all but the tail comes at once");
    let last = client.read_until(blob.len(), 4096);

    assert!(tokio::time::timeout(Duration::from_secs(1), last).await.is_err(), "nothing is proven");
    gate.open();
    client.finish().await.assert_is(&blob);
}

/// HTTP/1.0 without a length ends every body cleanly: it gets a body that is known to be right,
/// or none.
#[tokio::test(start_paused = true)]
async fn http_1_0_gets_nothing_of_unknown_length_before_the_proof() {
    for framing in [Fault::Chunked, Fault::CloseDelimited] {
        let (hub, blob, proxy) = mirrored(LENS[2]).await;
        let gate = Gate::new();
        hub.breaks(When::asked(&blob.digest), framing.clone());
        hub.breaks(When::asked(&blob.digest), Fault::HoldAt(blob.len() - 1, gate.clone()));

        let path = blob.path(REPOSITORY);
        let client = proxy.client.raw().get("1.0", &path, &[]);
        tokio::pin!(client);
        let early = tokio::time::timeout(Duration::from_secs(1), &mut client).await;

        assert!(early.is_err(), "{framing:?}: something was sent before the proof");
        gate.open();
        client.await.unwrap().finish().await.assert_is(&blob);
    }
}
