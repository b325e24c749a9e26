//! The scrub: content that no client asks for is verified all the same, and put right.
//!
//! Files age by the wall clock, which follows the paused one.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use larder::oci::Digest;
use larder::registry::{AskedAs, GrantPolicy, RegistryOptions};
use tokio::time::sleep;

use crate::support::{Blob, Fault, Image, Proxy, ScriptedRegistry, Setup, When, settle};

const REPOSITORY: &str = "library/alpine";
const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// Within it everything is verified.
const EVERY: Duration = Duration::from_secs(8 * 86_400);

/// Within one block, and three with checksums.
const LENS: [usize; 2] = [5000, 2 * MIB + 777];

type RegistryChange = Box<dyn FnOnce(&mut RegistryOptions)>;

async fn scrubbed(hub: &ScriptedRegistry, change: impl FnOnce(&mut RegistryOptions)) -> Proxy {
    let mut setup = Setup::new();
    setup.settings.cache.scrub_every = EVERY;
    change(setup.registry("docker.io", hub));
    setup.start().await
}

/// A proxy that has the blob, stored a moment ago.
async fn with_blob(len: usize) -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(len as u64, len);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = scrubbed(&hub, |_| {}).await;
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    settle().await;
    hub.forget();
    (hub, blob, proxy)
}

/// Changes a byte as a disk does that rots: it does not tell.
fn flip(path: &Path, at: usize) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
    file.set_modified(modified).unwrap();
}

async fn lost_and_read(proxy: &Proxy) -> (u64, bool) {
    let metrics = proxy.metrics().await;
    let value = |name| metrics.value(name, &[]);
    (value("larder_scrub_lost_total"), value("larder_scrubbed_bytes_total") > 0)
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_in_a_blob_that_no_client_asks_for_is_found_and_put_right() {
    for len in LENS {
        for has_sums in [true, false] {
            let case = format!("{len} {has_sums}");
            let (hub, blob, proxy) = with_blob(len).await;
            let file = proxy.blob_file(&blob.digest);
            flip(&file, len / 2);
            if !has_sums {
                drop(fs::remove_file(proxy.sums_file(&blob.digest)));
            }

            sleep(EVERY).await;
            proxy.until(|| proxy.verification().2 == 1, &case).await;

            assert_eq!(proxy.verification(), (0, 1, 1), "{case}");
            assert_eq!(fs::read(&file).unwrap(), blob.bytes, "{case}");
            assert_eq!(hub.gets(&blob.digest).len(), 1, "{case}");
            assert_eq!(lost_and_read(&proxy).await, (0, true), "{case}");
            assert!(proxy.get(&blob.path(REPOSITORY)).await.decision().is_hit(), "{case}");
        }
    }
}

/// A manifest is not served by the way that blobs are.
#[tokio::test(start_paused = true)]
async fn a_manifest_is_put_right_from_memory_or_from_the_upstream() {
    for is_in_memory in [true, false] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[100]);
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = scrubbed(&hub, |_| {}).await;
        proxy.pull(REPOSITORY, "latest", &image).await;
        settle().await;
        if !is_in_memory {
            proxy.restart().await;
        }
        hub.forget();
        let manifest = &image.manifest.blob;
        flip(&proxy.blob_file(&manifest.digest), 5);

        sleep(EVERY).await;
        proxy.until(|| proxy.verification().2 == 1, "healed").await;

        assert_eq!(proxy.verification().1, 1);
        assert_eq!(fs::read(proxy.blob_file(&manifest.digest)).unwrap(), manifest.bytes);
        let fetched = hub.gets("manifests").len();
        assert_eq!((fetched, hub.gets("blobs").len()), (usize::from(!is_in_memory), 0));
    }
}

/// Wrong bytes are of no use, so they do not stay, and no client waits for them.
#[tokio::test(start_paused = true)]
async fn content_that_cannot_be_fetched_is_gone_and_counted() {
    let client_identity = AskedAs::Client(GrantPolicy { ttl: DAY, grace: DAY });
    let changes: [(&str, RegistryChange); 4] = [
        ("down", Box::new(|_| {})),
        ("offline", Box::new(|it| it.rules.offline = true)),
        ("no longer allowed", Box::new(|it| it.rules.allow.clear())),
        ("asked as clients", Box::new(move |it| it.identity = client_identity)),
    ];
    for (case, change) in changes {
        let (hub, blob, mut proxy) = with_blob(LENS[0]).await;
        if case == "down" {
            hub.breaks(When::asked(&blob.digest), Fault::status(503));
        }
        proxy.reload(|settings| change(&mut settings.registries[0]));
        flip(&proxy.blob_file(&blob.digest), 0);

        sleep(EVERY).await;
        proxy.until(|| proxy.verification().1 == 1, case).await;
        sleep(DAY).await;

        assert_eq!(proxy.verification(), (0, 1, 0), "{case}");
        assert!(!proxy.has_stored(&blob.digest), "{case}");
        assert_eq!(lost_and_read(&proxy).await, (1, true), "{case}");
        if case != "down" {
            hub.assert_not_asked();
        }
    }
}

/// Larder does not remember which upstream a blob came from: any that had it will do.
#[tokio::test(start_paused = true)]
async fn a_blob_that_one_registry_has_lost_is_fetched_from_another_that_had_it() {
    let (first, second) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let blob = Blob::random(1, LENS[0]);
    let mut setup = Setup::new();
    setup.settings.cache.scrub_every = EVERY;
    setup.registry("docker.io", &first);
    setup.registry("quay.io", &second);
    let proxy = setup.start().await;
    first.put_blob(REPOSITORY, &blob);
    second.put_blob("team/tool", &blob);
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    proxy.until_stored(&blob.digest).await;
    proxy.get(&blob.path("quay.io/team/tool")).await.assert_is(&blob);
    settle().await;
    first.breaks(When::asked(&blob.digest), Fault::status(404));
    flip(&proxy.blob_file(&blob.digest), 7);

    sleep(EVERY).await;
    proxy.until(|| proxy.verification().2 == 1, "put right").await;

    assert_eq!(second.gets(&blob.digest).len(), 1);
    assert_eq!(fs::read(proxy.blob_file(&blob.digest)).unwrap(), blob.bytes);
}

/// A machine that is restarted each day must not verify the first blobs again and again.
#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_scrub_was() {
    let hub = ScriptedRegistry::new();
    let blobs: Vec<_> = (0..20).map(|seed| Blob::random(seed, LENS[0])).collect();
    let proxy = scrubbed(&hub, |_| {}).await;
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
        proxy.until_stored(&blob.digest).await;
    }
    settle().await;
    let mut checked = 0;
    for day in 1..=16 {
        sleep(DAY).await;
        checked += proxy.verification().0;
        if day == 5 {
            assert_eq!(checked, 0, "what was verified lately is left alone");
        }
        if day % 3 == 0 { proxy.reboot().await } else { proxy.restart().await }
    }
    assert_eq!(checked, 40, "each twice in two rounds");
    let oldest = blobs.iter().map(|blob| modified_ago(&proxy, &blob.digest)).max().unwrap();
    assert!(oldest <= EVERY, "{oldest:?}");
}

fn modified_ago(proxy: &Proxy, digest: &Digest) -> Duration {
    use larder::clock::WallClock as _;
    let modified = fs::metadata(proxy.blob_file(digest)).unwrap().modified().unwrap();
    proxy.clock.now().duration_since(modified).unwrap()
}

/// The rate keeps the disk for clients, and still gets through in time.
#[tokio::test(start_paused = true)]
async fn a_pass_takes_its_time_and_ends_before_the_next_one() {
    let (_hub, blob, proxy) = with_blob(LENS[1]).await;
    proxy.clock.skip(EVERY);
    // The first pass begins after a minute, and reads three blocks at 1 MiB/s.
    sleep(Duration::from_secs(61)).await;
    assert_eq!(proxy.verification(), (0, 0, 0));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(proxy.verification(), (1, 0, 0));
    sleep(DAY).await;
    let metrics = proxy.metrics().await;
    let oldest = metrics.value("larder_scrub_oldest_seconds", &[]);
    assert!(oldest <= 2 * 86_400, "{oldest}");
    assert!(proxy.get(&blob.path(REPOSITORY)).await.decision().is_hit());
}

/// The order of eviction after a restart goes by when files were read.
#[tokio::test(start_paused = true)]
async fn the_scrub_does_not_count_as_a_use() {
    let (_hub, blob, proxy) = with_blob(LENS[1]).await;
    let file = proxy.blob_file(&blob.digest);
    let long_ago = fs::metadata(&file).unwrap().accessed().unwrap() - 100 * DAY;
    let times = fs::FileTimes::new().set_accessed(long_ago);
    fs::File::open(&file).unwrap().set_times(times).unwrap();

    sleep(EVERY).await;
    proxy.until(|| proxy.verification().0 == 1, "verified").await;

    assert_eq!(fs::metadata(&file).unwrap().accessed().unwrap(), long_ago);
}
