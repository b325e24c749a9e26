//! Promises of retention, on a real directory: by the last pull, and for each registry.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::idle::evict_idle;
use super::tests::{FiniteStore, MIB, SteppedClock};
use crate::clock::WallClock;
use crate::oci::{Algorithm, Digest, MediaType, RegistryName};
use crate::store::{
    BootClock, EvictionReason, RegistryRetention, RetentionLimits, SpaceAmount, SpaceLimits, Store,
    StoreOptions, VerifiedContent,
};

const DAY: Duration = Duration::from_secs(86_400);

fn registry(name: &str, max_mib: Option<usize>, max_idle: Option<Duration>) -> RegistryRetention {
    let max_size = max_mib.map(|mib| SpaceAmount::Bytes((mib * MIB) as u64));
    RegistryRetention { registry: name.parse().unwrap(), max_size, max_idle }
}

fn retention(max_idle: Option<Duration>, registries: Vec<RegistryRetention>) -> RetentionLimits {
    RetentionLimits { max_idle, registries, ..RetentionLimits::default() }
}

fn store_with(limits: RetentionLimits, clock: &Arc<SteppedClock>) -> FiniteStore {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { retention: limits, ..StoreOptions::for_test(dir.path()) };
    let clock: Arc<dyn WallClock> = Arc::clone(clock) as _;
    let store = Store::open(options, BootClock { clock, ..BootClock::default() }).unwrap();
    FiniteStore { store, dir }
}

fn look_for_idle(store: &FiniteStore) {
    evict_idle(store.store.blobs.budget());
}

/// Stores a manifest of these layers, as one of the registry.
pub(super) fn put_manifest(store: &FiniteStore, registry: &str, layers: &[&Digest]) -> Digest {
    let layers: Vec<_> = layers
        .iter()
        .map(|digest| format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1}}"#))
        .collect();
    let config = Digest::of(Algorithm::Sha256, b"config");
    let layers = layers.join(",");
    let body = format!(r#"{{"config":{{"digest":"{config}","size":1}},"layers":[{layers}]}}"#);
    let digest = Digest::of(Algorithm::Sha256, body.as_bytes());
    let body = VerifiedContent::check(&digest, Bytes::from(body)).unwrap();
    let media_type: MediaType = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
    let records = store.store.records(&registry.parse().unwrap(), &"o/a".parse().unwrap());
    records.put_manifest(&media_type, &body).unwrap();
    digest
}

#[tokio::test]
async fn content_goes_by_its_last_pull_and_never_by_its_first() {
    let clock = Arc::new(SteppedClock::default());
    let store = store_with(retention(Some(30 * DAY), Vec::new()), &clock);
    let (pulled, left, read) =
        (store.store(1, 1).await, store.store(2, 1).await, store.store(3, 1).await);
    let days = |days: u64| clock.0.fetch_add(24 * days, Ordering::Relaxed);
    for _ in 0..3 {
        days(20);
        store.store.note_hit(&pulled);
        look_for_idle(&store);
    }
    assert_eq!(store.has(&[&pulled, &left, &read]).await, [true, false, false]);
    assert_eq!(store.evicted_for(EvictionReason::MaxIdle).count, 2);
    assert!(store.store.was_evicted(&left));

    let reader = store.open(&pulled).await.unwrap();
    days(31);
    look_for_idle(&store);
    assert_eq!(store.has(&[&pulled]).await, [true], "what is open is being pulled");
    drop(reader);
    days(29);
    look_for_idle(&store);
    assert_eq!(store.has(&[&pulled]).await, [true], "as long as any other from then on");
    days(2);
    look_for_idle(&store);
    assert_eq!(store.has(&[&pulled]).await, [false]);
    assert_eq!(store.used_blobs(), 0);
}

#[tokio::test]
async fn a_registry_has_its_own_time_and_a_reload_changes_it() {
    let clock = Arc::new(SteppedClock::default());
    let limits = retention(None, vec![registry("b.test", None, Some(DAY))]);
    let store = store_with(limits, &clock);
    let mut blobs = Vec::new();
    for (byte, name) in [(1, "a.test"), (2, "b.test"), (3, "c.test")] {
        blobs.push(store.store_of(name, byte, 1).await);
    }
    let [a, b, c] = &blobs[..] else { unreachable!() };
    clock.0.fetch_add(48, Ordering::Relaxed);
    look_for_idle(&store);
    assert_eq!(store.has(&[a, b, c]).await, [true, false, true]);

    let limits = retention(Some(DAY), vec![registry("c.test", None, None)]);
    store.store.set_limits(SpaceLimits::NONE, &limits);
    look_for_idle(&store);
    assert_eq!(store.has(&[a, c]).await, [false, true]);
}

#[tokio::test]
async fn a_registry_takes_no_more_than_its_own_bound_and_evicts_its_own_content() {
    let clock = Arc::new(SteppedClock::default());
    let limits = retention(None, vec![registry("b.test", Some(10), None)]);
    let store = store_with(limits, &clock);
    let other = store.store_of("a.test", 1, 20).await;
    let mut own = Vec::new();
    for byte in 2..8 {
        clock.0.fetch_add(1, Ordering::Relaxed);
        own.push(store.store_of("b.test", byte, 3).await);
    }
    let has = store.has(&own.iter().collect::<Vec<_>>()).await;
    assert_eq!(has, [false, false, false, true, true, true]);
    assert_eq!(store.has(&[&other]).await, [true]);
    assert_eq!(store.evicted_for(EvictionReason::RegistryMaxSize).count, 3);
    assert_eq!(store.evicted().count, 0);

    let name: RegistryName = "b.test".parse().unwrap();
    assert!(store.append_of(&name, vec![9; 11 * MIB]).await.is_err(), "it is passed through");
    assert_eq!(store.has(&[&own[5]]).await, [true], "and evicts nothing");

    let lower = retention(None, vec![registry("b.test", Some(4), None)]);
    store.store.set_limits(SpaceLimits::NONE, &lower);
    store.store.blobs.budget().keep_registries();
    let has = store.has(&own.iter().collect::<Vec<_>>()).await;
    assert_eq!(has, [false, false, false, false, false, true]);
}

/// Nothing says so beside the manifests: a start reads them behind all else.
#[tokio::test]
async fn content_of_an_earlier_process_counts_to_the_registry_whose_manifests_list_it() {
    let clock = Arc::new(SteppedClock::default());
    let first = store_with(RetentionLimits::default(), &clock);
    let mut layers = Vec::new();
    for byte in 0..4 {
        layers.push(first.store_of("b.test", byte, 3).await);
    }
    let other = first.store_of("a.test", 9, 3).await;
    put_manifest(&first, "b.test", &layers.iter().collect::<Vec<_>>());
    put_manifest(&first, "a.test", &[&other]);
    let FiniteStore { store, dir } = first;
    drop(store);

    let limits = retention(None, vec![registry("b.test", Some(7), None)]);
    let options = StoreOptions { retention: limits, ..StoreOptions::for_test(dir.path()) };
    let store = Store::open(options, BootClock::default()).unwrap();
    let second = FiniteStore { store, dir };
    let begun = Instant::now();
    while second.evicted_for(EvictionReason::RegistryMaxSize).count < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "evicted in the background");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let has = second.has(&layers.iter().collect::<Vec<_>>()).await;
    assert_eq!(has.iter().filter(|has| **has).count(), 2, "{has:?}");
    assert_eq!(second.has(&[&other]).await, [true]);
}
