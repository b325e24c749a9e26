//! A disk that fails to flush, to write or to read: what it may have lost is never served.
//!
//! strace has the system calls of the program fail. Where it cannot, these tests say so and check
//! nothing.

use std::fs;
use std::os::unix::fs::FileExt as _;

use crate::support::{Blob, Process, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";
const MIB: usize = 1 << 20;

/// An upstream with a blob, and a proxy before it.
async fn before_a_blob(len: usize) -> (ScriptedRegistry, Blob, Process) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::large(1, len);
    hub.put_blob(REPOSITORY, &blob);
    let larder = Process::before(hub.listen().await, "").await;
    (hub, blob, larder)
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

        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        assert_eq!(hub.body_bytes(&blob.digest), blob.len() as u64, "{fault}: all of it anew");
        larder.until(|larder| has_stored(larder, &blob), "it is stored").await;
        assert_eq!(larder.files("fills"), [], "{fault}");
    }
}

/// After a failed flush the pages of the file may be gone at any time, and what is read then is
/// what the disk has. A reader goes on from the upstream, or is cut if what it has may be wrong.
#[tokio::test]
async fn a_reader_never_gets_what_a_failed_flush_has_lost() {
    let len = 32 * MIB;
    for lost in [0..MIB, len - 8 * MIB..len] {
        let (_hub, blob, larder) = before_a_blob(len).await;
        let Some(strace) = larder.fails(&["fdatasync:error=EIO"], &[]).await else { return };
        let mut client = larder.raw().get("1.1", &blob.path(REPOSITORY), &[]).await.unwrap();
        client.read_until(2 * MIB, 64 << 10).await.unwrap();
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(&blob);
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
