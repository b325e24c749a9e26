//! A bounded map whose values expire, keyed by hashes of [`ProcessKey`](super::process_key).
//!
//! It decides when an entry ends and which entries go when the map is full. It does not decide how
//! long anything is remembered: each caller gives a time to live.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::upstream::CredentialId;

/// At most `entries_max` values, each until it expires.
#[derive(Debug)]
pub(super) struct TtlMap<V> {
    entries: Mutex<HashMap<CredentialId, TtlEntry<V>>>,
    entries_max: usize,
    weight: fn(&V) -> u32,
}

#[derive(Debug)]
struct TtlEntry<V> {
    value: V,
    expires: Instant,
}

impl<V: Clone> TtlMap<V> {
    /// An empty map. When it is full, any half of it is evicted: keys are hashes, so no client can
    /// choose the order, and a forgotten value costs one more question.
    pub(super) fn new(entries_max: usize) -> Self {
        Self::weighted(entries_max, |_| 1)
    }

    /// An empty map that evicts the values of least weight first.
    pub(super) fn weighted(entries_max: usize, weight: fn(&V) -> u32) -> Self {
        Self { entries: Mutex::default(), entries_max, weight }
    }

    /// The value, unless it has expired.
    pub(super) fn get(&self, id: &CredentialId) -> Option<V> {
        let entries = self.entries();
        let entry = entries.get(id).filter(|entry| Instant::now() < entry.expires)?;
        Some(entry.value.clone())
    }

    /// How much longer the value is held; `None` if there is none, or it has expired.
    pub(super) fn time_left(&self, id: &CredentialId) -> Option<Duration> {
        let left = self.entries().get(id)?.expires.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Holds a value for `ttl` from now on, in place of any before.
    pub(super) fn insert(&self, id: CredentialId, value: V, ttl: Duration) {
        let expires = Instant::now() + ttl;
        self.entries_with_room(&id).insert(id, TtlEntry { value, expires });
    }

    /// Changes a value and leaves its expiry as it is; one that is missing or expired begins as the
    /// default and is held for `ttl`.
    pub(super) fn update(&self, id: CredentialId, ttl: Duration, change: impl FnOnce(&mut V))
    where
        V: Default,
    {
        let now = Instant::now();
        let fresh = || TtlEntry { value: V::default(), expires: now + ttl };
        let mut entries = self.entries_with_room(&id);
        let entry = entries.entry(id).or_insert_with(fresh);
        if entry.expires <= now {
            *entry = fresh();
        }
        change(&mut entry.value);
    }

    /// Forgets a value.
    pub(super) fn remove(&self, id: &CredentialId) {
        self.entries().remove(id);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<CredentialId, TtlEntry<V>>> {
        self.entries.lock()
    }

    /// The entries, with room for one more under `id`.
    fn entries_with_room(
        &self,
        id: &CredentialId,
    ) -> MutexGuard<'_, HashMap<CredentialId, TtlEntry<V>>> {
        let mut entries = self.entries();
        if entries.len() >= self.entries_max && !entries.contains_key(id) {
            self.evict(&mut entries);
        }
        entries
    }

    /// Evicts what has expired, and then about half of the rest, the lightest first.
    fn evict(&self, entries: &mut HashMap<CredentialId, TtlEntry<V>>) {
        let now = Instant::now();
        entries.retain(|_, entry| now < entry.expires);
        if entries.len() <= self.entries_max / 2 {
            return;
        }
        let mut weights: Vec<u32> = entries.values().map(|it| (self.weight)(&it.value)).collect();
        let middle = weights.len() / 2;
        let (_, median, _) = weights.select_nth_unstable(middle);
        let mut is_kept = false;
        entries.retain(|_, entry| match (self.weight)(&entry.value).cmp(median) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => {
                is_kept = !is_kept;
                is_kept
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> CredentialId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        CredentialId::new(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_expires_after_its_ttl_and_not_before() {
        let map = TtlMap::new(10);
        map.insert(id(1), 'a', Duration::from_secs(5));
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert_eq!(map.get(&id(1)), Some('a'));
        assert_eq!(map.time_left(&id(1)), Some(Duration::from_millis(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(map.get(&id(1)), None);
        assert_eq!(map.time_left(&id(1)), None);
        map.insert(id(2), 'b', Duration::from_secs(5));
        map.remove(&id(2));
        assert_eq!(map.get(&id(2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_keeps_the_expiry_and_begins_anew_after_it() {
        let map = TtlMap::<u32>::new(10);
        let ttl = Duration::from_secs(5);
        map.update(id(1), ttl, |count| *count += 1);
        tokio::time::advance(Duration::from_secs(3)).await;
        map.update(id(1), ttl, |count| *count += 1);
        assert_eq!(map.get(&id(1)), Some(2));
        assert_eq!(map.time_left(&id(1)), Some(Duration::from_secs(2)));

        tokio::time::advance(Duration::from_secs(2)).await;
        map.update(id(1), ttl, |count| *count += 1);
        assert_eq!(map.get(&id(1)), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_map_evicts_old_entries_and_always_takes_the_newest() {
        let map = TtlMap::new(100);
        for number in 0..1000 {
            map.insert(id(number), number, Duration::from_secs(60));
            assert_eq!(map.get(&id(number)), Some(number));
            assert!(map.entries().len() <= 100);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        map.insert(id(1000), 1000, Duration::from_secs(60));
        while map.entries().len() < 100 {
            let number = 2000 + map.entries().len();
            map.insert(id(number), number, Duration::from_secs(60));
        }
        map.insert(id(5000), 5000, Duration::from_secs(60));
        assert_eq!(map.get(&id(5000)), Some(5000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_map_with_weights_evicts_the_lightest_first() {
        let map = TtlMap::<u32>::weighted(100, |count| *count);
        map.insert(id(0), 9, Duration::from_secs(60));
        for number in 1..1000 {
            map.insert(id(number), 1, Duration::from_secs(60));
        }
        assert!(map.entries().len() <= 100);
        assert_eq!(map.get(&id(0)), Some(9));
    }
}
