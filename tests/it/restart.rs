//! Stored content, records and half a download outlive the process.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use larder::app::{App, AppParts};
use larder::clock::SystemClock;
use tokio::runtime::Builder;

use crate::support::proxy::files_under;
use crate::support::{Blob, Decision, Fault, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL};
use crate::support::{Version, When};

const REPOSITORY: &str = "library/alpine";
const LEN: usize = 400_000;
const HALF: u64 = LEN as u64 / 2;

/// How a proxy ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// kill -9, as near as one process can come to it: every task ceases at once.
    Death,
    /// SIGTERM.
    Stop,
}

/// A proxy that ended when half of a blob was on disk, and clients waited for the rest.
fn ended_at_half(end: End) -> (ScriptedRegistry, Blob, Setup) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    hub.breaks(When::asked(&blob.digest), Fault::stall_at(LEN / 2));
    let setup = run(async {
        let proxy = Proxy::before(&hub).await;
        let clients = proxy.get_often(&blob.path(REPOSITORY), 3);
        proxy.until(|| proxy.fills() == [HALF], "half of it is on disk").await;
        if let End::Stop = end {
            proxy.stop().await;
        }
        drop(clients);
        assert_eq!((proxy.fills(), proxy.stored()), (vec![HALF], Vec::new()), "{end:?}");
        proxy.outlive()
    });
    hub.heal();
    hub.forget();
    (hub, blob, setup)
}

/// Runs something to its end in a runtime of its own; all its tasks end with it.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// The file of the one partial download.
fn partial(setup: &Setup) -> PathBuf {
    files_under(&setup.settings.store.dir.join("fills")).pop().expect("a partial download")
}

/// The `Range` headers of the GETs of a blob, in order.
fn ranges(hub: &ScriptedRegistry, blob: &Blob) -> Vec<Option<String>> {
    let gets = hub.gets(&blob.digest);
    gets.iter().map(|asked| asked.header("range").map(str::to_owned)).collect()
}

/// A restart is an upgrade or a reboot; neither is a reason to pay for anything again.
#[tokio::test(start_paused = true)]
async fn a_restart_forgets_nothing() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000, 10]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    for blob in image.blobs() {
        proxy.until_stored(&blob.digest).await;
    }
    hub.forget();

    proxy.restart().await;
    let decisions = proxy.pull(REPOSITORY, "latest", &image).await;

    assert!(decisions.iter().all(Decision::is_hit), "{decisions:?}");
    hub.assert_not_asked();
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    assert_eq!((hub.asked().len(), hub.heads("manifests/latest").len()), (1, 1));
}

/// However a process ends in the middle of a layer: what came is kept, nothing wrong is served,
/// and the next one goes on from there.
#[test]
fn a_stop_in_mid_fill_leaves_only_the_other_half_to_fetch() {
    for end in [End::Death, End::Stop] {
        let (hub, blob, setup) = ended_at_half(end);

        run(async {
            let proxy = setup.start().await;
            assert_eq!(proxy.stored(), [""; 0], "{end:?}");
            proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
            proxy.until_stored(&blob.digest).await;
            assert_eq!(proxy.fills(), [0_u64; 0], "{end:?}");
        });

        assert_eq!(ranges(&hub, &blob), [Some("bytes=200000-".to_owned())], "{end:?}");
        assert_eq!(hub.body_bytes(&blob.digest), HALF, "{end:?}: no byte came twice");
    }
}

/// A program that stops and starts Larder in one process finds the directory free.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_fills_that_outlast_the_grace() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, LEN);
    hub.put_blob(REPOSITORY, &blob);
    hub.breaks(When::asked(&blob.digest), Fault::stall_at(LEN / 2));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.settings.shutdown_grace = Duration::from_secs(1);
    let proxy = setup.start().await;
    let clients = proxy.get_often(&blob.path(REPOSITORY), 1);
    proxy.until(|| proxy.fills() == [HALF], "half of it is on disk").await;
    drop(clients);

    proxy.stop().await;
    proxy.start_again().await;

    hub.heal();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    assert_eq!(ranges(&hub, &blob)[1..], [Some("bytes=200000-".to_owned())]);
}

/// Half a download that no client came back for is lost space, and the disk is not Larder's alone.
#[test]
fn an_old_partial_download_is_swept_at_the_start_and_a_young_one_is_not() {
    let hour = Duration::from_secs(60 * 60);
    for (age, is_kept) in [(23 * hour, true), (25 * hour, false)] {
        let (hub, blob, mut setup) = ended_at_half(End::Death);
        setup.ahead = age;

        run(async {
            let proxy = setup.start().await;
            let fills = if is_kept { vec![HALF] } else { Vec::new() };
            assert_eq!(proxy.fills(), fills, "after {age:?}; fill_keep is 24 hours");
            proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        });

        let range = is_kept.then(|| "bytes=200000-".to_owned());
        assert_eq!(ranges(&hub, &blob), [range], "after {age:?}");
    }
}

/// A torn or damaged half must not spoil the whole: it is found out and fetched anew.
#[test]
fn a_damaged_partial_download_is_fetched_anew() {
    let (hub, blob, setup) = ended_at_half(End::Death);
    let mut bytes = fs::read(partial(&setup)).unwrap();
    bytes[1000] ^= 1;
    fs::write(partial(&setup), bytes).unwrap();

    run(async {
        let proxy = setup.start().await;
        let first = proxy.client.try_get(Version::Http11, &blob.path(REPOSITORY)).await;
        if let Ok(first) = first
            && first.is_complete()
        {
            first.assert_is(&blob);
        }
        proxy.until_stored(&blob.digest).await;
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    });

    let want = [Some("bytes=200000-".to_owned()), None];
    assert_eq!(ranges(&hub, &blob), want, "gone on with, then once from zero");
}

/// A file longer than its blob, as another program or a bug may leave it, is no obstacle either.
#[test]
fn a_partial_download_that_is_too_long_is_no_obstacle() {
    for len in [LEN, LEN + 1, 3 * LEN] {
        let (_hub, blob, setup) = ended_at_half(End::Death);
        fs::write(partial(&setup), vec![0x55; len]).unwrap();

        run(async {
            let proxy = setup.start().await;
            let first = proxy.client.try_get(Version::Http11, &blob.path(REPOSITORY)).await;
            if let Ok(first) = first
                && first.status == 200
                && first.is_complete()
            {
                first.assert_is(&blob);
            }
            proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
            proxy.until_stored(&blob.digest).await;
        });
    }
}

/// A download that was complete but not yet named when the process died needs no further byte.
#[test]
fn a_partial_download_that_is_whole_is_taken_as_it_is() {
    let (hub, blob, setup) = ended_at_half(End::Death);
    fs::write(partial(&setup), &blob.bytes).unwrap();

    run(async {
        let proxy = setup.start().await;
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        proxy.until_stored(&blob.digest).await;
    });

    assert!(hub.body_bytes(&blob.digest) <= LEN as u64, "at most once more, whatever is asked");
}

/// Two processes in one directory would trust each other's half-written files.
#[tokio::test(start_paused = true)]
async fn a_second_app_in_the_same_directory_does_not_start() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    let mut second = Setup::new();
    second.settings.store.dir = proxy.cache_dir();
    second.registry("docker.io", &hub);

    let network = std::sync::Arc::new(second.network.clone());
    let parts =
        AppParts { network, clock: std::sync::Arc::new(SystemClock), ..AppParts::default() };
    let opened = App::open(&second.settings, parts).await;

    assert!(opened.is_err(), "the first has the lock");
    proxy.get("/v2/").await.assert_status(200);
}
