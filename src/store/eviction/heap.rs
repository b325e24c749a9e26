//! A binary heap of indices, by the priority of the entries that they are of.
//!
//! Each entry knows its place in the one heap that has it, so that it can be moved when its
//! priority changes. The entries themselves lie elsewhere, in one list for all heaps.

use super::class::BlobClass;

/// A blob in the order of eviction.
#[derive(Debug)]
pub(super) struct OrderEntry<K> {
    pub(super) key: K,
    pub(super) priority: f64,
    pub(super) size: SizeAndUses,
    /// Seconds since 1970.
    pub(super) used: u32,
    /// Index in the heap.
    pub(super) place: u32,
    pub(super) class: BlobClass,
}

/// Blocks of 4 KiB in the upper 30 bits, uses in the lower two.
#[derive(Clone, Copy, Debug)]
pub(super) struct SizeAndUses(u32);

impl SizeAndUses {
    pub(super) fn new(blocks: impl TryInto<u32>, uses: u32) -> Self {
        let blocks = blocks.try_into().unwrap_or(u32::MAX).clamp(1, BLOCKS_MAX);
        Self(blocks << 2 | uses.min(USES_MAX))
    }

    pub(super) fn blocks(self) -> u32 {
        self.0 >> 2
    }

    pub(super) fn uses(self) -> u32 {
        self.0 & 3
    }

    pub(super) fn bytes(self) -> u64 {
        u64::from(self.blocks()) * BLOCK_BYTES
    }

    /// The part of the priority that is not `L`. A blob of an earlier process has one use.
    pub(super) fn worth(self) -> f64 {
        let blocks = f64::from(self.blocks());
        f64::from(self.uses().max(1)) * (FETCH_BLOCKS + blocks) / blocks
    }
}

/// Blobs of one class. The lowest priority is at the root.
#[derive(Debug, Default)]
pub(super) struct ClassHeap {
    /// Indices of entries.
    slots: Vec<u32>,
    /// The size of them all.
    blocks: u64,
}

/// `entries` are those of all heaps; of them, those that are in this heap have their place in it.
impl ClassHeap {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// The entry of the lowest priority.
    pub(super) fn first(&self) -> Option<usize> {
        self.slots.first().map(|slot| *slot as usize)
    }

    /// Counts a change of an entry's size.
    pub(super) fn resize(&mut self, before: SizeAndUses, now: SizeAndUses) {
        self.blocks += u64::from(now.blocks());
        self.blocks -= u64::from(before.blocks());
    }

    pub(super) fn push<K>(&mut self, entries: &mut [OrderEntry<K>], slot: usize) {
        let place = self.slots.len();
        grow(&mut self.slots);
        self.slots.push(count(slot));
        self.blocks += u64::from(entries[slot].size.blocks());
        entries[slot].place = count(place);
        self.sift_up(entries, place);
    }

    pub(super) fn remove<K>(&mut self, entries: &mut [OrderEntry<K>], slot: usize) {
        let place = entries[slot].place as usize;
        self.blocks -= u64::from(entries[slot].size.blocks());
        self.slots.swap_remove(place);
        if place < self.slots.len() {
            self.settle(entries, place);
            self.sift_up(entries, place);
            self.sift_down(entries, place);
        }
    }

    /// Moves an entry whose priority has changed.
    pub(super) fn place_anew<K>(&mut self, entries: &mut [OrderEntry<K>], slot: usize) {
        self.sift_up(entries, entries[slot].place as usize);
        self.sift_down(entries, entries[slot].place as usize);
    }

    /// Notes that the entry at a place lies at another index now.
    pub(super) fn moved(&mut self, place: u32, slot: usize) {
        self.slots[place as usize] = count(slot);
    }

    /// Makes it a heap after any number of priorities have changed.
    pub(super) fn rebuild<K>(&mut self, entries: &mut [OrderEntry<K>]) {
        for place in (0..self.slots.len() / 2).rev() {
            self.sift_down(entries, place);
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    fn sift_up<K>(&mut self, entries: &mut [OrderEntry<K>], mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if !self.is_before(entries, place, parent) {
                break;
            }
            self.swap(entries, place, parent);
            place = parent;
        }
    }

    fn sift_down<K>(&mut self, entries: &mut [OrderEntry<K>], mut place: usize) {
        loop {
            let child = 2 * place + 1;
            if child >= self.slots.len() {
                break;
            }
            let right = child + 1;
            let is_right = right < self.slots.len() && self.is_before(entries, right, child);
            let child = if is_right { right } else { child };
            if !self.is_before(entries, child, place) {
                break;
            }
            self.swap(entries, place, child);
            place = child;
        }
    }

    fn is_before<K>(&self, entries: &[OrderEntry<K>], one: usize, other: usize) -> bool {
        let entry = |place: usize| &entries[self.slots[place] as usize];
        entry(one).is_before(entry(other))
    }

    fn swap<K>(&mut self, entries: &mut [OrderEntry<K>], one: usize, other: usize) {
        self.slots.swap(one, other);
        self.settle(entries, one);
        self.settle(entries, other);
    }

    fn settle<K>(&mut self, entries: &mut [OrderEntry<K>], place: usize) {
        entries[self.slots[place] as usize].place = count(place);
    }
}

impl<K> OrderEntry<K> {
    /// Among equal priorities, the blob that was used longer ago goes first.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.priority.total_cmp(&other.priority).then(self.used.cmp(&other.used)).is_lt()
    }
}

/// Memory for one in 64 more, so that little is taken that is not used.
pub(super) fn grow<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / 64).max(64));
    }
}

/// Four billion blobs are more than any file system has files.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Sizes are counted in blocks of this many bytes, as most file systems allocate them.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// The largest size that is counted: 4 TiB.
const BLOCKS_MAX: u32 = u32::MAX >> 2;

/// The cost of a fetch beside its bytes: `c0`, 8 MiB, in blocks.
const FETCH_BLOCKS: f64 = 2048.0;

/// Uses above this do not count: versions move on.
const USES_MAX: u32 = 2;
