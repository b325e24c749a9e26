//! A machine that runs short of what every program needs: file descriptors, a place for the log.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::support::{Image, Process, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

fn upstream() -> (ScriptedRegistry, Image) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    (hub, image)
}

async fn pull(larder: &Process, image: &Image) {
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
}

/// Idle clients take every descriptor; when they leave, the next is served, without a restart.
#[tokio::test]
async fn clients_are_served_again_when_descriptors_are_free_again() {
    let (hub, image) = upstream();
    let larder = Process::before(hub.listen().await, "").await;
    let most = larder.open_files() + 8;
    larder.limit_open_files(most);

    let idle: Vec<_> = (0..20).map(|_| larder.raw()).collect();
    // The limit is on a descriptor's number, and one that was opened before may be above it.
    larder.until(|larder| larder.open_files() >= most, "no descriptor is left").await;
    drop(idle);
    larder.until(|larder| larder.open_files() < most - 4, "descriptors are free again").await;

    pull(&larder, &image).await;
}

/// A full disk under the log, and a reader of it that has gone.
#[tokio::test]
async fn a_log_that_cannot_be_written_fails_no_pull() {
    let (hub, image) = upstream();
    let address = hub.listen().await;
    let larder = Process::with_log_in(Path::new("/dev/full"), address).await;
    pull(&larder, &image).await;
    drop(larder);

    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(&pipe).unwrap();
    let larder = Process::with_log_in(&pipe, address).await;
    drop(reader);
    pull(&larder, &image).await;
}
