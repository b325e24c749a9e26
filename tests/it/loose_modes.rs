//! A cache directory that others could use, or in which links lead elsewhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::{Image, Process, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";

fn mode_of(path: &std::path::Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everything in it is for its owner alone, whatever was there and whatever the umask is.
#[tokio::test]
async fn an_existing_directory_is_tightened_and_all_in_it_is_of_the_owner_alone() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let mut larder = Process::before(hub.listen().await, "").await;
    larder.terminate().await;
    let dir = larder.cache_dir().to_owned();
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    let without_umask = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    larder.run_under(without_umask.map(str::to_owned).to_vec());
    larder.start_again().await;

    let latest = larder.client().get("/v2/library/alpine/manifests/latest").await;
    latest.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        larder.client().get(&blob.path(REPOSITORY)).await.assert_is(blob);
    }
    larder.terminate().await;

    assert_eq!(mode_of(&dir), 0o700);
    for (path, _) in larder.files("") {
        assert_eq!(mode_of(&path) & 0o077, 0, "{}", path.display());
        assert_eq!(mode_of(path.parent().unwrap()) & 0o077, 0, "{}", path.display());
    }
    assert!(larder.log().contains("others could use the cache directory"), "{}", larder.log());
}

/// A start would remove files of another directory there.
#[tokio::test]
async fn a_link_in_the_place_of_a_swept_directory_is_refused_and_nothing_behind_it_removed() {
    let hub = ScriptedRegistry::new();
    let mut larder = Process::before(hub.listen().await, "").await;
    larder.terminate().await;
    for part in ["uploads", "fills", "fills/_drafts", "index"] {
        let (there, aside) = (larder.cache_dir().join(part), larder.cache_dir().join("aside"));
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("1"), "precious").unwrap();
        fs::rename(&there, &aside).unwrap();
        symlink(elsewhere.path(), &there).unwrap();

        let run = larder.command(&["serve"]).await;

        assert_ne!(run.code, Some(0), "{part}");
        assert!(run.err.contains("symbolic link"), "{part}: {}", run.err);
        assert_eq!(fs::read(elsewhere.path().join("1")).unwrap(), b"precious", "{part}");
        fs::remove_file(&there).unwrap();
        fs::rename(&aside, &there).unwrap();
    }
}
