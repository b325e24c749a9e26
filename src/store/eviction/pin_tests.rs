//! Promises of pins, on a real directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::idle::evict_idle;
use super::pin_walk::keep_pins;
use super::retention_tests::put_manifest;
use super::tests::{FiniteStore, MIB};
use crate::oci::{Digest, Reference, RegistryName, RepositoryName};
use crate::store::{PinRules, RetentionLimits, SpaceAmount, SpaceLimits, TagRecord};

/// Pins the tag `keep` of every repository, while it is on.
#[derive(Debug)]
struct KeepRules(AtomicBool);

impl PinRules for KeepRules {
    fn matches_repository(&self, _: &RegistryName, _: &RepositoryName) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn matches(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> bool {
        self.matches_repository(registry, repository) && reference.to_string() == "keep"
    }
}

fn put_tag(store: &FiniteStore, tag: &str, digest: &Digest) {
    let records = store.store.records(&"a.test".parse().unwrap(), &"o/a".parse().unwrap());
    let digest = Some(digest.clone());
    let record = TagRecord { digest, checked_at: SystemTime::UNIX_EPOCH, is_doubtful: false };
    records.put_tag(&tag.parse().unwrap(), None, &record).unwrap();
}

fn look_for_pins(store: &FiniteStore) {
    keep_pins(store.store.blobs.budget()).unwrap();
}

fn pinned(store: &FiniteStore) -> u64 {
    store.store.report().space.pinned
}

/// A store of 64 MiB with pins.
fn store_with_pins() -> (FiniteStore, Arc<KeepRules>) {
    let (store, rules) = (FiniteStore::new(64), Arc::new(KeepRules(AtomicBool::new(true))));
    store.store.set_pins(Arc::clone(&rules) as _);
    (store, rules)
}

#[tokio::test]
async fn pinned_content_stays_whatever_else_has_to_go_until_it_is_pinned_no_longer() {
    let (store, rules) = store_with_pins();
    let (one, two) = (store.store(1, 20).await, store.store(2, 10).await);
    let kept = put_manifest(&store, "a.test", &[&one, &two]);
    put_tag(&store, "keep", &kept);
    look_for_pins(&store);
    let sizes = 30 * MIB as u64..31 * MIB as u64;
    assert!(sizes.contains(&pinned(&store)), "{}", pinned(&store));
    for byte in 10..40 {
        store.store(byte, 9).await;
    }
    assert_eq!(store.has(&[&kept, &one, &two]).await, [true; 3]);
    assert!(store.evicted().count > 20);
    let retention =
        RetentionLimits { max_idle: Some(Duration::ZERO), ..RetentionLimits::default() };
    store.store.set_limits(SpaceLimits::NONE, &retention);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    evict_idle(store.store.blobs.budget());
    assert_eq!(store.has(&[&kept, &one, &two]).await, [true; 3], "however long it was not pulled");
    assert_eq!(store.used_blobs(), pinned(&store), "all else has gone");

    rules.0.store(false, Ordering::Relaxed);
    store.store.pins_changed();
    look_for_pins(&store);
    assert_eq!(pinned(&store), 0);
    evict_idle(store.store.blobs.budget());
    assert_eq!(store.has(&[&kept, &one, &two]).await, [false; 3]);
}

/// A client pulls the manifest first, and its layers for minutes after that.
#[tokio::test]
async fn a_layer_is_pinned_as_it_comes_and_a_tag_that_moves_takes_its_pin_along() {
    let (store, _rules) = store_with_pins();
    let layers: Vec<_> = (1..4).map(|byte| digest_of(byte, 5)).collect();
    let first = put_manifest(&store, "a.test", &[&layers[0], &layers[1]]);
    put_tag(&store, "keep", &first);
    look_for_pins(&store);
    let manifest_alone = pinned(&store);
    store.store(1, 5).await;
    assert!(pinned(&store) > manifest_alone + 5 * MIB as u64 - 1, "without another look");

    let second = put_manifest(&store, "a.test", &[&layers[1], &layers[2]]);
    put_tag(&store, "keep", &second);
    put_tag(&store, "other", &first);
    store.store(2, 5).await;
    store.store(3, 5).await;
    look_for_pins(&store);
    for byte in 10..40 {
        store.store(byte, 9).await;
    }
    let has = store.has(&[&second, &layers[0], &layers[1], &layers[2]]).await;
    assert_eq!(has, [true, false, true, true]);
}

/// An operator needs it all the more when the upstream has it no longer.
#[tokio::test]
async fn an_image_stays_pinned_when_the_upstream_drops_its_tag() {
    let (store, _rules) = store_with_pins();
    let layer = store.store(1, 10).await;
    let kept = put_manifest(&store, "a.test", &[&layer]);
    put_tag(&store, "keep", &kept);
    put_tag(&store, "other", &kept);
    let records = store.store.records(&"a.test".parse().unwrap(), &"o/a".parse().unwrap());
    let absent = TagRecord { digest: None, checked_at: SystemTime::UNIX_EPOCH, is_doubtful: false };
    records.put_tag(&"keep".parse().unwrap(), None, &absent).unwrap();
    look_for_pins(&store);
    for byte in 10..40 {
        store.store(byte, 9).await;
    }
    assert_eq!(store.has(&[&kept, &layer]).await, [true, true]);
    assert!(pinned(&store) > 10 * MIB as u64);

    // The operator's own removal is another matter.
    records.drop_tag(&"keep".parse().unwrap(), None).unwrap();
    look_for_pins(&store);
    while pinned(&store) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn pins_that_would_fill_the_cache_end_where_it_ends() {
    let (store, _rules) = store_with_pins();
    let layers = [store.store(1, 20).await, store.store(2, 20).await];
    let kept = put_manifest(&store, "a.test", &[&layers[0], &layers[1]]);
    put_tag(&store, "keep", &kept);
    look_for_pins(&store);
    assert!(pinned(&store) >= 40 * MIB as u64);

    let max_size = Some(SpaceAmount::Bytes(30 * MIB as u64));
    let limits = SpaceLimits { max_size, ..SpaceLimits::NONE };
    store.store.set_limits(limits, &RetentionLimits::default());
    look_for_pins(&store);
    let most = 29 * MIB as u64;
    assert!((20 * MIB as u64..most).contains(&pinned(&store)), "{}", pinned(&store));
    let other = store.store(9, 2).await;
    assert_eq!(store.has(&[&other]).await, [true], "pulls go on");
}

fn digest_of(byte: u8, mib: usize) -> Digest {
    Digest::of(crate::oci::Algorithm::Sha256, &vec![byte; mib * MIB])
}
