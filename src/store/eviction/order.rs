//! Which blob goes first: GreedyDual-Size-Frequency, as pure code.
//!
//! A priority is `L + min(uses, 2) * (c0 + size) / size`, where `c0` is 8 MiB and `L` is the
//! priority of the last blob that was evicted, or at its use. A fetch costs about as much as the
//! transfer of 8 MiB before its first byte, so a small blob is worth more of each byte that it
//! takes; a blob that is not used for long falls behind `L`, however often it was used before.
//! [Decision 16](../../../docs/decisions/0016-eviction.md) compares it with others.
//!
//! Blobs of one registry under one hold are a class with a heap of its own, so that the next of
//! some classes is found as fast as the next of all. The `L` of a registry rises as well by what is
//! evicted for a bound of its own.
//!
//! Nothing here knows files, clocks or threads. An operation takes `O(log n)`; a blob takes 64
//! bytes with a key of 40, and at most 16 for its places in heap and table.

use std::hash::{BuildHasher as _, Hash, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::class::BlobClass;
use super::heap::{BLOCK_BYTES, ClassHeap, OrderEntry, SizeAndUses, count, grow};

/// Blobs by the order in which they are to be evicted.
#[derive(Debug)]
pub struct EvictionOrder<K> {
    entries: Vec<OrderEntry<K>>,
    /// Indices of `entries`, by key.
    slots: HashTable<u32>,
    /// By [`BlobClass::index`].
    heaps: Vec<ClassHeap>,
    /// `L` of the formula.
    inflation: f64,
    /// `L` of each registry, by its number, where that is higher.
    group_inflation: Vec<f64>,
    hasher: RandomState,
}

/// A blob that was evicted or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovedBlob {
    /// Bytes that it took.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used: u32,
}

/// The bound for which a blob goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderBound {
    /// The bound of everything.
    Whole,
    /// The bound of its registry.
    Registry,
}

impl<K> Default for EvictionOrder<K> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            slots: HashTable::new(),
            heaps: Vec::new(),
            inflation: AGE_RANGE,
            group_inflation: Vec::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Hash + Eq> EvictionOrder<K> {
    /// How many blobs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that all blobs take.
    pub fn bytes(&self) -> u64 {
        self.bytes_of(|_| true)
    }

    /// Bytes that the blobs of some classes take.
    pub fn bytes_of(&self, is_meant: impl Fn(BlobClass) -> bool) -> u64 {
        self.heaps_of(is_meant).map(ClassHeap::bytes).sum()
    }

    /// How many blobs of some classes there are.
    pub fn count_of(&self, is_meant: impl Fn(BlobClass) -> bool) -> usize {
        self.heaps_of(is_meant).map(ClassHeap::len).sum()
    }

    /// Adds a blob that was stored and used now. A blob that is there already gets this size, and
    /// keeps its class and its uses.
    pub fn insert(&mut self, key: K, bytes: u64, now: u32) {
        self.put(key, bytes, now, 1);
    }

    /// Adds a blob that an earlier process has stored, and that was last used at `used`. Until
    /// [`Self::order_by_age`] it goes before those that this process has seen. A blob that is
    /// there already stays as it is.
    pub fn insert_found(&mut self, key: K, bytes: u64, used: u32) {
        if self.find(&key).is_none() {
            self.put(key, bytes, used, 0);
        }
    }

    /// Gives the blobs of [`Self::insert_found`] their places: with the range of their last uses
    /// as the range of `L` in which a large blob without another use becomes the next to go.
    pub fn order_by_age(&mut self, now: u32) {
        let found = || self.entries.iter().filter(|entry| entry.size.uses() == 0);
        let Some(oldest) = found().map(|entry| entry.used).min() else { return };
        let range = f64::from(now.saturating_sub(oldest).max(1));
        for entry in self.entries.iter_mut().filter(|entry| entry.size.uses() == 0) {
            let after_oldest = f64::from(entry.used.saturating_sub(oldest)) / range;
            entry.size = SizeAndUses::new(entry.size.blocks(), 1);
            entry.priority = AGE_RANGE * after_oldest.min(1.0) + entry.size.worth();
        }
        for heap in &mut self.heaps {
            heap.rebuild(&mut self.entries);
        }
    }

    /// Bytes that a blob takes; `None` if it is not there.
    pub fn size(&self, key: &K) -> Option<u64> {
        self.find(key).map(|slot| self.entries[slot].size.bytes())
    }

    /// The class of a blob; `None` if it is not there.
    pub fn class(&self, key: &K) -> Option<BlobClass> {
        self.find(key).map(|slot| self.entries[slot].class)
    }

    /// Puts a blob into another class, where it is in its turn by the priority that it has.
    pub fn set_class(&mut self, key: &K, class: BlobClass) {
        let Some(slot) = self.find(key).filter(|slot| self.entries[*slot].class != class) else {
            return;
        };
        self.leave_heap(slot);
        self.entries[slot].class = class;
        self.enter_heap(slot);
    }

    /// Notes a use. Returns whether the blob is there.
    pub fn touch(&mut self, key: &K, now: u32) -> bool {
        let Some(slot) = self.find(key) else { return false };
        let entry = &mut self.entries[slot];
        entry.size = SizeAndUses::new(entry.size.blocks(), entry.size.uses().max(1) + 1);
        entry.used = entry.used.max(now);
        self.place_anew(slot);
        true
    }

    /// The blob that goes next; `None` when all are postponed.
    pub fn first(&self) -> Option<&K> {
        self.first_of(|_| true)
    }

    /// The blob that goes next of those of some classes; `None` when all are postponed.
    pub fn first_of(&self, is_meant: impl Fn(BlobClass) -> bool) -> Option<&K> {
        let firsts = self.heaps_of(is_meant).filter_map(|heap| Some(&self.entries[heap.first()?]));
        let first = firsts.reduce(|one, other| if other.is_before(one) { other } else { one })?;
        first.priority.is_finite().then_some(&first.key)
    }

    /// Shows the class and the last use of `max` blobs from the `from`th on, which is no order, and
    /// returns those that are chosen. Between two calls each eviction may move a blob past `from`.
    pub fn choose(
        &self,
        from: usize,
        max: usize,
        is_chosen: impl Fn(BlobClass, u32) -> bool,
    ) -> Vec<K>
    where
        K: Clone,
    {
        let some = self.entries.iter().skip(from).take(max);
        some.filter(|it| is_chosen(it.class, it.used)).map(|it| it.key.clone()).collect()
    }

    /// Lets all others go before a blob, until its next use is noted.
    pub fn postpone(&mut self, key: &K) {
        if let Some(slot) = self.find(key) {
            self.entries[slot].priority = f64::INFINITY;
            self.settle(slot);
        }
    }

    /// Takes out a blob that goes because there is no room for it: `L` becomes its priority.
    pub fn evict(&mut self, key: &K, bound: OrderBound) -> Option<RemovedBlob> {
        let slot = self.find(key)?;
        let priority = self.entries[slot].priority;
        match bound {
            OrderBound::Whole => self.inflation = self.inflation.max(priority),
            OrderBound::Registry => {
                let group = self.entries[slot].class.group.number();
                if self.group_inflation.len() <= group {
                    self.group_inflation.resize(group + 1, 0.0);
                }
                self.group_inflation[group] = self.group_inflation[group].max(priority);
            }
        }
        self.remove(key)
    }

    /// Takes out a blob that is gone for another reason.
    pub fn remove(&mut self, key: &K) -> Option<RemovedBlob> {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let found = self.slots.find_entry(hash, |slot| entries[*slot as usize].key == *key);
        let slot = found.ok()?.remove().0 as usize;
        self.leave_heap(slot);
        let removed = self.entries.swap_remove(slot);
        if slot < self.entries.len() {
            self.moved(slot);
        }
        Some(RemovedBlob { bytes: removed.size.bytes(), used: removed.used })
    }

    fn heaps_of(&self, is_meant: impl Fn(BlobClass) -> bool) -> impl Iterator<Item = &ClassHeap> {
        let heaps = self.heaps.iter().enumerate();
        heaps.filter(move |(index, _)| is_meant(BlobClass::at(*index))).map(|(_, heap)| heap)
    }

    fn find(&self, key: &K) -> Option<usize> {
        let is_key = |slot: &u32| self.entries[*slot as usize].key == *key;
        self.slots.find(self.hasher.hash_one(key), is_key).map(|slot| *slot as usize)
    }

    fn put(&mut self, key: K, bytes: u64, at: u32, uses: u32) {
        let blocks = bytes.div_ceil(BLOCK_BYTES);
        let (hasher, entries) = (&self.hasher, &mut self.entries);
        let hash = hasher.hash_one(&key);
        let entry = self.slots.entry(
            hash,
            |slot| entries[*slot as usize].key == key,
            |slot| hasher.hash_one(&entries[*slot as usize].key),
        );
        match entry {
            Entry::Occupied(found) => {
                let slot = *found.get() as usize;
                let entry = &mut entries[slot];
                let before = entry.size;
                entry.size = SizeAndUses::new(blocks, before.uses().max(uses));
                entry.used = entry.used.max(at);
                self.heaps[entry.class.index()].resize(before, entry.size);
                self.place_anew(slot);
            }
            Entry::Vacant(vacant) => {
                let slot = entries.len();
                vacant.insert(count(slot));
                grow(entries);
                let (size, class) = (SizeAndUses::new(blocks, uses), BlobClass::default());
                let priority = f64::INFINITY;
                entries.push(OrderEntry { key, priority, size, used: at, place: 0, class });
                self.enter_heap(slot);
                self.place_anew(slot);
            }
        }
    }

    /// Gives a blob the priority of a use at this moment.
    fn place_anew(&mut self, slot: usize) {
        let entry = &mut self.entries[slot];
        let own = self.group_inflation.get(entry.class.group.number()).copied().unwrap_or_default();
        let base = if entry.size.uses() == 0 { 0.0 } else { self.inflation.max(own) };
        entry.priority = base + entry.size.worth();
        self.settle(slot);
    }

    /// Moves a blob whose priority has changed to its place.
    fn settle(&mut self, slot: usize) {
        let index = self.entries[slot].class.index();
        self.heaps[index].place_anew(&mut self.entries, slot);
    }

    fn enter_heap(&mut self, slot: usize) {
        let index = self.entries[slot].class.index();
        if self.heaps.len() <= index {
            self.heaps.resize_with(index + 1, ClassHeap::default);
        }
        self.heaps[index].push(&mut self.entries, slot);
    }

    fn leave_heap(&mut self, slot: usize) {
        let index = self.entries[slot].class.index();
        self.heaps[index].remove(&mut self.entries, slot);
    }

    /// Tells table and heap that the last entry is now at `slot`.
    fn moved(&mut self, slot: usize) {
        let (old, new) = (count(self.entries.len()), count(slot));
        let entry = &self.entries[slot];
        let hash = self.hasher.hash_one(&entry.key);
        if let Some(known) = self.slots.find_mut(hash, |known| *known == old) {
            *known = new;
        }
        self.heaps[entry.class.index()].moved(entry.place, slot);
    }
}

/// Blobs that are looked at before others have their turn, some tenths of a millisecond of work.
pub(super) const LOOK_BLOBS: usize = 1 << 15;

/// `L` at the start of a process, over that of the blob that was used longest ago: the value of a
/// large blob that was used twice, which stays about as long as the cache needs to be replaced.
const AGE_RANGE: f64 = 2.0;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn order_of(blobs: &[(u32, u64)]) -> EvictionOrder<u32> {
        let mut order = EvictionOrder::default();
        for (key, bytes) in blobs {
            order.insert(*key, *bytes, 0);
        }
        order
    }

    fn drained(mut order: EvictionOrder<u32>) -> Vec<u32> {
        let next = || {
            let key = *order.first()?;
            order.evict(&key, OrderBound::Whole).map(|_| key)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_large_blob_goes_before_a_small_one_of_the_same_age() {
        let order = order_of(&[(1, 10 * KIB), (2, 100 * MIB), (3, 5 * MIB), (4, 40 * MIB)]);
        assert_eq!(order.bytes(), 12 * KIB + 145 * MIB, "whole blocks are counted");
        assert_eq!(drained(order), [2, 4, 3, 1]);
    }

    #[test]
    fn a_second_use_counts_and_a_third_does_not() {
        let mut order = order_of(&[(1, 100 * MIB), (2, 100 * MIB), (3, 100 * MIB)]);
        order.touch(&1, 1);
        order.touch(&2, 2);
        assert!((0..9).all(|_| order.touch(&1, 1)), "more uses at the same time");
        assert!(!order.touch(&9, 1), "what is not there is not used");
        assert_eq!(drained(order), [3, 1, 2]);
    }

    /// Or a blob that was small or popular once would stay for ever.
    #[test]
    fn a_blob_without_a_use_falls_behind() {
        let mut order = order_of(&[(0, 8 * MIB)]);
        order.touch(&0, 1);
        for key in 1.. {
            order.insert(key, 100 * MIB, 2);
            let first = *order.first().unwrap();
            order.evict(&first, OrderBound::Whole);
            if first == 0 {
                break;
            }
            assert!(key < 100, "it was used twice, long ago");
        }
    }

    #[test]
    fn a_blob_that_is_stored_again_has_its_new_size_and_its_old_uses() {
        let mut order = order_of(&[(1, MIB), (2, 2 * MIB)]);
        order.touch(&1, 5);
        order.insert(1, 2 * MIB, 6);
        assert_eq!((order.len(), order.bytes()), (2, 4 * MIB));
        assert_eq!(order.first(), Some(&2));
        assert_eq!(order.remove(&1), Some(RemovedBlob { bytes: 2 * MIB, used: 6 }));
        assert_eq!(order.remove(&1), None);
        assert_eq!(order.bytes(), 2 * MIB);
    }

    #[test]
    fn a_postponed_blob_waits_for_its_next_use() {
        let mut order = order_of(&[(1, 3 * MIB), (2, 2 * MIB), (3, MIB)]);
        order.postpone(&1);
        order.postpone(&2);
        assert_eq!(order.first(), Some(&3));
        order.postpone(&3);
        assert_eq!((order.first(), order.bytes()), (None, 6 * MIB));
        (1..=3).for_each(|key| assert!(order.touch(&key, 1)));
        assert_eq!(drained(order), [1, 2, 3]);
    }

    #[test]
    fn blobs_of_an_earlier_process_go_by_the_order_of_their_last_uses() {
        let mut order = EvictionOrder::default();
        for (key, used) in [(1, 500), (2, 100), (3, 900), (4, 300)] {
            order.insert_found(key, 100 * MIB, used);
        }
        order.insert(5, 100 * MIB, 1000);
        order.touch(&4, 1000);
        order.insert_found(5, MIB, 1);
        order.order_by_age(1000);
        assert_eq!(order.bytes(), 500 * MIB);
        assert_eq!(drained(order), [2, 1, 3, 5, 4]);
    }

    /// A plain list, searched from end to end.
    #[derive(Default)]
    struct PlainOrder {
        blobs: HashMap<u32, (u64, u32, f64)>,
        inflation: f64,
    }

    impl PlainOrder {
        #[expect(clippy::cast_precision_loss, reason = "sizes of tests are small")]
        fn put(&mut self, key: u32, blocks: u64, uses: u32) {
            let worth = f64::from(uses.min(2)) * (2048.0 + blocks as f64) / blocks as f64;
            self.blobs.insert(key, (blocks, uses.min(2), self.inflation + worth));
        }

        fn lowest(&self) -> f64 {
            self.blobs.values().map(|(.., priority)| *priority).fold(f64::INFINITY, f64::min)
        }
    }

    #[test]
    fn the_heap_agrees_with_a_plain_list_in_random_histories() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut order = EvictionOrder::default();
            let mut plain = PlainOrder { inflation: AGE_RANGE, ..PlainOrder::default() };
            for step in 0..3000 {
                let (key, blocks) = (random.u32(..200), random.u64(1..5000));
                match random.u8(..10) {
                    0..4 => {
                        order.insert(key, blocks * BLOCK_BYTES, step);
                        let uses = plain.blobs.get(&key).map_or(1, |blob| blob.1);
                        plain.put(key, blocks, uses);
                    }
                    4..7 => {
                        let known = plain.blobs.get(&key).copied();
                        assert_eq!(order.touch(&key, step), known.is_some());
                        if let Some((blocks, uses, _)) = known {
                            plain.put(key, blocks, uses + 1);
                        }
                    }
                    7 => {
                        let removed = plain.blobs.remove(&key).map(|(blocks, ..)| blocks);
                        let bytes = order.remove(&key).map(|it| it.bytes);
                        assert_eq!(bytes, removed.map(|blocks| blocks * BLOCK_BYTES));
                    }
                    _ => {
                        let Some(first) = order.first().copied() else { continue };
                        let (blocks, _, priority) = plain.blobs.remove(&first).unwrap();
                        assert!(priority <= plain.lowest(), "seed {seed}, step {step}");
                        plain.inflation = plain.inflation.max(priority);
                        assert_eq!(
                            order.evict(&first, OrderBound::Whole).unwrap().bytes,
                            blocks * BLOCK_BYTES
                        );
                    }
                }
                let bytes: u64 = plain.blobs.values().map(|(blocks, ..)| blocks * 4096).sum();
                assert_eq!((order.len(), order.bytes()), (plain.blobs.len(), bytes));
            }
        }
    }

    impl<K: Hash + Eq> EvictionOrder<K> {
        /// Memory that the order takes, in bytes.
        fn memory(&self) -> usize {
            self.entries.capacity() * size_of::<OrderEntry<K>>()
                + self.heaps.iter().map(ClassHeap::memory).sum::<usize>()
                + self.slots.allocation_size()
        }
    }

    /// 40 bytes are a SHA-256 and the room for the rest of a SHA-512.
    #[test]
    fn a_million_blobs_take_80_bytes_each() {
        let mut order = EvictionOrder::<[u64; 5]>::default();
        for number in 0..1_000_000 {
            order.insert([number; 5], 4096, 0);
        }
        assert!(order.memory() <= 80_000_000, "{} bytes", order.memory());
        for number in 0..1_000_000 {
            assert!(order.remove(&[number; 5]).is_some());
        }
        assert_eq!(order.bytes(), 0);
    }
}
