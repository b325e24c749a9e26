//! A machine that runs short of what every program needs: file descriptors, a place for the log.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::support::client::request;
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

/// A file descriptor is what each connection takes, and what each content that is read takes.
const FEW_DESCRIPTORS: u64 = 64;

/// However few descriptors there are, each of many clients has its turn.
#[tokio::test]
async fn five_hundred_clients_are_served_with_sixty_four_descriptors() {
    let (hub, image) = upstream();
    let larder = Process::before(hub.listen().await, "").await;
    pull(&larder, &image).await;
    larder.limit_open_files(FEW_DESCRIPTORS);
    let blob = image.blobs().last().unwrap();

    let replies = (0..500).map(|_| larder.client().get(&blob.path(REPOSITORY)));
    for reply in futures_of(replies) {
        reply.await.unwrap().assert_is(blob);
    }

    assert!(larder.open_files() <= FEW_DESCRIPTORS);
    assert!(!larder.log().contains("Too many open files"), "{}", larder.log());
}

fn futures_of<F>(futures: impl Iterator<Item = F>) -> Vec<tokio::task::JoinHandle<F::Output>>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    futures.map(tokio::spawn).collect()
}

/// Connections without a request make room for those with one, in whatever state they are idle.
#[tokio::test]
async fn idle_clients_keep_no_other_from_cached_content_and_health() {
    let (hub, image) = upstream();
    let larder = Process::before(hub.listen().await, "").await;
    pull(&larder, &image).await;
    larder.limit_open_files(FEW_DESCRIPTORS);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let whole = request("GET", "1.1", "/v2/", &[]);
    let sent: [&[u8]; 4] = [b"", b"GET /v2/ HTTP/1.1\r\n", preface, &whole];
    for sent in sent {
        let mut idle: Vec<_> = (0..100).map(|_| larder.raw()).collect();
        for connection in &mut idle {
            connection.send(sent).await;
        }
        let healthy = larder.admin().get("/healthz").await;
        assert_eq!(healthy.status, 200);
        pull(&larder, &image).await;
        assert!(larder.open_files() <= FEW_DESCRIPTORS);
    }
    // Others of the operator's side make room there.
    let idle: Vec<_> = (0..100).map(|_| larder.admin().raw()).collect();
    assert_eq!(larder.admin().get("/healthz").await.status, 200);
    pull(&larder, &image).await;
    drop(idle);
    let free = |larder: &Process| larder.open_files() < FEW_DESCRIPTORS / 2;
    larder.until(free, "descriptors are free again").await;
    assert!(!larder.log().contains("Too many open files"), "{}", larder.log());
}

/// A client that takes nothing of what it has asked for holds two descriptors with each request.
#[tokio::test]
async fn clients_that_take_nothing_keep_others_from_nothing_for_long() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[8 << 20]);
    hub.put_image(REPOSITORY, "latest", &image);
    let larder = Process::before(hub.listen().await, "").await;
    pull(&larder, &image).await;
    larder.limit_open_files(FEW_DESCRIPTORS);
    let blob = image.blobs().last().unwrap();

    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut connection = larder.raw();
        connection.send(&request("GET", "1.1", &blob.path(REPOSITORY), &[])).await;
        stalled.push(connection);
    }
    assert_eq!(larder.admin().get("/healthz").await.status, 200);
    for blob in image.blobs() {
        larder.client_from(2).get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    assert!(larder.open_files() <= FEW_DESCRIPTORS);
    drop(stalled);
    let free = |larder: &Process| larder.open_files() < FEW_DESCRIPTORS / 2;
    larder.until(free, "descriptors are free again").await;
    pull(&larder, &image).await;
}

/// Four threads for each processor take all the time that they can get: everything is slower, and
/// nothing is given up, neither a hit nor what has to be fetched.
#[tokio::test]
async fn busy_processors_make_requests_slower_and_end_none() {
    let (hub, image) = upstream();
    let larder = Process::before(hub.listen().await, "").await;
    pull(&larder, &image).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().unwrap().get();
    let burners: Vec<_> = (0..4 * cores)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || while !is_over.load(Ordering::Relaxed) {})
        })
        .collect();

    for round in 0..5_u64 {
        let cold = Image::random(10 + round, &[1 << 20, 1000]);
        hub.put_image(REPOSITORY, &format!("cold-{round}"), &cold);
        let path = format!("/v2/{REPOSITORY}/manifests/cold-{round}");
        let blobs = cold.blobs().map(|blob| (blob.path(REPOSITORY), blob));
        for (path, blob) in [(path, &cold.manifest.blob)].into_iter().chain(blobs) {
            let replies = (0..10).map(|_| larder.client().get(&path));
            for reply in futures_of(replies) {
                reply.await.unwrap().assert_is(blob);
            }
            assert_eq!(hub.gets(&blob.digest).len(), 1, "one fetch for all");
        }
        pull(&larder, &image).await;
        assert_eq!(larder.admin().get("/readyz").await.status, 200);
    }

    is_over.store(true, Ordering::Relaxed);
    for burner in burners {
        burner.join().unwrap();
    }
    assert!(!larder.log().contains(" WARN "), "{}", larder.log());
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
