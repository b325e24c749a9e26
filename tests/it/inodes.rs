//! A file system with few inodes: clients choose names, and each name is a file. However many they
//! choose, pulls go on, and the cache goes on being one.
//!
//! `LARDER_NAMES=50000 cargo test --test it inodes` asks for as many names.

use std::fs;
use std::path::Path;

use larder::oci::{Algorithm, Digest};
use tokio::task::JoinSet;

use crate::support::proxy::files_under;
use crate::support::small_disk::SmallDisk;
use crate::support::{Blob, Client, Image, Process, ScriptedRegistry, often};

const REPOSITORY: &str = "library/alpine";
const INODES: usize = 2000;

/// Records may take a quarter of them.
const RECORDS: usize = INODES / 4;

/// Clients at once.
const CLIENTS: usize = 16;

/// The requests of one client for a name that it has chosen.
async fn ask(client: Client, number: u64, image: Image) {
    let get = async |path: String| client.get(&path).await;
    let repository = format!("names/r{number}");
    match number % 5 {
        0 => {
            let reply = get(format!("/v2/{repository}/manifests/latest")).await;
            reply.assert_is(&image.manifest.blob);
            for blob in image.blobs() {
                get(blob.path(&repository)).await.assert_is(blob);
            }
            assert_eq!(get(format!("/v2/{repository}/tags/list?n={number}")).await.status, 200);
        }
        1 => {
            let reply = get(format!("/v2/{REPOSITORY}/manifests/t{number}")).await;
            reply.assert_is(&image.manifest.blob);
        }
        2 => assert_eq!(get(format!("/v2/{repository}/manifests/none")).await.status, 404),
        3 => assert_eq!(get(format!("/v2/{repository}/tags/list")).await.status, 404),
        _ => {
            let none = Digest::of(Algorithm::Sha256, &number.to_le_bytes());
            for kind in ["blobs", "manifests"] {
                let reply = get(format!("/v2/{REPOSITORY}/{kind}/{none}")).await;
                assert_eq!(reply.status, 404);
            }
        }
    }
}

/// Holds what [`ask`] finds.
fn hold(hub: &ScriptedRegistry, number: u64) -> Image {
    let image = Image::random(number + 10, &[100]);
    match number % 5 {
        0 => hub.put_image(&format!("names/r{number}"), "latest", &image),
        1 => hub.put_tagged(REPOSITORY, &format!("t{number}"), &image.manifest),
        _ => {}
    }
    image
}

/// Files and directories.
fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|it| 1 + if it.path().is_dir() { count(&it.path()) } else { 0 }).sum()
}

#[tokio::test]
async fn pulls_go_on_and_are_cached_whatever_names_clients_make_up() {
    for min_free in ["0B", "1GiB"] {
        let Some(disk) = SmallDisk::mount_with(&format!(",nr_inodes={INODES}")) else { return };
        let hub = ScriptedRegistry::new();
        hub.knows_lists();
        let upstream = hub.listen().await;
        let mut larder = Process::with_min_free(&disk.cache(), upstream, min_free).await;
        let mut clients = JoinSet::new();
        for number in 0..often("LARDER_NAMES", 800) {
            if clients.len() == CLIENTS {
                clients.join_next().await.unwrap().unwrap();
            }
            clients.spawn(ask(larder.client(), number, hold(&hub, number)));
            if number % 100 == 0 {
                hub.forget();
                let records = count(&disk.cache().join("registries"));
                // One that is being written counts when it is there.
                assert!(records <= RECORDS + CLIENTS, "{records} after {number}");
            }
        }
        clients.join_all().await;

        let image = Image::random(1, &[100_000, 1000]);
        hub.put_image(REPOSITORY, "latest", &image);
        pull(&larder, &image).await;
        larder.until(|larder| has(larder, &image.layers[0]), "the last image is stored").await;
        hub.forget();
        pull(&larder, &image).await;
        hub.assert_not_asked();

        let free = rustix::fs::statvfs(disk.path()).unwrap().f_favail;
        assert!(free > 0, "inodes are left for others");
        let log = larder.log();
        let complaints: Vec<_> = log.lines().filter(|line| line.contains("No space")).collect();
        assert!(complaints.len() < 10, "{} complaints, as {}", complaints.len(), complaints[0]);
        larder.terminate().await;
        assert_sums_have_blobs(&disk.cache());
    }
}

async fn pull(larder: &Process, image: &Image) {
    let latest = format!("/v2/{REPOSITORY}/manifests/latest");
    larder.client().get(&latest).await.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
}

fn has(larder: &Process, blob: &Blob) -> bool {
    larder.files("blobs").iter().any(|(path, _)| path.ends_with(blob.digest.hex()))
}

/// Checksums of blobs that are gone would be files for nothing.
fn assert_sums_have_blobs(cache: &Path) {
    let sums = cache.join("sums");
    for path in files_under(&sums) {
        let blob = cache.join("blobs").join(path.strip_prefix(&sums).unwrap());
        assert!(blob.exists(), "{} is without its blob", path.display());
    }
}
