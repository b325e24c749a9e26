//! A file system with few inodes: clients choose names, and each name is a file. However many they
//! choose, pulls go on, and the cache goes on being one.
//!
//! `LARDER_NAMES=50000 cargo test --test it inodes` asks for as many names.

use std::fs;
use std::path::Path;

use http::Method;
use larder::oci::{Algorithm, Digest};
use tokio::task::JoinSet;

use crate::support::image::OCI_INDEX;
use crate::support::proxy::files_under;
use crate::support::small_disk::SmallDisk;
use crate::support::{
    Blob, Client, Fault, Image, Process, Proxy, ScriptedRegistry, Setup, When, often,
};

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
    match number % 7 {
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
        4 => assert_eq!(get(referrers(number)).await.status, 200),
        5 => {
            let path = format!("/v2/{REPOSITORY}/manifests/none");
            let accept = made_up_accept(number);
            assert_eq!(client.get_with(&path, &[("accept", &accept)]).await.status, 404);
        }
        _ => {
            let none = Digest::of(Algorithm::Sha256, &number.to_le_bytes());
            for kind in ["blobs", "manifests"] {
                let reply = get(format!("/v2/{REPOSITORY}/{kind}/{none}")).await;
                assert_eq!(reply.status, 404);
            }
        }
    }
}

/// Referrers in a repository of thirty components. A registry of OCI has an index of them for any
/// name.
fn referrers(number: u64) -> String {
    let digest = Digest::of(Algorithm::Sha256, &number.to_le_bytes());
    format!("/v2/{}r{number}/referrers/{digest}", format!("d{number}/").repeat(30))
}

fn knows_referrers(hub: &ScriptedRegistry) {
    let headers = vec![("Content-Type", OCI_INDEX.to_owned())];
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    hub.breaks(When::asked("/referrers/"), Fault::Status(200, headers, index));
}

fn made_up_accept(number: u64) -> String {
    format!("application/vnd.x{number}.v1+json, text/x{number};q=0.{}", number % 10)
}

/// Holds what [`ask`] finds.
fn hold(hub: &ScriptedRegistry, number: u64) -> Image {
    let image = Image::random(number + 10, &[100]);
    match number % 7 {
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
        knows_referrers(&hub);
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

/// Nothing is held of such a repository, and so there is no directory of it.
#[tokio::test(start_paused = true)]
async fn lists_of_deep_made_up_names_take_a_file_each_and_no_directories() {
    const ASKED: usize = 100;
    let hub = ScriptedRegistry::new();
    knows_referrers(&hub);
    let proxy = Proxy::before(&hub).await;
    let records = || count(&proxy.cache_dir().join("registries"));
    assert_eq!(proxy.get(&referrers(0)).await.status, 200);
    let before = records();
    for number in 1..=ASKED as u64 {
        for _ in ["asked", "kept"] {
            assert_eq!(proxy.get(&referrers(number)).await.status, 200);
        }
    }
    assert_eq!(hub.gets("/referrers/").len(), ASKED + 1, "they are kept");
    assert!(records() <= before + ASKED, "{} files, {before} before", records());
}

/// Whatever sets of types clients make up, a tag has as many records as there are kinds of them,
/// and a push finds them at once.
#[tokio::test(start_paused = true)]
async fn made_up_sets_of_types_make_few_records_of_a_tag() {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    let proxy = setup.start().await;
    let [old, new] = [1, 2].map(|seed| Image::random(seed, &[1000]));
    hub.put_image(REPOSITORY, "latest", &old);
    proxy.pull(REPOSITORY, "latest", &old).await;
    let records = || count(&proxy.cache_dir().join("registries"));
    let before = records();
    let latest = format!("/v2/{REPOSITORY}/manifests/latest");
    for number in 0..200 {
        let accept = made_up_accept(number);
        proxy.get_with(&latest, &[("accept", &accept)]).await;
    }
    assert!(records() <= before + 4, "{} files, {before} before", records());

    for blob in new.blobs() {
        hub.put_blob(REPOSITORY, blob);
    }
    let media_type = [("content-type", &*new.manifest.media_type)];
    let bytes = new.manifest.blob.bytes.clone();
    proxy.client.send(Method::PUT, &latest, &media_type, bytes).await.assert_status(201);
    proxy.get(&latest).await.assert_is(&new.manifest.blob);
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
