//! What the store promises, on a real directory.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::{BootClock, OpenError, Store, StoreOptions, StoredState, SumHasher, VerifiedContent};
use crate::clock::{SystemClock, WallClock as _};
use crate::oci::{Algorithm, Digest, RegistryName};

fn options(dir: &TempDir) -> StoreOptions {
    let (fill_keep, verify_every) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    StoreOptions {
        dir: dir.path().join("cache"),
        min_free: 0,
        fill_keep,
        verify_every,
        index: None,
    }
}

fn open(dir: &TempDir) -> Result<Store, OpenError> {
    Store::open(options(dir), BootClock::default())
}

fn registry() -> RegistryName {
    "docker.io".parse().unwrap()
}

fn hasher_of(bytes: &[u8]) -> SumHasher {
    let mut hasher = SumHasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher
}

#[test]
fn only_matching_bytes_become_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"right");

    let mut partial = store.partial(&registry(), &digest).unwrap();
    partial.append(&[Bytes::from_static(b"wrong")]).unwrap();
    let refused = partial.commit(hasher_of(b"wrong"), |_| panic!("it is not"));
    assert!(refused.is_err());
    assert!(store.blob(&digest).unwrap().is_none());
    assert!(!store.partial_path(&registry(), &digest).exists(), "wrong bytes are not resumed");

    let mut partial = store.partial(&registry(), &digest).unwrap();
    partial.append(&[Bytes::from_static(b"ri"), Bytes::from_static(b"ght")]).unwrap();
    partial.commit(hasher_of(b"right"), |_| {}).unwrap().kept.unwrap();
    let stored = store.blob(&digest).unwrap();
    assert!(matches!(stored, Some(StoredState::Verified(blob)) if blob.content().len() == 5));
    assert_eq!(store.small(&digest, 10).unwrap().unwrap().content(), "right");
}

#[test]
fn a_partial_file_is_found_again_with_its_length_and_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"hello world");
    let store = open(&dir).unwrap();
    let mut partial = store.partial(&registry(), &digest).unwrap();
    partial.reserve(11).unwrap();
    partial.append(&[Bytes::from_static(b"hello ")]).unwrap();
    drop((partial, store));

    let store = open(&dir).unwrap();
    let mut partial = store.partial(&registry(), &digest).unwrap();
    assert_eq!(partial.len(), 6, "reserving must not change the length");
    let mut hasher = partial.hash().unwrap();
    hasher.update(b"world");
    partial.append(&[Bytes::from_static(b"world")]).unwrap();
    partial.commit(hasher, |_| {}).unwrap().kept.unwrap();
}

#[test]
fn fills_of_two_registries_are_separate_and_the_first_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"x");
    for registry in ["a.example", "b.example"] {
        let mut partial = store.partial(&registry.parse().unwrap(), &digest).unwrap();
        assert!(partial.is_empty());
        partial.append(&[Bytes::from_static(b"x")]).unwrap();
        partial.commit(hasher_of(b"x"), |_| {}).unwrap().kept.unwrap();
    }
    assert!(store.blob(&digest).unwrap().is_some());
}

#[test]
fn one_process_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir).unwrap();
    assert!(matches!(open(&dir), Err(OpenError::Locked { .. })));
    drop(first);
    open(&dir).unwrap();
}

#[test]
fn small_content_that_rotted_is_removed_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"fine");
    let verified = VerifiedContent::check(&digest, Bytes::from_static(b"fine")).unwrap();
    store.put_small(&verified).unwrap();

    fs::write(store.layout.blob(&digest), b"fire").unwrap();
    assert!(store.small(&digest, 10).unwrap().is_none());
    assert!(store.blob(&digest).unwrap().is_none());
}

#[test]
fn old_partials_are_swept_unless_they_are_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let (old, busy) = (Digest::of(Algorithm::Sha256, b"1"), Digest::of(Algorithm::Sha256, b"2"));
    for digest in [&old, &busy] {
        let mut partial = store.partial(&registry(), digest).unwrap();
        partial.append(&[Bytes::from_static(b"x")]).unwrap();
    }
    let now = SystemClock.now();
    assert_eq!(store.sweep(now, |_| false).unwrap(), 0, "they are not old yet");

    let later = now + Duration::from_secs(7200);
    let busy_path = store.partial_path(&registry(), &busy);
    assert_eq!(store.sweep(later, |path| path == busy_path).unwrap(), 1);
    assert!(busy_path.exists());
    assert!(!store.partial_path(&registry(), &old).exists());
}

#[test]
fn a_link_or_a_directory_in_the_place_of_a_blob_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"x");
    let path = store.layout.blob(&digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();

    std::os::unix::fs::symlink(&secret, &path).unwrap();
    assert!(store.blob(&digest).is_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(store.blob(&digest).unwrap().is_none());
}

/// A fill of another registry may end while what is stored is no longer believed, and is wrong.
#[test]
fn what_was_just_verified_takes_the_place_of_what_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"right");
    let path = store.layout.blob(&digest);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for stored in [&b"rotten"[..], b"right"] {
        drop(fs::remove_file(&path));
        fs::write(&path, stored).unwrap();
        let mut partial = store.partial(&registry(), &digest).unwrap();
        partial.append(&[Bytes::from_static(b"right")]).unwrap();
        partial.commit(hasher_of(b"right"), |_| {}).unwrap().kept.unwrap();
        assert!(matches!(store.blob(&digest).unwrap(), Some(StoredState::Verified(_))));
        assert_eq!(fs::read(&path).unwrap(), b"right");
    }

    let verified = VerifiedContent::check(&digest, Bytes::from_static(b"right")).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"rotten").unwrap();
    store.put_small(&verified).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"right");
}
