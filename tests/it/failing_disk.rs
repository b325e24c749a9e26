//! A disk that fails to flush, to write or to read: what it may have lost is never served.
//!
//! strace has the system calls of the program fail. If it cannot, these tests say so and check
//! nothing.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;

use http::Method;

use crate::support::client::Version;
use crate::support::strace::Strace;
use crate::support::{Blob, Fault, Gate, Image, Process, ScriptedRegistry, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const MIB: usize = 1 << 20;

/// An upstream with a blob, and a proxy before it.
async fn before_a_blob(len: usize) -> (ScriptedRegistry, Blob, Process) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::large(1, len);
    hub.put_blob(REPOSITORY, &blob);
    let larder = Process::before(hub.listen().await, "").await;
    until_open(&larder).await;
    (hub, blob, larder)
}

/// It listens before its store is open.
async fn until_open(larder: &Process) {
    let is_open = |larder: &Process| larder.cache_dir().join("session.key").exists();
    larder.until(is_open, "the store is open").await;
}

fn has_stored(larder: &Process, blob: &Blob) -> bool {
    larder.files("blobs").iter().any(|(path, _)| path.ends_with(blob.digest.hex()))
}

/// The kernel tells of a failed flush once: the next one says that all is well, though bytes are
/// lost that the page cache still has.
#[tokio::test]
async fn a_file_whose_flush_or_write_failed_is_never_used_again() {
    for fault in ["fdatasync:error=EIO", "fdatasync:error=ENOSPC", "pwrite64:error=EIO:when=2+"] {
        let (hub, blob, larder) = before_a_blob(4 * MIB).await;
        let Some(strace) = larder.fails(&[fault], &[]).await else { return };

        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        larder.until(|larder| larder.files("fills").is_empty(), "the file is removed").await;
        assert!(strace.injected() > 0, "{fault}: {}", strace.said());
        assert!(!has_stored(&larder, &blob), "{fault}");
        drop(strace);
        hub.forget();

        // The fill goes on for a moment after its file has gone, and has readers until it ends.
        for _ in 0..100 {
            larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
            if hub.body_bytes(&blob.digest) > 0 {
                break;
            }
        }
        assert_eq!(hub.body_bytes(&blob.digest), blob.len() as u64, "{fault}: all of it anew");
        larder.until(|larder| has_stored(larder, &blob), "it is stored").await;
        larder.until(|larder| larder.files("fills").is_empty(), "nothing is left").await;
    }
}

/// After a failed flush the pages of the file may be gone at any time, and what is read then is
/// what the disk has. A reader goes on from the upstream, or is cut if what it has may be wrong.
#[tokio::test]
async fn a_reader_never_gets_what_a_failed_flush_has_lost() {
    let len = 32 * MIB;
    for lost in [0..MIB, len - 8 * MIB..len] {
        let (hub, blob, larder) = before_a_blob(len).await;
        let gate = Gate::new();
        hub.breaks(When::asked(&blob.digest), Fault::HoldAt(len - 1, gate.clone()));
        let Some(strace) = larder.fails(&["fdatasync:error=EIO"], &[]).await else { return };
        let mut client = larder.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
        client.read_until(2 * MIB, 64 << 10).await.unwrap();
        // Meanwhile the first one's connection takes no more, so that it reads the file later.
        let mut other = larder.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
        other.read_until(len - 2 * MIB, 64 << 10).await.unwrap();
        gate.open();
        other.finish().await.assert_is(&blob);
        larder.until(|larder| larder.files("fills").is_empty(), "the flush failed").await;
        drop(strace);

        // The program has it open still, for the reader.
        let name = format!("sha256-{} (deleted)", blob.digest.hex());
        let mut open = larder.descriptors().into_iter();
        let file = open.find(|fd| fs::read_link(fd).is_ok_and(|link| link.ends_with(&name)));
        let file = fs::OpenOptions::new().write(true).open(file.expect("the reader's file"));
        file.unwrap().write_all_at(&vec![0; lost.len()], lost.start as u64).unwrap();

        let reply = client.finish().await;
        let is_intact = lost.start > 0;
        assert_eq!(reply.is_complete(), is_intact, "{lost:?}");
        if is_intact {
            reply.assert_is(&blob);
        }
    }
}

/// Every package runs it as a user of its own, for whom a file's mode counts: what is left of a
/// commit must not stop the next one.
#[tokio::test]
async fn a_commit_that_was_killed_or_failed_is_done_again_by_a_user_who_is_not_root() {
    for fault in ["renameat2:error=EIO", "renameat2:error=EIO:signal=SIGKILL"] {
        let hub = ScriptedRegistry::new();
        let blob = Blob::large(1, 2 * MIB);
        hub.put_blob(REPOSITORY, &blob);
        let mut larder = Process::as_user(hub.listen().await).await;
        until_open(&larder).await;
        let Some(strace) = larder.fails(&[fault], &[]).await else { return };
        let reply = larder.client().try_get(Version::Http11, &blob.path(REPOSITORY)).await;
        let has_failed =
            |_: &Process| strace.injected() > 0 || strace.said().contains("killed by SIGKILL");
        larder.until(has_failed, "the rename fails").await;
        if fault.contains("KILL") {
            drop(strace);
            larder.kill();
            larder.start_again().await;
        } else {
            reply.expect("the disk fails no pull").assert_is(&blob);
            drop(strace);
        }
        assert_eq!(larder.files("fills").len(), 1, "{fault}: all of it is there");

        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        larder.until(|larder| has_stored(larder, &blob), "it is stored").await;
        larder.until(|larder| larder.files("fills").is_empty(), "nothing is left").await;
        let mode = fs::metadata(&larder.files("blobs")[0].0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400, "{fault}");
    }
}

/// As earlier builds left it.
#[tokio::test]
async fn a_partial_file_that_cannot_be_written_to_is_replaced() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::large(1, 2 * MIB);
    hub.put_blob(REPOSITORY, &blob);
    let larder = Process::as_user(hub.listen().await).await;
    until_open(&larder).await;
    let fills = larder.cache_dir().join("fills/docker.io");
    fs::create_dir_all(&fills).unwrap();
    let left = fills.join(format!("sha256-{}", blob.digest.hex()));
    fs::write(&left, &blob.bytes).unwrap();
    fs::set_permissions(&left, fs::Permissions::from_mode(0o400)).unwrap();
    if rustix::process::geteuid().is_root() {
        for path in [&fills, &left] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
    }

    larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    larder.until(|larder| has_stored(larder, &blob), "it is stored").await;
    larder.until(|larder| larder.files("fills").is_empty(), "nothing is left").await;
}

/// Draft and copy cannot be renamed, and cannot be removed either: they go when the disk works.
#[tokio::test]
async fn files_that_could_be_neither_kept_nor_removed_go_when_the_disk_works_again() {
    let hub = ScriptedRegistry::new();
    let (blob, image) = (Blob::random(5, MIB), Image::random(1, &[1000]));
    hub.put_image(REPOSITORY, "latest", &image);
    let keys = "push = true\n[access]\nanonymous = 'push'";
    let larder = Process::before(hub.listen().await, keys).await;
    until_open(&larder).await;
    let faults = ["rename,renameat,renameat2:error=EIO", "unlink,unlinkat:error=EIO"];
    let Some(strace) = larder.fails(&faults, &[]).await else { return };
    let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", blob.digest);
    let pushed = larder.client().send(Method::POST, &path, &[], blob.bytes.clone()).await;
    pushed.assert_status(201);
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    let is_left = |larder: &Process| {
        larder.files("uploads").len() == 1 && !larder.files("fills/_drafts").is_empty()
    };
    larder.until(is_left, "they cannot be removed").await;
    drop(strace);

    let other = Image::random(2, &[1000]);
    hub.put_image(REPOSITORY, "other", &other);
    let path = format!("/v2/{REPOSITORY}/manifests/other");
    larder.client().get(&path).await.assert_is(&other.manifest.blob);
    let is_gone = |larder: &Process| {
        larder.files("uploads").is_empty() && larder.files("fills/_drafts").is_empty()
    };
    larder.until(is_gone, "they are removed").await;
}

/// A tidy operator, or a program that cleans up what is empty and old.
#[tokio::test]
async fn directories_that_somebody_removed_are_made_again() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let mut larder = Process::before(hub.listen().await, "").await;
    until_open(&larder).await;
    for part in ["fills", "uploads", "blobs"] {
        fs::remove_dir_all(larder.cache_dir().join(part)).unwrap();
    }

    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    larder.until(|larder| has_stored(larder, &image.layers[0]), "the layer is stored").await;
    larder.terminate().await;
    hub.forget();
    larder.start_again().await;
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    hub.assert_not_asked();
}

/// A part that was just written may be unreadable, too.
#[tokio::test]
async fn a_reader_of_a_blob_that_is_fetched_goes_on_when_a_read_fails() {
    for fault in ["sendfile:error=EIO:when=2", "pread64,preadv2,sendfile:error=EIO:when=3"] {
        let (_hub, blob, larder) = before_a_blob(8 * MIB).await;
        let Some(strace) = larder.fails(&[fault], &[]).await else { return };
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        assert!(strace.injected() > 0, "{fault}: {}", strace.said());
    }
}

/// A disk may fail while it is looked at whether a directory is there.
#[tokio::test]
async fn a_directory_that_cannot_be_looked_at_does_not_end_a_start() {
    for inject in [
        "statx:error=EIO",
        "statx:error=EIO:when=2",
        "statx:error=EIO:when=3",
        "mkdir:error=EIO",
        "openat:error=EIO",
    ] {
        if !Strace::is_installed() {
            return;
        }
        let (_hub, blob, mut larder) = before_a_blob(MIB).await;
        larder.terminate().await;
        let dirs = ["", "blobs", "fills", "lock"].map(|name| larder.cache_dir().join(name));
        let trace = larder.cache_dir().with_file_name("trace");
        let call = inject.split(':').next().unwrap();
        let paths = dirs.iter().map(PathBuf::as_path);
        larder.run_under(Strace::launch(&trace, call, Some(inject), paths));
        larder.start_again().await;
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        let seen = fs::read_to_string(trace).unwrap();
        assert!(seen.contains("(INJECTED)"), "{inject}: {seen}");
    }
}

/// A blob that is stored.
async fn with_a_stored_blob(len: usize) -> (ScriptedRegistry, Blob, Process) {
    let (hub, blob, larder) = before_a_blob(len).await;
    larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    larder.until(|larder| has_stored(larder, &blob), "it is stored").await;
    hub.forget();
    (hub, blob, larder)
}

fn blob_file(larder: &Process) -> PathBuf {
    larder.files("blobs").remove(0).0
}

/// Asks the kernel to evict a file from the page cache. It may read some of it ahead again.
fn evict(file: &Path) {
    let file = fs::File::open(file).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// One unreadable block must neither cut every pull of a layer, nor stay.
#[tokio::test]
async fn a_blob_that_cannot_be_read_is_fetched_anew_in_mid_answer() {
    for fault in [
        "pread64,preadv2,sendfile:error=EIO",
        "pread64,preadv2,sendfile:error=EIO:when=3+",
        "pread64:error=EIO",
        "sendfile:error=EIO",
        "sendfile:error=EIO:when=4+",
    ] {
        for range in ["bytes=0-", "bytes=1000000-5999999", "bytes=-2000000"] {
            let (hub, blob, larder) = with_a_stored_blob(8 * MIB).await;
            let file = blob_file(&larder);
            let Some(strace) = larder.fails(&[fault], &[&file]).await else { return };
            // strace goes by the path, which the new copy gets with the last byte.
            let gate = Gate::new();
            hub.breaks(When::asked(&blob.digest), Fault::HoldAt(blob.len() - 1, gate.clone()));
            let part = match range {
                "bytes=0-" => 0..blob.len(),
                "bytes=-2000000" => blob.len() - 2_000_000..blob.len(),
                _ => 1_000_000..6_000_000,
            };

            let (path, headers) = (blob.path(REPOSITORY), [("range", range)]);
            let (client, mut strace, mut is_hurt) = (larder.client(), Some(strace), false);
            for _ in 0..100 {
                evict(&file);
                let mut reply = pin!(client.get_with(&path, &headers));
                let reply = tokio::select! {
                    reply = &mut reply => reply,
                    () = gate.reached() => {
                        is_hurt = strace.take().is_some_and(|strace| strace.injected() > 0);
                        gate.open();
                        reply.await
                    }
                };
                let is_right = reply.body == blob.bytes[part.clone()];
                assert!(reply.is_complete() && is_right, "{fault} {range}");
                is_hurt |= strace.as_ref().is_none_or(|strace| strace.injected() > 0);
                is_hurt |= fault.contains("when");
                if is_hurt {
                    break;
                }
            }
            assert!(is_hurt, "{fault} {range}");
            drop(strace);

            let gets = hub.gets(&blob.digest).len();
            // If another way of reading works, or works the second time, nothing is fetched.
            let is_lost = fault.contains("pread") && !fault.contains("when");
            assert!(gets == usize::from(is_lost) || fault.contains("when"), "{fault} {range}");
            larder.until(|larder| larder.files("fills").is_empty(), "the copy is stored").await;
            let again = larder.client().get(&path).await;
            again.assert_is(&blob);
            assert!(again.decision().is_hit(), "{fault} {range}: {:?}", again.decision());
            assert_eq!(hub.gets(&blob.digest).len(), gets, "{fault} {range}: it is healed");
        }
    }
}

/// In an outage nothing is better than what the disk has: it is kept, and served when it can be
/// read.
#[tokio::test]
async fn a_blob_that_could_not_be_read_in_an_outage_is_served_when_it_can_be() {
    let (hub, blob, larder) = with_a_stored_blob(2 * MIB).await;
    hub.breaks(When::asked(&blob.digest), Fault::status(503));
    let file = blob_file(&larder);
    evict(&file);
    let fault = "pread64,preadv2,sendfile:error=EIO:when=3+";
    let Some(strace) = larder.fails(&[fault], &[&file]).await else { return };

    let reply = larder.client().get(&blob.path(REPOSITORY)).await;
    assert!(!reply.is_complete(), "it is cut");
    drop(strace);

    let again = larder.client().get(&blob.path(REPOSITORY)).await;
    again.assert_is(&blob);
    assert!(again.decision().is_hit(), "{:?}", again.decision());
}

/// Whichever call it is that the quota stops.
#[tokio::test]
async fn a_quota_that_is_used_up_fails_no_pull() {
    for fault in ["fallocate", "pwrite64", "fdatasync", "renameat2", "mkdir"] {
        let (_hub, blob, larder) = before_a_blob(4 * MIB).await;
        let inject = format!("{fault}:error=EDQUOT");
        let Some(strace) = larder.fails(&[&inject], &[]).await else { return };

        let reply = larder.client().get(&blob.path(REPOSITORY)).await;
        reply.assert_is(&blob);
        larder.until(|_| strace.injected() > 0, "the quota is used up").await;
        if fault == "fallocate" {
            assert_eq!(reply.decision().get("detail"), Some("no-space"));
        }
        assert!(!has_stored(&larder, &blob), "{fault}");
        drop(strace);

        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        larder.until(|larder| has_stored(larder, &blob), "it is stored").await;
        larder.until(|larder| larder.files("fills").is_empty(), "nothing is left").await;
    }
}
