//! What is remembered by tag, for a while, and never more than so much.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::CredentialId;

/// Values, each until its time.
#[derive(Debug)]
pub(super) struct TtlMap<V> {
    entries: Mutex<HashMap<CredentialId, TtlEntry<V>>>,
    max: usize,
}

#[derive(Debug)]
struct TtlEntry<V> {
    value: V,
    until: Instant,
}

impl<V: Clone> TtlMap<V> {
    /// A memory of at most `max` values.
    pub(super) fn new(max: usize) -> Self {
        Self { entries: Mutex::default(), max }
    }

    /// The value, if its time has not come.
    pub(super) fn get(&self, tag: &CredentialId) -> Option<V> {
        let entries = self.entries();
        let entry = entries.get(tag).filter(|entry| Instant::now() < entry.until)?;
        Some(entry.value.clone())
    }

    /// Remembers a value for so long.
    pub(super) fn put(&self, tag: CredentialId, value: V, time: Duration) {
        let until = Instant::now() + time;
        let mut entries = self.entries();
        if entries.len() >= self.max && !entries.contains_key(&tag) {
            make_room(&mut entries, self.max);
        }
        entries.insert(tag, TtlEntry { value, until });
    }

    /// Forgets a value.
    pub(super) fn forget(&self, tag: &CredentialId) {
        self.entries().remove(tag);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<CredentialId, TtlEntry<V>>> {
        self.entries.lock()
    }
}

/// What is over goes first. If all is in force, any half goes: tags are no order that anybody could
/// choose, and what was forgotten is only asked again.
fn make_room<V>(entries: &mut HashMap<CredentialId, TtlEntry<V>>, max: usize) {
    let now = Instant::now();
    entries.retain(|_, entry| now < entry.until);
    if entries.len() > max / 2 {
        let mut is_kept = false;
        entries.retain(|_, _| {
            is_kept = !is_kept;
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: usize) -> CredentialId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        CredentialId::new(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_lasts_as_long_as_it_was_said_and_not_longer() {
        let memory = TtlMap::new(10);
        memory.put(tag(1), 'a', Duration::from_secs(5));
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert_eq!(memory.get(&tag(1)), Some('a'));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(memory.get(&tag(1)), None);
        memory.put(tag(2), 'b', Duration::from_secs(5));
        memory.forget(&tag(2));
        assert_eq!(memory.get(&tag(2)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_holds_no_more_than_it_may_and_the_newest_in_any_case() {
        let memory = TtlMap::new(100);
        for number in 0..1000 {
            memory.put(tag(number), number, Duration::from_secs(60));
            assert_eq!(memory.get(&tag(number)), Some(number));
            assert!(memory.entries().len() <= 100);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        memory.put(tag(1000), 1000, Duration::from_secs(60));
        while memory.entries().len() < 100 {
            let number = 2000 + memory.entries().len();
            memory.put(tag(number), number, Duration::from_secs(60));
        }
        memory.put(tag(5000), 5000, Duration::from_secs(60));
        assert_eq!(memory.get(&tag(5000)), Some(5000));
    }
}
