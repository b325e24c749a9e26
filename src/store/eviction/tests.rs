//! Promises of a finite store, on a real directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::{SystemClock, WallClock};
use crate::oci::{Algorithm, Digest, RegistryName};
use crate::store::disk_usage::bytes_under;
use crate::store::space::SpacePart;
use crate::store::{
    AppendError, BootClock, EvictedBlobs, EvictionReason, HashedFile, IndexOptions, IndexRow,
    IndexState, RegistryGroup, RetentionLimits, SpaceAmount, SpaceLimits, Store, StoreOptions,
    StoredState, VerifiedContent,
};

pub(super) const MIB: usize = 1 << 20;

pub(super) struct FiniteStore {
    pub(super) store: Store,
    pub(super) dir: tempfile::TempDir,
}

impl FiniteStore {
    pub(super) fn new(max_mib: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: open(dir.path(), Some(max_mib)), dir }
    }

    fn used(&self) -> u64 {
        self.store.report().space.used.iter().sum()
    }

    pub(super) fn used_blobs(&self) -> u64 {
        self.store.blobs.budget().space().used(SpacePart::Blobs)
    }

    pub(super) fn evicted(&self) -> EvictedBlobs {
        self.evicted_for(EvictionReason::MaxSize)
    }

    pub(super) fn evicted_for(&self, reason: EvictionReason) -> EvictedBlobs {
        self.store.report().space.evicted[reason as usize]
    }

    fn make_room_ahead(&self) {
        self.store.blobs.budget().make_room_ahead();
    }

    async fn append(&self, bytes: Vec<u8>) -> Result<HashedFile, AppendError<Vec<u8>>> {
        self.append_of(&"a.test".parse().unwrap(), bytes).await
    }

    pub(super) async fn append_of(
        &self,
        registry: &RegistryName,
        bytes: Vec<u8>,
    ) -> Result<HashedFile, AppendError<Vec<u8>>> {
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let file = self.store.open_fill(registry, &digest).await.unwrap();
        let (len, (sender, queue)) = (bytes.len() as u64, mpsc::channel(1));
        sender.try_send(bytes).unwrap();
        drop(sender);
        file.append(Some(len), queue, |_| {}).await
    }

    /// Stores a blob of so many MiB, all of this byte.
    pub(super) async fn store(&self, byte: u8, mib: usize) -> Digest {
        self.store_of("a.test", byte, mib).await
    }

    pub(super) async fn store_of(&self, registry: &str, byte: u8, mib: usize) -> Digest {
        let bytes = vec![byte; mib * MIB];
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let Ok(file) = self.append_of(&registry.parse().unwrap(), bytes).await else {
            panic!("there is no room")
        };
        file.commit(&digest, |_| {}).await.unwrap().kept.unwrap();
        digest
    }

    pub(super) async fn open(&self, digest: &Digest) -> Option<StoredState> {
        self.store.content().open(digest, None).await.unwrap()
    }

    pub(super) async fn has(&self, digests: &[&Digest]) -> Vec<bool> {
        let mut found = Vec::new();
        for digest in digests {
            found.push(self.open(digest).await.is_some());
        }
        found
    }
}

fn open(dir: &Path, max_mib: Option<usize>) -> Store {
    let max_size = max_mib.map(|mib| SpaceAmount::Bytes((mib * MIB) as u64));
    let limits = SpaceLimits { max_size, ..SpaceLimits::NONE };
    let options = StoreOptions { limits, ..StoreOptions::for_test(dir) };
    Store::open(options, BootClock::default()).unwrap()
}

/// The bytes of the directory, as `du` counts them.
fn du(dir: &Path) -> u64 {
    bytes_under(dir)
}

#[tokio::test]
async fn a_full_store_evicts_for_what_comes_and_is_never_above_its_bound() {
    let store = FiniteStore::new(32);
    let mut stored = Vec::new();
    for byte in 0..40 {
        stored.push(store.store(byte, 3).await);
        assert!(du(store.dir.path()) <= 32 * MIB as u64, "after {byte}");
    }
    let digests: Vec<_> = stored.iter().collect();
    let has = store.has(&digests).await;
    let count = has.iter().filter(|has| **has).count();
    assert_eq!((count, store.evicted().count), (10, 30));
    assert!(has.ends_with(&[true]) && !has[..10].contains(&true), "by age: {has:?}");
    let sums = fs::read_dir(store.dir.path().join("sums/sha256")).unwrap();
    let sums = sums.map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count());
    assert_eq!(sums.sum::<usize>(), 10, "checksums go with their blobs");
}

#[tokio::test]
async fn blobs_that_are_used_stay_and_small_ones_longer_than_large_ones() {
    let store = FiniteStore::new(32);
    let (used, unused) = (store.store(1, 8).await, store.store(2, 8).await);
    let small = VerifiedContent::check(&Digest::of(Algorithm::Sha256, b"{}"), "{}".into()).unwrap();
    store.store.blobs.put_small(&small, RegistryGroup::UNKNOWN).unwrap();
    store.store.note_hit(&used);
    let (third, fourth) = (store.store(3, 12).await, store.store(4, 8).await);
    assert_eq!(
        store.has(&[&used, &unused, small.digest(), &third, &fourth]).await,
        [true, true, true, false, true],
        "of those that were not used the largest goes"
    );
    let fifth = store.store(5, 8).await;
    assert_eq!(store.has(&[&used, &unused, &fifth]).await, [true, false, true]);
}

/// Another writer may look at any moment: it must not find room that a blob on its way has taken.
#[tokio::test]
async fn a_blob_on_its_way_into_the_store_is_counted_at_every_moment() {
    let store = FiniteStore::new(512);
    let budget = Arc::clone(store.store.blobs.budget());
    let unreserved = budget.space().taken();
    let (written, is_done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen, done) = (Arc::clone(&written), Arc::clone(&is_done));
    let sampler = std::thread::spawn(move || {
        while !done.load(Ordering::Acquire) {
            let least = unreserved + seen.load(Ordering::Acquire) * MIB as u64;
            let counted = budget.space().taken();
            assert!(counted >= least, "{counted} bytes are counted of {least}");
        }
    });
    for byte in 0..60 {
        let bytes = vec![byte; MIB];
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let Ok(file) = store.append(bytes).await else { panic!("there is no room") };
        written.fetch_add(1, Ordering::Release);
        file.commit(&digest, |_| {}).await.unwrap().kept.unwrap();
    }
    is_done.store(true, Ordering::Release);
    sampler.join().unwrap();
}

/// Its reader gets every byte, and it is the next one that goes.
#[tokio::test]
async fn a_blob_that_is_read_is_not_evicted() {
    let store = FiniteStore::new(32);
    let read = store.store(1, 20).await;
    let reader = store.open(&read).await.unwrap();
    let other = store.store(2, 8).await;
    let next = store.store(3, 10).await;
    assert_eq!(store.has(&[&read, &other, &next]).await, [true, false, true]);

    let too_much = store.append(vec![4; 14 * MIB]).await;
    assert!(matches!(too_much, Err(AppendError::NoSpace { .. })), "only what is read is left");
    drop(reader);
    drop(too_much);
    let last = store.store(5, 14).await;
    assert_eq!(store.has(&[&read, &last]).await, [false, true]);
}

/// Linux keeps a file until it is closed, so its bytes count until then.
#[tokio::test]
async fn a_file_without_a_name_counts_until_it_is_closed() {
    let store = FiniteStore::new(32);
    let digest = store.store(1, 8).await;
    let reader = store.open(&digest).await.unwrap();
    let path = store.dir.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
    fs::remove_file(path).unwrap();
    store.store.blobs.budget().catalog().removed(&digest);
    store.store.blobs.budget().look_at_open_files();
    let unlinked = || store.store.blobs.budget().space().used(SpacePart::Unlinked);
    assert!(unlinked() >= 8 * MIB as u64);
    let before = unlinked();
    drop(reader);
    store.make_room_ahead();
    assert!(unlinked() <= before - 8 * MIB as u64);
}

#[tokio::test]
async fn a_blob_that_is_larger_than_the_store_evicts_nothing() {
    let store = FiniteStore::new(16);
    let digest = store.store(1, 8).await;
    let refused = store.append(vec![2; 20 * MIB]).await;
    assert!(matches!(refused, Err(AppendError::NoSpace { .. })));
    assert_eq!(store.has(&[&digest]).await, [true]);
    assert_eq!(store.evicted().count, 0);
    assert!(store.used() < 9 * MIB as u64, "the empty file is gone: {}", store.used());
}

#[tokio::test]
async fn blobs_of_an_earlier_process_go_by_their_last_use() {
    let first = FiniteStore::new(64);
    let mut digests = Vec::new();
    for byte in 0..4 {
        digests.push(first.store(byte, 8).await);
    }
    let FiniteStore { store, dir } = first;
    drop(store);
    // As if each had been read an hour after the one before, but the first, which was read last.
    for (hours, digest) in [4, 1, 2, 3].into_iter().zip(&digests) {
        let path = dir.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        let file = fs::File::open(path).unwrap();
        let at = SystemClock.now() - Duration::from_secs(36_000 - hours * 3600);
        file.set_times(fs::FileTimes::new().set_accessed(at).set_modified(at)).unwrap();
    }
    let second = FiniteStore { store: open(dir.path(), Some(32)), dir };
    let new = second.store(9, 8).await;
    let [one, two, three, four] = &digests[..] else { unreachable!() };
    assert_eq!(second.has(&[one, two, three, four, &new]).await, [true, false, false, true, true]);
    assert!(du(second.dir.path()) <= 32 * MIB as u64);
}

/// An hour ahead for each time it is asked to.
#[derive(Debug, Default)]
pub(super) struct SteppedClock(pub(super) AtomicU64);

impl WallClock for SteppedClock {
    fn now(&self) -> SystemTime {
        SystemClock.now() + Duration::from_secs(3600 * self.0.load(Ordering::Relaxed))
    }
}

/// It knows uses to the minute, where most file systems know a day's first.
#[tokio::test]
async fn a_closed_index_says_what_is_stored_and_when_it_was_used() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SteppedClock::default());
    let open = |max_mib: usize| {
        let max_size = Some(SpaceAmount::Bytes((max_mib * MIB) as u64));
        let limits = SpaceLimits { max_size, ..SpaceLimits::NONE };
        let index = Some(IndexOptions { checker: None });
        let options = StoreOptions { limits, index, ..StoreOptions::for_test(dir.path()) };
        let clock: Arc<dyn WallClock> = Arc::clone(&clock) as _;
        Store::open(options, BootClock { clock, ..BootClock::default() }).unwrap()
    };
    // Nothing lists the files of a new directory, so the first index is not known to be whole.
    open(64).close().await;
    let first = FiniteStore { store: open(64), dir: tempfile::tempdir().unwrap() };
    until_ready(&first.store).await;
    let mut digests = Vec::new();
    for byte in 0..4 {
        digests.push(first.store(byte, 8).await);
    }
    for digest in [1, 3, 0, 2].map(|at: usize| &digests[at]) {
        clock.0.fetch_add(1, Ordering::Relaxed);
        first.store.used(IndexRow::Blob(digest));
    }
    first.store.close().await;
    drop(first);

    let second = FiniteStore { store: open(32), dir: tempfile::tempdir().unwrap() };
    let new = second.store(9, 8).await;
    let [one, two, three, four] = &digests[..] else { unreachable!() };
    assert_eq!(second.has(&[one, two, three, four, &new]).await, [true, false, true, false, true]);
}

async fn until_ready(store: &Store) {
    let begun = Instant::now();
    while store.report().index.state != IndexState::Ready {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", store.report().index);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_lower_bound_evicts_without_a_writer() {
    let store = FiniteStore::new(64);
    for byte in 0..6 {
        store.store(byte, 8).await;
    }
    let max_size = Some(SpaceAmount::Bytes(20 * MIB as u64));
    let limits = SpaceLimits { max_size, ..SpaceLimits::NONE };
    store.store.set_limits(limits, &RetentionLimits::default());
    // The store's own thread may be first.
    store.make_room_ahead();
    let begun = Instant::now();
    while du(store.dir.path()) > 20 * MIB as u64 {
        assert!(begun.elapsed() < Duration::from_secs(10), "evicted in the background");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.evicted().count, 4);
}

/// Or downloads that broke off would keep everything else out until `fill_keep` has passed.
#[tokio::test]
async fn downloads_that_broke_off_make_room_when_blobs_do_not() {
    let store = FiniteStore::new(32);
    for byte in 0..3 {
        store.append(vec![byte; 9 * MIB]).await.unwrap().leave().await.unwrap();
    }
    let in_flight = store.append(vec![9; 4 * MIB]).await.unwrap();
    let blob = store.store(10, 12).await;
    assert_eq!(store.has(&[&blob]).await, [true]);
    let digest = Digest::of(Algorithm::Sha256, &vec![9; 4 * MIB]);
    in_flight.commit(&digest, |_| {}).await.unwrap().kept.unwrap();
    assert_eq!(store.has(&[&digest]).await, [true], "what is in flight stays");
}

/// The counters say what `du` says, whatever became of what was begun.
#[tokio::test]
async fn what_is_counted_is_what_the_directory_takes() {
    let store = FiniteStore::new(64);
    let registry = "a.test".parse().unwrap();
    let records = store.store.repository(&registry, &"o/a".parse().unwrap());
    for byte in 0..10 {
        let digest = store.store(byte, 7).await;
        let at = SystemClock.now();
        records.blocking(move |records| records.put_member(&digest, at)).await.unwrap();
    }
    let committed = store.append(vec![20; 5 * MIB]).await.unwrap();
    committed.leave().await.unwrap();
    let discarded = store.append(vec![21; 5 * MIB]).await.unwrap();
    discarded.discard().await.unwrap();
    drop(store.store.open_upload(Algorithm::Sha256).await.unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;

    let (used, du) = (store.used(), du(store.dir.path()));
    assert!(used.abs_diff(du) * 100 < du, "{used} counted, {du} taken");
    let FiniteStore { store, dir } = store;
    drop(store);
    let again = FiniteStore { store: open(dir.path(), Some(64)), dir };
    let begun = Instant::now();
    while again.used().abs_diff(du) * 100 >= du {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} counted", again.used());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
