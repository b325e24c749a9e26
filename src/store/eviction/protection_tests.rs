//! Promises of protection, on a real directory: what no upstream can give again goes last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::owners::find_owners;
use super::protected::UpstreamStates;
use super::retention_tests::put_manifest;
use super::tests::{FiniteStore, MIB, SteppedClock};
use super::vanished::mark_vanished;
use crate::clock::WallClock;
use crate::oci::{Digest, RegistryName};
use crate::store::{
    BootClock, ProtectionLimits, RetentionLimits, SpaceAmount, SpaceLimits, Store, StoreOptions,
    TagRecord,
};

/// A store of 64 MiB, of which a quarter is protected for 90 hours.
struct ProtectedStore {
    finite: FiniteStore,
    unavailable: Arc<Mutex<Vec<RegistryName>>>,
    clock: Arc<SteppedClock>,
}

fn limits(percent: u8) -> RetentionLimits {
    let keep_for = Duration::from_secs(90 * 3600);
    let protection = ProtectionLimits { amount: SpaceAmount::Percent(percent), keep_for };
    RetentionLimits { protection, ..RetentionLimits::default() }
}

fn space() -> SpaceLimits {
    SpaceLimits { max_size: Some(SpaceAmount::Bytes(64 * MIB as u64)), ..SpaceLimits::NONE }
}

fn open(dir: tempfile::TempDir, clock: Arc<SteppedClock>) -> ProtectedStore {
    let options = StoreOptions {
        limits: space(),
        retention: limits(25),
        ..StoreOptions::for_test(dir.path())
    };
    let machine =
        BootClock { clock: Arc::clone(&clock) as Arc<dyn WallClock>, ..BootClock::default() };
    let store = Store::open(options, machine).unwrap();
    let unavailable = Arc::<Mutex<Vec<RegistryName>>>::default();
    let asked = Arc::clone(&unavailable);
    store.set_upstream_states(UpstreamStates::new(move || asked.lock().clone()));
    store.pinned_max().unwrap();
    ProtectedStore { finite: FiniteStore { store, dir }, unavailable, clock }
}

impl ProtectedStore {
    fn new() -> Self {
        open(tempfile::tempdir().unwrap(), Arc::default())
    }

    fn is_down(&self, registries: &[&str]) {
        *self.unavailable.lock() = registries.iter().map(|name| name.parse().unwrap()).collect();
        self.look();
    }

    /// As the thread does once a second, and once a minute.
    fn look(&self) {
        let budget = self.finite.store.blobs.budget();
        budget.catalog.ask_for_states();
        find_owners(budget, &budget.catalog.take_sought()).unwrap();
        mark_vanished(budget).unwrap();
        budget.catalog.mark_idle(true);
    }

    /// Stores far more than fits, from a registry that is up.
    async fn press(&self) {
        for byte in 100..140 {
            self.finite.store_of("up.test", byte, 9).await;
        }
    }

    fn protected(&self) -> u64 {
        self.finite.store.report().space.protected
    }

    /// Waits for the thread, which may be at it, too.
    async fn until_protected(&self, is_enough: impl Fn(u64) -> bool) {
        self.look();
        let waiting = async {
            while !is_enough(self.protected()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "{} bytes are protected", self.protected());
    }

    fn put_tag(&self, digest: Option<&Digest>) {
        let records =
            self.finite.store.records(&"a.test".parse().unwrap(), &"o/a".parse().unwrap());
        let digest = digest.cloned();
        let record = TagRecord { digest, checked_at: SystemTime::UNIX_EPOCH, is_doubtful: false };
        records.put_tag(&"v1".parse().unwrap(), None, &record).unwrap();
    }

    async fn has(&self, digests: &[&Digest]) -> Vec<bool> {
        self.finite.has(digests).await
    }
}

#[tokio::test]
async fn content_of_a_registry_that_is_down_survives_within_the_bound_and_only_then() {
    let store = ProtectedStore::new();
    let kept = store.finite.store_of("a.test", 1, 14).await;
    store.is_down(&["a.test"]);
    assert!(store.protected() >= 14 * MIB as u64);
    store.press().await;
    assert_eq!(store.has(&[&kept]).await, [true], "14 of 15.75 MiB");

    store.is_down(&[]);
    assert_eq!(store.protected(), 0);
    store.is_down(&["a.test"]);
    store.finite.store.set_limits(space(), &limits(20));
    store.press().await;
    assert_eq!(store.has(&[&kept]).await, [false], "14 of 12.6 MiB");
}

#[tokio::test]
async fn content_of_a_registry_that_is_back_goes_in_its_turn() {
    let store = ProtectedStore::new();
    let kept = store.finite.store_of("a.test", 1, 10).await;
    store.is_down(&["a.test"]);
    store.is_down(&["b.test"]);
    store.press().await;
    assert_eq!(store.has(&[&kept]).await, [false]);
}

#[tokio::test]
async fn the_time_of_protection_counts_from_the_last_pull() {
    let store = ProtectedStore::new();
    let (pulled, left) =
        (store.finite.store_of("a.test", 1, 6).await, store.finite.store_of("a.test", 2, 6).await);
    store.is_down(&["a.test"]);
    store.clock.0.fetch_add(60, Ordering::Relaxed);
    store.finite.store.note_hit(&pulled);
    store.look();
    store.clock.0.fetch_add(40, Ordering::Relaxed);
    store.look();
    let one = 6 * MIB as u64..7 * MIB as u64;
    assert!(one.contains(&store.protected()), "{}", store.protected());
    store.press().await;
    assert_eq!(store.has(&[&pulled, &left]).await, [true, false]);
}

/// A tag that the upstream answers 404 for, and then has again.
#[tokio::test]
async fn an_image_whose_tag_is_gone_is_protected_until_the_tag_is_back() {
    let store = ProtectedStore::new();
    let layer = store.finite.store(1, 10).await;
    let image = put_manifest(&store.finite, "a.test", &[&layer]);
    store.put_tag(Some(&image));
    store.look();
    assert_eq!(store.protected(), 0);
    store.put_tag(None);
    store.put_tag(None);
    // Manifest and layer.
    store.until_protected(|bytes| bytes > 10 * MIB as u64).await;
    store.press().await;
    assert_eq!(store.has(&[&layer, &image]).await, [true, true]);

    store.put_tag(Some(&image));
    store.until_protected(|bytes| bytes == 0).await;
    store.press().await;
    assert_eq!(store.has(&[&layer]).await, [false]);
}

/// Neither the registry of a blob nor a tag that is gone is in memory then.
#[tokio::test]
async fn a_restart_forgets_neither() {
    let store = ProtectedStore::new();
    let layers = [store.finite.store(1, 5).await, store.finite.store(2, 5).await];
    let gone = put_manifest(&store.finite, "a.test", &[&layers[0]]);
    put_manifest(&store.finite, "down.test", &[&layers[1]]);
    store.put_tag(Some(&gone));
    store.put_tag(None);
    let ProtectedStore { finite, clock, .. } = store;
    finite.store.close().await;
    drop(finite.store);

    let store = open(finite.dir, clock);
    while store.finite.used_blobs() < 10 * MIB as u64 {
        tokio::task::yield_now().await;
    }
    store.is_down(&["down.test"]);
    store.until_protected(|bytes| bytes > 10 * MIB as u64).await;
    store.press().await;
    assert_eq!(store.has(&[&layers[0], &layers[1]]).await, [true, true]);
}
