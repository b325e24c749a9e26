//! The disk never fails a pull: a file system that is full is passed by.
//!
//! These tests mount a small tmpfs, which takes root; without it they say so and check nothing.

use crate::support::metrics::Metrics;
use crate::support::small_disk::{DISK, SmallDisk};
use crate::support::{Blob, Fault, Image, Place, Process, ScriptedRegistry, When};

const REPOSITORY: &str = "library/alpine";
/// Three times the disk and more.
const LEN: usize = 100 << 20;

/// An upstream with a small image and a blob that no small disk can hold.
fn upstream() -> (ScriptedRegistry, Image, Blob) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    let huge = Blob::large(2, LEN);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.put_blob(REPOSITORY, &huge);
    (hub, image, huge)
}

async fn pull_small(larder: &Process, image: &Image) {
    let latest = "/v2/library/alpine/manifests/latest";
    larder.client().get(latest).await.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
}

/// A layer that cannot fit is known not to fit before its first byte: it is passed through.
#[tokio::test]
async fn a_layer_larger_than_the_disk_is_passed_through() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (hub, image, huge) = upstream();
    let larder = Process::with_cache_in(&disk.cache(), hub.listen().await).await;
    pull_small(&larder, &image).await;

    let reply = larder.client().get(&huge.path(REPOSITORY)).await;

    reply.assert_is(&huge);
    let decision = reply.decision();
    assert!(decision.is_bypass(), "{decision:?}");
    assert!(decision.get("detail").is_some_and(|why| !why.is_empty()), "{decision:?}");
    hub.forget();
    pull_small(&larder, &image).await;
    hub.assert_not_asked();
    assert!(larder.files("blobs").iter().all(|(_, len)| *len < DISK as u64));
    assert_eq!(larder.files("fills"), [], "nothing was begun");
}

/// If the length is not known, the disk fills up under the fill, which goes on without it.
#[tokio::test]
async fn a_disk_that_fills_up_in_the_middle_of_a_fill_fails_no_pull() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (hub, image, huge) = upstream();
    hub.breaks(When::asked(&huge.digest), Fault::Chunked);
    let larder = Process::with_cache_in(&disk.cache(), hub.listen().await).await;
    pull_small(&larder, &image).await;

    let (one, two) = tokio::join!(
        larder.client().get(&huge.path(REPOSITORY)),
        larder.client().get(&huge.path(REPOSITORY))
    );

    one.assert_is(&huge);
    two.assert_is(&huge);
    hub.forget();
    pull_small(&larder, &image).await;
    hub.assert_not_asked();
}

/// A blob that the disk does not take is verified all the same, before its last bytes.
#[tokio::test]
async fn wrong_bytes_that_pass_a_full_disk_are_never_served_whole() {
    let Some(disk) = SmallDisk::mount() else { return };
    let hub = ScriptedRegistry::new();
    let larder = Process::with_cache_in(&disk.cache(), hub.listen().await).await;
    for place in [Place::First, Place::Middle, Place::Last] {
        for framing in [None, Some(Fault::Chunked)] {
            let huge = Blob::large(3, DISK + (4 << 20));
            hub.put_blob(REPOSITORY, &huge);
            hub.breaks(When::asked(&huge.digest), Fault::FlipByte(place));
            if let Some(framing) = framing.clone() {
                hub.breaks(When::asked(&huge.digest), framing);
            }

            let reply = larder.client().get(&huge.path(REPOSITORY)).await;
            assert!(!reply.is_complete(), "{place:?} {framing:?}: {:?}", reply.status);
            assert!(reply.body.len() < huge.len(), "{place:?} {framing:?}");
            hub.heal();
        }
    }
}

/// When there is room again, what is pulled is kept again, without a restart.
#[tokio::test]
async fn a_disk_with_room_again_is_used_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (hub, image, _huge) = upstream();
    let larder = Process::with_cache_in(&disk.cache(), hub.listen().await).await;
    let filler = disk.path().join("filler");
    // The write ends with the disk; what is there of the file is all there was room for.
    drop(std::fs::write(&filler, vec![1; DISK]));

    pull_small(&larder, &image).await;
    std::fs::remove_file(&filler).unwrap();
    pull_small(&larder, &image).await;
    let is_stored = |larder: &Process| larder.files("blobs").iter().any(|(_, len)| *len == 100_000);
    larder.until(is_stored, "the layer is stored once there is room").await;

    hub.forget();
    larder.client().get(&image.layers[0].path(REPOSITORY)).await.assert_is(&image.layers[0]);
    hub.assert_not_asked();
}

/// A file system that the kernel made read-only stays so over a restart of the program.
#[tokio::test]
async fn a_cache_that_is_read_only_at_the_start_is_served_from_and_passed_by() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (hub, image, _huge) = upstream();
    let cold = Blob::large(7, 100_001);
    hub.put_blob(REPOSITORY, &cold);
    for has_cache in [true, false] {
        let dir = if has_cache { disk.cache() } else { disk.path().join("none") };
        let mut larder = if has_cache {
            let mut larder = Process::with_cache_in(&dir, hub.listen().await).await;
            pull_small(&larder, &image).await;
            larder.until(|larder| has(larder, &image.layers[0]), "it is stored").await;
            larder.terminate().await;
            disk.remount("ro");
            larder.start_again().await;
            larder
        } else {
            disk.remount("ro");
            Process::with_cache_in(&dir, hub.listen().await).await
        };
        hub.forget();

        pull_small(&larder, &image).await;
        if has_cache {
            hub.assert_not_asked();
        }
        let reply = larder.client().get(&cold.path(REPOSITORY)).await;
        reply.assert_is(&cold);
        assert_eq!(reply.decision().get("detail"), Some("disk-failed"), "{:?}", reply.decision());
        assert!(larder.log().contains("Read-only file system"), "it says so");

        disk.remount("rw");
        larder.client().get(&cold.path(REPOSITORY)).await.assert_is(&cold);
        larder.until(|larder| has(larder, &cold), "it is stored without a restart").await;
        larder.kill();
    }
}

fn has(larder: &Process, blob: &Blob) -> bool {
    larder.files("blobs").iter().any(|(path, _)| path.ends_with(blob.digest.hex()))
}

/// Space is left, and no inode for another file.
#[tokio::test]
async fn a_disk_without_a_free_inode_fails_no_pull() {
    let Some(disk) = SmallDisk::mount_with(",nr_inodes=400") else { return };
    let (hub, image, _huge) = upstream();
    let first = Image::random(3, &[1_000]);
    hub.put_image(REPOSITORY, "first", &first);
    let larder = Process::with_cache_in(&disk.cache(), hub.listen().await).await;
    let path = "/v2/library/alpine/manifests/first";
    larder.client().get(path).await.assert_is(&first.manifest.blob);
    let fillers = (0..).map(|number| disk.path().join(format!("filler-{number}")));
    let fillers: Vec<_> = fillers.take_while(|path| std::fs::write(path, b"").is_ok()).collect();
    assert!(fillers.len() > 10, "the inodes were free for these");

    pull_small(&larder, &image).await;
    let layers =
        |larder: &Process| larder.files("blobs").iter().filter(|(_, len)| *len == 100_000).count();
    assert_eq!(layers(&larder), 0, "there is no inode for a blob");
    for filler in &fillers {
        std::fs::remove_file(filler).unwrap();
    }
    pull_small(&larder, &image).await;
    larder.until(|larder| layers(larder) == 1, "it is stored once there is an inode").await;
}

/// Nothing can be written, and so nothing has to be: a name is removed, and there is room.
#[tokio::test]
async fn a_disk_that_others_have_filled_is_made_room_on_by_evicting() {
    let Some(disk) = SmallDisk::mount() else { return };
    let hub = ScriptedRegistry::new();
    let layers: Vec<_> = (0..6).map(|seed| Blob::large(seed, 4 << 20)).collect();
    for layer in &layers {
        hub.put_blob(REPOSITORY, layer);
    }
    let larder = Process::with_cache_in(&disk.cache(), hub.listen().await).await;
    let stored = |count: usize| {
        move |larder: &Process| {
            let files = larder.files("blobs");
            files.iter().filter(|(_, len)| *len == 4 << 20).count() == count
        }
    };
    for layer in &layers[..5] {
        larder.client().get(&layer.path(REPOSITORY)).await.assert_is(layer);
    }
    larder.until(stored(5), "all five are stored").await;
    let filler = disk.path().join("filler");
    drop(std::fs::write(&filler, vec![1; DISK]));

    let reply = larder.client().get(&layers[5].path(REPOSITORY)).await;

    reply.assert_is(&layers[5]);
    assert!(reply.decision().is_miss(), "{:?}", reply.decision());
    let digest = layers[5].digest.hex().to_owned();
    let is_stored =
        |larder: &Process| larder.files("blobs").iter().any(|(path, _)| path.ends_with(&digest));
    larder.until(is_stored, "the new one is stored").await;
    assert!(!stored(6)(&larder), "another one has made room");
}

/// A full disk has room for a small blob, and that must not hide it from alerts.
#[tokio::test]
async fn a_full_disk_shows_until_a_blob_as_large_as_the_lost_one_finds_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let hub = ScriptedRegistry::new();
    let [large, small, again] =
        [(1, 12 << 20), (2, 10_000), (3, 12 << 20)].map(|(seed, len)| Blob::large(seed, len));
    for blob in [&large, &small, &again] {
        hub.put_blob(REPOSITORY, blob);
    }
    let larder = Process::with_cache_in(&disk.cache(), hub.listen().await).await;
    let pull = async |blob: &Blob| {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
    };
    let has = |larder: &Process, blob: &Blob| {
        larder.files("blobs").iter().any(|(path, _)| path.ends_with(blob.digest.hex()))
    };
    let is_degraded = async || {
        let ready = larder.admin().get("/readyz").await.text();
        let metrics = larder.admin().get("/metrics").await;
        let metrics = Metrics::read(std::str::from_utf8(&metrics.body).unwrap());
        let shown = metrics.sum("larder_disk_bypassed", &[("reason", "no-space")]) == 1;
        assert_eq!(ready.contains("disk-bypassed"), shown, "{ready}");
        shown
    };
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; DISK - (6 << 20)]).unwrap();

    pull(&large).await;
    assert!(is_degraded().await);
    pull(&small).await;
    larder.until(|larder| has(larder, &small), "the small one is stored").await;
    assert!(is_degraded().await, "there is no room for the large one");

    std::fs::remove_file(&filler).unwrap();
    pull(&again).await;
    larder.until(|larder| has(larder, &again), "the disk has room again").await;
    assert!(!is_degraded().await, "it is over");
}

/// A twentieth of a small disk is left free, whatever `min_free` says, and that is no secret.
#[tokio::test]
async fn a_min_free_that_is_too_much_for_the_disk_is_told_of_and_left_out_of_the_free_space() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (hub, image, _huge) = upstream();
    for (min_free, kept, is_told) in [("1GiB", DISK / 20, true), ("1MiB", 1 << 20, false)] {
        let upstream = hub.listen().await;
        let larder = Process::with_min_free(&disk.cache(), upstream, min_free).await;
        pull_small(&larder, &image).await;
        let metrics = larder.admin().get("/metrics").await;
        let metrics = Metrics::read(std::str::from_utf8(&metrics.body).unwrap());
        let value = |name: &str| usize::try_from(metrics.sum(name, &[])).unwrap();
        assert_eq!(value("larder_disk_min_free_bytes"), kept, "{min_free}");
        let (free, size) = (value("larder_disk_free_bytes"), value("larder_disk_size_bytes"));
        assert!(free <= size - kept && free > size - kept - (4 << 20), "{free} of {size}");

        if is_told {
            let is_told = |larder: &Process| larder.log().contains("a twentieth of the disk");
            larder.until(is_told, "it is logged").await;
        } else {
            assert!(!larder.log().contains("min_free"), "{}", larder.log());
        }
    }
}
