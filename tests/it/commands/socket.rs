//! The control socket: there while a server runs, its owner's alone, and no more than the files
//! show when it is left behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use crate::support::{Blob, Image, Process, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

async fn before_a_pulled_image() -> (ScriptedRegistry, Image, Process) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let larder = Process::before(hub.listen().await, "").await;
    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    larder.until(|larder| larder.files("blobs").len() == 3, "all blobs are stored").await;
    (hub, image, larder)
}

/// A command must work in every state that an operator finds a machine in.
#[tokio::test]
async fn stats_come_from_the_server_and_after_its_death_from_the_files() {
    let (_hub, image, mut larder) = before_a_pulled_image().await;
    let bytes: usize = image.blobs().map(Blob::len).sum();
    let bytes = (bytes + image.manifest.blob.len()) as u64;
    let socket = larder.cache_dir().join("control.sock");
    let found = fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    larder.client().get(LATEST).await.assert_status(200);
    let live = larder.command(&["stats", "--json"]).await.json();
    assert_eq!(live["server"]["all"]["requests"], 4, "{live}");
    assert_eq!(live["server"]["all"]["hits"], 1, "{live}");
    assert_eq!(live["server"]["registries"]["docker.io"]["hit_ratio"], 0.25, "{live}");
    let people = larder.command(&["stats"]).await;
    assert!(people.out.contains("hits             25.0 % of 4 requests, "), "{people:?}");

    larder.kill();
    assert!(socket.exists(), "a killed process leaves it");
    let dead = larder.command(&["stats", "--json"]).await.json();
    assert!(dead["server"].is_null(), "{dead}");
    let counts = ["blobs", "blob_bytes", "manifests", "tags"].map(|key| dead[key].as_u64());
    assert_eq!(counts, [Some(3), Some(bytes), Some(1), Some(1)], "{dead}");

    larder.start_again().await;
    larder.client().get(LATEST).await.assert_status(200);
    let again = larder.command(&["stats", "--json"]).await.json();
    assert_eq!(again["server"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(larder.terminate().await.code(), Some(0));
    assert!(!socket.exists(), "a clean stop removes it");
    let stopped = larder.command(&["stats", "--json"]).await.json();
    assert_eq!(stopped["blob_bytes"], bytes);
}

#[tokio::test]
async fn a_command_without_a_cache_says_where_it_looked_and_what_to_do() {
    let (_hub, _image, mut larder) = before_a_pulled_image().await;
    larder.kill();
    fs::remove_dir_all(larder.cache_dir()).unwrap();

    let run = larder.command(&["stats"]).await;

    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    let want = format!("error: there is no cache in {}\nhint: ", larder.cache_dir().display());
    assert!(run.err.starts_with(&want), "{run:?}");
}

/// Promise: the disk never fails a pull, nor does a file of an operator in the socket's place.
#[tokio::test]
async fn a_server_without_its_socket_serves_and_commands_read_the_files() {
    let (_hub, image, mut larder) = before_a_pulled_image().await;
    assert_eq!(larder.terminate().await.code(), Some(0));
    fs::write(larder.cache_dir().join("control.sock"), "mine").unwrap();
    larder.start_again().await;

    larder.client().get(LATEST).await.assert_is(&image.manifest.blob);
    assert!(larder.log().contains("no control socket"));
    let run = larder.command(&["stats", "--json"]).await.json();
    assert_eq!((run["server"].is_null(), run["blobs"].as_u64()), (true, Some(3)));
}
