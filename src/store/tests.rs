//! The promises of the store, on a real directory.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    BootClock, HashedFile, OpenError, RegistryGroup, RetentionLimits, SpaceLimits, Store,
    StoreOptions, StoredState, VerifiedContent,
};
use crate::clock::{SystemClock, WallClock as _};
use crate::oci::{Algorithm, Digest, RegistryName};

fn options(dir: &TempDir) -> StoreOptions {
    let (fill_keep, verify_every) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    StoreOptions {
        dir: dir.path().join("cache"),
        limits: SpaceLimits::NONE,
        retention: RetentionLimits::default(),
        fill_keep,
        verify_every,
        index: None,
    }
}

fn open(dir: &TempDir) -> Result<Store, OpenError> {
    Store::open(options(dir), BootClock::default())
}

/// A download of a blob that brought these bytes.
async fn downloaded(store: &Store, registry: &str, digest: &Digest, bytes: &[u8]) -> HashedFile {
    let file = store.open_fill(&registry.parse().unwrap(), digest).await.unwrap();
    let (sender, queue) = mpsc::channel(1);
    sender.try_send(bytes.to_vec()).unwrap();
    drop(sender);
    file.append(None, queue, |_| {}).await.unwrap()
}

async fn download(store: &Store, digest: &Digest, bytes: &[u8]) {
    let file = downloaded(store, "docker.io", digest, bytes).await;
    file.commit(digest, |_| {}).await.unwrap().kept.unwrap();
}

async fn found(store: &Store, digest: &Digest) -> Option<StoredState> {
    store.content().open(digest, None).await.unwrap()
}

#[tokio::test]
async fn fills_of_two_registries_are_separate_and_the_first_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"x");
    let mut files = Vec::new();
    for registry in ["a.example", "b.example"] {
        files.push(downloaded(&store, registry, &digest, b"x").await);
        assert_eq!(files.last().unwrap().len(), 1);
    }
    for file in files {
        file.commit(&digest, |_| {}).await.unwrap().kept.unwrap();
    }
    assert!(found(&store, &digest).await.is_some());
}

#[test]
fn one_process_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Locked { .. })));
    drop(first);
    open(&dir).unwrap();
}

#[tokio::test]
async fn small_content_that_rotted_is_removed_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"fine");
    download(&store, &digest, b"fine").await;
    let small = async || store.content().small(&digest, 10).await.unwrap();
    assert_eq!(small().await.unwrap().content(), "fine");

    let path = store.layout.blob(&digest);
    fs::remove_file(&path).unwrap();
    fs::write(path, b"fire").unwrap();
    assert!(small().await.is_none());
    assert!(found(&store, &digest).await.is_none());
}

#[tokio::test]
async fn old_downloads_are_removed_unless_they_are_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let registry: RegistryName = "docker.io".parse().unwrap();
    let (old, busy) = (Digest::of(Algorithm::Sha256, b"1"), Digest::of(Algorithm::Sha256, b"2"));
    for digest in [&old, &busy] {
        downloaded(&store, "docker.io", digest, b"x").await.leave().await.unwrap();
    }
    let now = SystemClock.now();
    assert_eq!(store.sweep_fills(now, Vec::new()).await.unwrap(), 0, "they are not old yet");

    let later = now + Duration::from_secs(7200);
    let in_use = vec![(registry.clone(), busy.clone())];
    assert_eq!(store.sweep_fills(later, in_use).await.unwrap(), 1);
    assert!(store.layout.fill(&registry, &busy).exists());
    assert!(!store.layout.fill(&registry, &old).exists());
}

#[tokio::test]
async fn a_link_or_a_directory_in_the_place_of_a_blob_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"x");
    let path = store.layout.blob(&digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();

    std::os::unix::fs::symlink(&secret, &path).unwrap();
    assert!(store.content().open(&digest, None).await.is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(found(&store, &digest).await.is_none());
}

/// A fill of another registry may end while the stored content is stale, and wrong.
#[tokio::test]
async fn content_that_was_just_verified_replaces_stale_content() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"right");
    let path = store.layout.blob(&digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for stored in [&b"rotten"[..], b"right"] {
        drop(fs::remove_file(&path));
        fs::write(&path, stored).unwrap();
        download(&store, &digest, b"right").await;
        assert!(matches!(found(&store, &digest).await, Some(StoredState::Verified(_))));
        assert_eq!(fs::read(&path).unwrap(), b"right");
    }

    let verified = VerifiedContent::check(&digest, Bytes::from_static(b"right")).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"rotten").unwrap();
    store.blobs.put_small(&verified, RegistryGroup::UNKNOWN).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"right");
}
