//! A disk that does not answer: it is waited for once, and then passed by until it answers.
//!
//! strace delays the system calls of the program. Where it cannot, these tests say so and check
//! nothing.

use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{Blob, Image, Process, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const COLD: &str = "/v2/library/alpine/manifests/cold";

/// All calls that change something. Reads are served from the page cache, as on a frozen file
/// system.
const CHANGES: &str = "fallocate,pwrite64,fdatasync,rename,renameat2,mkdir,unlink,ftruncate,\
                       utimensat:delay_enter=300s";

/// Clients give up after 30 s; the first have an answer well before that, and later ones at once.
const FIRST: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(4);

fn timed<T>(
    work: impl Future<Output = T> + Send + 'static,
) -> Pin<Box<dyn Future<Output = (T, Duration)> + Send>> {
    Box::pin(async move {
        let begun = Instant::now();
        (work.await, begun.elapsed())
    })
}

#[tokio::test]
async fn a_disk_that_hangs_delays_the_first_pulls_and_no_other_and_is_used_when_it_answers() {
    let hub = ScriptedRegistry::new();
    let (warm, cold) = (Image::random(1, &[100_000]), Image::random(2, &[100_001]));
    hub.put_image(REPOSITORY, "latest", &warm);
    hub.put_image(REPOSITORY, "cold", &cold);
    let blobs: Vec<_> = (0..200).map(|seed| Blob::random(1000 + seed, 20_000)).collect();
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
    }
    let larder = Process::before(hub.listen().await, "").await;
    larder.client().get(LATEST).await.assert_is(&warm.manifest.blob);
    let layer = &warm.layers[0];
    larder.client().get(&layer.path(REPOSITORY)).await.assert_is(layer);
    let is_stored = |larder: &Process, blob: &Blob| {
        larder.files("blobs").iter().any(|(path, _)| path.ends_with(blob.digest.hex()))
    };
    larder.until(|larder| is_stored(larder, layer), "the layer is stored").await;
    let Some(strace) = larder.fails(&[CHANGES], &[]).await else { return };

    let mut first = JoinSet::new();
    for blob in blobs.clone() {
        let reply = larder.client().get(&blob.path(REPOSITORY));
        first.spawn(async move { (timed(reply).await, blob) });
    }
    for ((reply, waited), blob) in first.join_all().await {
        reply.assert_is(&blob);
        assert!(waited < FIRST, "{waited:?}");
    }
    assert!(larder.log().contains("the disk hangs"), "it says so");

    for blob in &blobs[..5] {
        let (reply, waited) = timed(larder.client().get(&blob.path(REPOSITORY))).await;
        reply.assert_is(blob);
        assert!(reply.decision().is_bypass(), "{:?}", reply.decision());
        assert!(waited < LATER, "{waited:?}");
    }
    for (path, want) in [
        (LATEST.to_owned(), &warm.manifest.blob),
        (layer.path(REPOSITORY), layer),
        (COLD.to_owned(), &cold.manifest.blob),
        (cold.manifest.path(REPOSITORY), &cold.manifest.blob),
        (cold.layers[0].path(REPOSITORY), &cold.layers[0]),
    ] {
        let (reply, waited) = timed(larder.client().get(&path)).await;
        reply.assert_is(want);
        assert!(waited < LATER, "{path}: {waited:?}");
    }
    drop(strace);

    larder.until(|larder| larder.log().contains("the disk answers again"), "it is heard").await;
    larder.client().get(&blobs[0].path(REPOSITORY)).await.assert_is(&blobs[0]);
    larder.until(|larder| is_stored(larder, &blobs[0]), "it is used again").await;
}
