//! Bytes that change on the disk: no client gets one of them, and they are put right.
//!
//! The machine is started anew in between, or a long time passes; what is believed in the meantime
//! is believed. A blob of several blocks has checksums beside it, with which parts of it are
//! verified; a test takes them away, or makes them wrong.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use larder::oci::{Algorithm, Digest};

use crate::support::{Blob, Fault, Image, Place, Proxy, Reply, ScriptedRegistry, When};
use crate::support::{VERIFY_EVERY, settle};

const REPOSITORY: &str = "library/alpine";
const MIB: usize = 1 << 20;

/// Within one block, exactly two, and two with a part of a third.
const LENS: [usize; 3] = [5000, 2 * MIB, 2 * MIB + 777];

const PLACES: [Place; 3] = [Place::First, Place::Middle, Place::Last];

/// A proxy that has the blob, on a machine that was started anew since.
async fn stored_before(len: usize) -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(len as u64, len);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    settle().await;
    proxy.reboot().await;
    hub.forget();
    (hub, blob, proxy)
}

fn change(path: &Path, change: impl FnOnce(&fs::File)) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    change(&file);
    // A disk that rots does not tell.
    file.set_modified(modified).unwrap();
}

fn flip(path: &Path, at: usize) {
    change(path, |file| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
    });
}

/// Fails if a byte of a part is another one than the blob's.
#[track_caller]
fn assert_no_wrong_byte(reply: &Reply, blob: &Blob, from: usize, case: &str) {
    if reply.status.is_success() {
        let want = &blob.bytes[from..(from + reply.body.len()).min(blob.len())];
        assert!(reply.body == want, "{case}: a wrong byte among {}", reply.body.len());
    }
}

/// The promise itself: right bytes, and the blob is right again.
#[tokio::test(start_paused = true)]
async fn a_flipped_byte_is_never_served_and_is_put_right() {
    for len in LENS {
        for place in PLACES {
            for has_sums in [true, false] {
                let case = format!("{len} {place:?} {has_sums}");
                let (hub, blob, proxy) = stored_before(len).await;
                flip(&proxy.blob_file(&blob.digest), place.of(len));
                if !has_sums {
                    drop(fs::remove_file(proxy.sums_file(&blob.digest)));
                }

                proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

                proxy.until_stored(&blob.digest).await;
                settle().await;
                assert_eq!(hub.gets(&blob.digest).len(), 1, "{case}");
                assert_eq!(proxy.verification(), (0, 1, 1), "{case}");
                let metrics = proxy.metrics().await;
                let verified =
                    |result| metrics.value("larder_verifications_total", &[("result", result)]);
                assert_eq!((verified("right"), verified("wrong")), (0, 1), "{case}");
                assert_eq!(metrics.value("larder_healed_total", &[]), 1, "{case}");
                let again = proxy.get(&blob.path(REPOSITORY)).await;
                again.assert_is(&blob);
                assert!(again.decision().is_hit(), "{case}");
                assert_eq!(hub.gets(&blob.digest).len(), 1, "{case}");
                assert_eq!(proxy.sums_file(&blob.digest).exists(), len > MIB, "{case}");
            }
        }
    }
}

/// A part is verified without the whole being waited for, and what is wrong elsewhere is found
/// behind.
#[tokio::test(start_paused = true)]
async fn ranges_have_right_bytes_wherever_the_wrong_one_is() {
    let len = LENS[2];
    let ranges = [(0, 99), (MIB - 1, MIB), (MIB + 5, 2 * MIB), (len - 1, len - 1), (0, len - 1)];
    for place in PLACES {
        for (first, last) in ranges {
            let case = format!("{place:?} {first}-{last}");
            let (hub, blob, proxy) = stored_before(len).await;
            flip(&proxy.blob_file(&blob.digest), place.of(len));

            let range = format!("bytes={first}-{last}");
            let reply = proxy.get_with(&blob.path(REPOSITORY), &[("range", &range)]).await;

            reply.assert_status(206);
            assert!(reply.is_complete() && reply.body == blob.bytes[first..=last], "{case}");
            assert!(reply.decision().is_hit() && !reply.decision().is_unverified(), "{case}");
            proxy.until(|| proxy.verification().1 == 1, &format!("{case}: found behind")).await;
            proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
            proxy.until_stored(&blob.digest).await;
            settle().await;
            assert_eq!((hub.gets(&blob.digest).len(), proxy.verification().2), (1, 1), "{case}");
        }
    }
}

/// Without its upstream a wrong blob is as good as none: no answer, or one that is cut.
#[tokio::test(start_paused = true)]
async fn a_flipped_byte_is_not_served_in_an_outage_either() {
    for len in LENS {
        for place in PLACES {
            let case = format!("{len} {place:?}");
            let (hub, blob, proxy) = stored_before(len).await;
            flip(&proxy.blob_file(&blob.digest), place.of(len));
            hub.breaks(When::asked(&blob.digest), Fault::status(503));

            let reply = proxy.get(&blob.path(REPOSITORY)).await;

            assert!(!reply.status.is_success() || !reply.is_complete(), "{case}");
            assert_no_wrong_byte(&reply, &blob, 0, &case);
            assert!(!proxy.has_stored(&blob.digest), "{case}: it is gone");
            assert!(!proxy.sums_file(&blob.digest).exists(), "{case}: with its checksums");
            hub.heal();
            tokio::time::sleep(Duration::from_secs(120)).await;
            proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
            proxy.until_stored(&blob.digest).await;
            settle().await;
            assert_eq!(proxy.verification(), (0, 1, 1), "{case}");
        }
    }
}

/// Offline the cache alone answers: with right bytes or not at all.
#[tokio::test(start_paused = true)]
async fn a_flipped_byte_is_not_served_offline() {
    for len in LENS {
        let (hub, blob, proxy) = stored_before(len).await;
        proxy.stop().await;
        let mut setup = proxy.outlive();
        setup.settings.registries[0].rules.offline = true;
        let proxy = setup.start().await;
        proxy.reboot().await;
        flip(&proxy.blob_file(&blob.digest), len / 2);

        let reply = proxy.get(&blob.path(REPOSITORY)).await;

        assert!(!reply.status.is_success() || !reply.is_complete(), "{len}");
        assert_no_wrong_byte(&reply, &blob, 0, "offline");
        hub.assert_not_asked();
    }
}

/// A file that is too short or too long has told its length before anybody looks at its bytes.
#[tokio::test(start_paused = true)]
async fn another_length_is_found_before_the_headers() {
    for len in LENS {
        for other in [0, 1, len - 1, len + 1] {
            let case = format!("{len} as {other}");
            let (_hub, blob, proxy) = stored_before(len).await;
            change(&proxy.blob_file(&blob.digest), |file| file.set_len(other as u64).unwrap());

            let head = proxy.head(&blob.path(REPOSITORY)).await;
            let reply = proxy.get(&blob.path(REPOSITORY)).await;

            assert_eq!(head.header("content-length"), Some(len.to_string().as_str()), "{case}");
            reply.assert_is(&blob);
            proxy.until_stored(&blob.digest).await;
            settle().await;
            assert_eq!(proxy.verification(), (0, 1, 1), "{case}");
        }
    }
}

/// Checksums can acquit a blob, never condemn it: offline it could not be fetched anew.
#[tokio::test(start_paused = true)]
async fn wrong_checksums_do_a_right_blob_no_harm() {
    let len = LENS[2];
    let other = sums_of_another_blob(len).await;
    for case in ["empty", "torn", "flipped", "another's", "sealed, wrong", "sealed, short"] {
        let (hub, blob, proxy) = stored_before(len).await;
        let path = proxy.sums_file(&blob.digest);
        let right = fs::read(&path).unwrap();
        fs::write(&path, wrong_sums(case, &right, &other)).unwrap();

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        settle().await;
        hub.assert_not_asked();
        assert_eq!(proxy.verification(), (1, 0, 0), "{case}");
        assert!(fs::read(&path).unwrap() == right, "{case}: they are made anew");
    }
}

fn wrong_sums(case: &str, right: &[u8], another: &[u8]) -> Vec<u8> {
    let flipped = |at: usize| {
        let mut sums = right.to_vec();
        sums[at] ^= 1;
        sums
    };
    match case {
        "empty" => Vec::new(),
        "torn" => right[..right.len() - 7].to_vec(),
        "flipped" => flipped(right.len() / 2),
        "another's" => another.to_vec(),
        "sealed, wrong" => resealed(&flipped(right.len() - 70)),
        _ => resealed(&right[..right.len() - 32]),
    }
}

async fn sums_of_another_blob(len: usize) -> Vec<u8> {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(99, len);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until(|| proxy.sums_file(&blob.digest).exists(), "it has checksums").await;
    fs::read(proxy.sums_file(&blob.digest)).unwrap()
}

/// The file of checksums ends with a hash of itself.
fn resealed(sums: &[u8]) -> Vec<u8> {
    let content = &sums[..sums.len() - 64];
    [content, Digest::of(Algorithm::Sha256, content).hex().as_bytes()].concat()
}

/// However many read at once, at whatever speed: right bytes for all, one fetch.
#[tokio::test(start_paused = true)]
async fn readers_at_once_all_get_right_bytes() {
    let len = LENS[2];
    for place in PLACES {
        let (hub, blob, proxy) = stored_before(len).await;
        flip(&proxy.blob_file(&blob.digest), place.of(len));
        let narrow = proxy.narrow_client(4 << 10);
        let mut slow = narrow.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
        slow.read_until(1000, 1000).await.unwrap();

        let replies = proxy.get_often(&blob.path(REPOSITORY), 30).join_all().await;

        for reply in &replies {
            reply.assert_is(&blob);
        }
        slow.finish().await.assert_is(&blob);
        settle().await;
        assert_eq!(hub.gets(&blob.digest).len(), 1, "{place:?}");
        assert_eq!(proxy.verification(), (0, 1, 1), "{place:?}");
    }
}

/// Content that was verified is not verified again until the machine starts or the time is up.
#[tokio::test(start_paused = true)]
async fn verification_is_done_once_for_a_boot_and_a_time() {
    for len in LENS {
        let (hub, blob, proxy) = stored_before(len).await;
        let get = async || proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        get().await;
        settle().await;
        assert_eq!(proxy.verification(), (1, 0, 0), "after a boot");
        get().await;
        settle().await;
        assert_eq!(proxy.verification(), (1, 0, 0), "{len}: known to be right");
        proxy.restart().await;
        get().await;
        settle().await;
        assert_eq!(proxy.verification(), (0, 0, 0), "{len}: by the next process too");

        proxy.clock.skip(VERIFY_EVERY.saturating_sub(Duration::from_secs(3600)));
        get().await;
        settle().await;
        assert_eq!(proxy.verification(), (0, 0, 0), "{len}: not yet");
        proxy.clock.skip(Duration::from_secs(7200));
        get().await;
        settle().await;
        assert_eq!(proxy.verification(), (1, 0, 0), "{len}: after a long time");
        hub.assert_not_asked();
    }
}

/// A manifest names all else, and is small enough to be hashed whole.
#[tokio::test(start_paused = true)]
async fn a_manifest_that_rots_is_fetched_anew() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    settle().await;
    proxy.reboot().await;
    hub.forget();
    flip(&proxy.blob_file(image.manifest.digest()), 10);

    proxy.pull(REPOSITORY, "latest", &image).await;

    settle().await;
    assert_eq!(hub.gets("manifests").len(), 1);
    assert_eq!(hub.gets("blobs").len(), 0);
    // The config and the layer were checked too.
    assert_eq!(proxy.verification(), (2, 1, 1));
}

/// Whatever happens to the files, and whatever is asked for: no wrong byte.
#[tokio::test(start_paused = true)]
async fn no_reader_ever_gets_a_wrong_byte() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..25 {
        let len = *random.choice(&LENS).unwrap();
        let (hub, blob, proxy) = stored_before(len).await;
        let (file, sums) = (proxy.blob_file(&blob.digest), proxy.sums_file(&blob.digest));
        for _ in 0..random.usize(..3) {
            flip(&file, random.usize(..len));
        }
        if random.u8(..4) == 0 {
            let other = random.u64(..2 * len as u64);
            change(&file, |file| file.set_len(other).unwrap());
        }
        if len > MIB {
            match random.u8(..4) {
                0 => fs::remove_file(&sums).unwrap(),
                1 => flip(&sums, random.usize(..64)),
                _ => {}
            }
        }
        if random.u8(..3) == 0 {
            hub.breaks(When::asked(&blob.digest), Fault::status(503));
        }
        let asked: Vec<_> = (0..8)
            .map(|_| {
                let first = random.usize(..len);
                (first, random.usize(first..len))
            })
            .collect();
        let replies = asked.iter().map(|(first, last)| {
            let range = format!("bytes={first}-{last}");
            let headers = [("range", range.as_str())];
            tokio::spawn(proxy.client.get_with(&blob.path(REPOSITORY), &headers))
        });
        let replies: Vec<_> = replies.collect();
        for (reply, (first, last)) in replies.into_iter().zip(asked) {
            let reply = reply.await.unwrap();
            let case = format!("round {round}, {first}-{last} of {len}");
            let from = if reply.status == 200 { 0 } else { first };
            assert_no_wrong_byte(&reply, &blob, from, &case);
            if reply.status == 206 && reply.is_complete() {
                assert_eq!(reply.body.len(), last - first + 1, "{case}");
            }
        }
        hub.heal();
        tokio::time::sleep(Duration::from_secs(120)).await;
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        proxy.until_stored(&blob.digest).await;
        settle().await;
    }
}

/// A file system that keeps no nanoseconds, or takes no change, costs one verification in every
/// process; and a file that another program has changed is not trusted at all.
#[tokio::test(start_paused = true)]
async fn a_file_that_was_touched_is_verified_again() {
    let (hub, blob, proxy) = stored_before(LENS[1]).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    settle().await;
    assert_eq!(proxy.verification(), (1, 0, 0));

    let path = proxy.blob_file(&blob.digest);
    let changed = fs::read(&path).unwrap().iter().rev().copied().collect::<Vec<_>>();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, changed).unwrap();

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    settle().await;
    assert_eq!((hub.gets(&blob.digest).len(), proxy.verification()), (1, (1, 1, 1)));
}
