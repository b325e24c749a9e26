//! Small content that is often asked for, in memory: manifests, tag records, memberships.
//!
//! Everything here can be read or asked for again, so an entry may go at any time. The only place
//! that knows which library keeps it.

use std::fmt;
use std::sync::Arc;

use foldhash::quality::RandomState;
use moka::sync::Cache;

use super::key::RecordKey;

/// Values of one kind, by key, within a number of bytes. The least used go first.
pub(super) struct MemoryTable<V> {
    kind: &'static str,
    entries: Cache<RecordKey, V, RandomState>,
}

/// How much memory the values of one kind take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Which kind, as metrics call it.
    pub what: &'static str,
    /// How many entries there are, about.
    pub entries: u64,
    /// How many bytes they take, about.
    pub bytes: u64,
}

impl<V: Clone + Send + Sync + 'static> MemoryTable<V> {
    /// A table of at most about `bytes_max` bytes. `bytes_of` says how many a value takes.
    pub(super) fn new(
        kind: &'static str,
        bytes_max: u64,
        bytes_of: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Self {
        let weigh = move |key: &RecordKey, value: &V| {
            u32::try_from(key.len() + bytes_of(value) + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let builder = Cache::builder().max_capacity(bytes_max).weigher(weigh);
        Self { kind, entries: builder.build_with_hasher(RandomState::default()) }
    }

    pub(super) fn get(&self, key: &RecordKey) -> Option<V> {
        self.entries.get(key)
    }

    pub(super) fn contains(&self, key: &RecordKey) -> bool {
        self.entries.contains_key(key)
    }

    /// The value, loaded once however many ask for it. Blocks.
    pub(super) fn get_or_load(&self, key: RecordKey, load: impl FnOnce() -> V) -> V {
        self.entries.get_with(key, load)
    }

    /// Puts a value, and weighs it.
    pub(super) fn put(&self, key: RecordKey, value: V) {
        self.entries.insert(key, value);
    }

    pub(super) fn remove(&self, key: &RecordKey) {
        self.entries.invalidate(key);
    }

    /// Forgets every value.
    pub(super) fn clear(&self) {
        self.entries.invalidate_all();
    }

    /// The memory that it takes. Entries that were put a moment ago may be missing.
    pub(super) fn usage(&self) -> MemoryUse {
        let (entries, bytes) = (self.entries.entry_count(), self.entries.weighted_size());
        MemoryUse { what: self.kind, entries, bytes }
    }
}

impl<T: Send + Sync + 'static> MemoryTable<Arc<T>> {
    /// Weighs a value that has changed since it was put, unless another one has taken its place.
    pub(super) fn weigh_again(&self, key: RecordKey, value: &Arc<T>) {
        if self.get(&key).is_some_and(|held| Arc::ptr_eq(&held, value)) {
            self.put(key, Arc::clone(value));
        }
    }
}

impl<V> fmt::Debug for MemoryTable<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTable").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Bytes of an entry beside its key and value.
const ENTRY_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// The contents of a repository are few when they are loaded, and grow with each manifest.
    #[test]
    fn a_value_that_has_grown_is_weighed_again_unless_it_was_replaced() {
        let key = || RecordKey::for_test(1);
        let table = MemoryTable::new("test", 8 << 10, |value: &Arc<Mutex<usize>>| *value.lock());
        let value = Arc::new(Mutex::new(0));
        table.put(key(), Arc::clone(&value));
        *value.lock() = 4 << 10;
        table.weigh_again(key(), &value);
        table.entries.run_pending_tasks();
        assert!(table.usage().bytes >= 4 << 10);

        *value.lock() = 16 << 10;
        table.weigh_again(key(), &value);
        table.entries.run_pending_tasks();
        assert!(table.get(&key()).is_none(), "more than there is room for does not stay");

        table.put(key(), Arc::default());
        table.weigh_again(key(), &value);
        assert_eq!(*table.get(&key()).unwrap().lock(), 0, "what was loaded anew stays");
    }
}
