//! Which knowledge a push or a delete has voided.
//!
//! A push or a delete invalidates the records that it changes: a tag, the lists of a repository, a
//! manifest, the digests that a repository has. It does so before its client gets the answer. From
//! then on an answer to a question from before is not kept, and no request joins such a question.
//!
//! Epochs belong to this process: every record on disk is older than all of them, or was written
//! under one. A record and its epoch change together, under one lock.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::key::RecordKey;
use crate::access::{Grant, ResourceHead};
use crate::oci::Resource;

/// A point in the order of pushes and deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

/// The epoch of every record.
#[derive(Debug)]
pub(super) struct EpochTable {
    /// How many invalidations there were. While there was none, nothing is looked up.
    now: AtomicU64,
    invalidated: Mutex<Invalidations>,
    /// Held while the records of a key change, chosen by the key.
    writers: [Mutex<()>; WRITERS],
}

#[derive(Debug, Default)]
struct Invalidations {
    /// The epoch of keys that are not in the map.
    floor: Epoch,
    keys: HashMap<RecordKey, (Epoch, SystemTime)>,
    /// When the last one was.
    last: Option<Instant>,
}

impl Default for EpochTable {
    fn default() -> Self {
        let writers = std::array::from_fn(|_| Mutex::default());
        Self { now: AtomicU64::default(), invalidated: Mutex::default(), writers }
    }
}

impl EpochTable {
    /// The present epoch.
    pub(super) fn now(&self) -> Epoch {
        Epoch(self.now.load(Ordering::Acquire))
    }

    /// The epoch that the last invalidation of the key began.
    pub(super) fn of(&self, key: impl FnOnce() -> RecordKey) -> Epoch {
        if self.now() == Epoch::default() {
            return Epoch::default();
        }
        self.invalidated.lock().epoch_of(&key())
    }

    /// Whether the key has not been invalidated after `since`, so that an answer to a question from
    /// then still holds.
    pub(super) fn is_current(&self, key: impl FnOnce() -> RecordKey, since: Epoch) -> bool {
        self.now() == since || self.invalidated.lock().epoch_of(&key()).0 <= since.0
    }

    /// Whether a record that was confirmed at this time, by an earlier process maybe, is older than
    /// the last invalidation of its key. A record of the same second counts as older.
    pub(super) fn predates(&self, checked_at: SystemTime, key: &RecordKey) -> bool {
        self.invalidated.lock().keys.get(key).is_some_and(|(_, at)| checked_at <= *at)
    }

    /// Runs `change` while no other thread changes the records of the key. Blocks.
    pub(super) fn exclusively<T>(&self, key: &RecordKey, change: impl FnOnce() -> T) -> T {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % WRITERS as u64).unwrap_or_default();
        let _writer = self.writers[index].lock();
        change()
    }

    /// Runs `change` exclusively, unless the key has been invalidated after `since`. Blocks.
    pub(super) fn if_current<T>(
        &self,
        key: &RecordKey,
        since: Epoch,
        change: impl FnOnce() -> T,
    ) -> Option<T> {
        self.exclusively(key, || self.is_current(|| key.clone(), since).then(change))
    }

    /// Starts a new epoch of the key. The caller changes its records exclusively.
    pub(super) fn invalidate(&self, key: &RecordKey, at: SystemTime) -> Epoch {
        let mut invalidated = self.invalidated.lock();
        let now = Epoch(self.now.fetch_add(1, Ordering::AcqRel) + 1);
        if invalidated.keys.len() >= KEYS_MAX {
            invalidated.keys.clear();
            invalidated.floor = now;
        }
        invalidated.keys.insert(key.clone(), (now, at));
        invalidated.last = Some(Instant::now());
        now
    }

    /// The registry's answer about the resource that confirmed the right of the grant's client, if
    /// no push or delete ended after it was asked.
    pub(super) fn head_of<'g>(
        &self,
        grant: &'g Grant,
        resource: &Resource,
    ) -> Option<&'g ResourceHead> {
        let head = grant.head_of(resource)?;
        let last = self.invalidated.lock().last;
        last.is_none_or(|last| last < head.asked_at).then_some(head)
    }
}

impl Invalidations {
    fn epoch_of(&self, key: &RecordKey) -> Epoch {
        self.keys.get(key).map_or(self.floor, |(epoch, _)| *epoch)
    }
}

/// How many invalidated keys are remembered, at some 150 bytes each. At the limit all are
/// forgotten: then everything in memory counts as invalidated, and is read or asked for once more.
const KEYS_MAX: usize = 50_000;

/// How many records may be written at a time. Records are small files.
const WRITERS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(number: usize) -> RecordKey {
        RecordKey::for_test(number)
    }

    /// The plainest account of all pushes is the list of them.
    #[test]
    fn a_record_is_current_unless_it_was_pushed_later_whatever_else_was_pushed() {
        const KEYS: usize = 5;
        let epochs = EpochTable::default();
        let mut pushed = Vec::new();
        let mut asked = Vec::new();
        for _ in 0..3000 {
            let number = fastrand::usize(..KEYS);
            let last = pushed.iter().rposition(|it| *it == number).map_or(0, |index| index + 1);
            asked.push((epochs.now(), pushed.len()));
            asked.push((epochs.of(|| key(number)), last));
            if fastrand::bool() {
                epochs.invalidate(&key(number), SystemTime::UNIX_EPOCH);
                pushed.push(number);
            }
            let (since, count) = asked[fastrand::usize(..asked.len())];
            for number in 0..KEYS {
                let want = !pushed[count..].contains(&number);
                assert_eq!(epochs.is_current(|| key(number), since), want, "{number} {since:?}");
            }
        }
    }

    #[test]
    fn no_name_is_built_before_the_first_push_or_for_an_answer_after_the_last() {
        let epochs = EpochTable::default();
        let before = epochs.of(|| panic!("nothing was pushed"));
        assert!(epochs.is_current(|| panic!("nothing was pushed"), before));

        let last = epochs.invalidate(&key(1), SystemTime::UNIX_EPOCH);

        assert!(epochs.is_current(|| panic!("nothing was pushed since"), last));
        assert!(!epochs.is_current(|| key(1), before));
    }

    #[test]
    fn a_record_on_disk_is_void_if_it_is_not_younger_than_the_last_push() {
        let epochs = EpochTable::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        epochs.invalidate(&key(1), at(0));
        epochs.invalidate(&key(1), at(9));

        assert!(epochs.predates(at(9), &key(1)));
        assert!(!epochs.predates(at(10), &key(1)));
        assert!(!epochs.predates(at(0), &key(2)));
    }

    /// Months of pushes must not fill the memory, nor bring back what one of them has voided.
    #[test]
    fn when_old_pushes_are_forgotten_nothing_from_before_is_current() {
        let epochs = EpochTable::default();
        let never_pushed = || key(usize::MAX);
        let at = SystemTime::UNIX_EPOCH;
        let pushed = epochs.invalidate(&key(0), at);
        let asked = epochs.of(never_pushed);
        for number in 1..=KEYS_MAX {
            epochs.invalidate(&key(number), at);
        }

        assert!(epochs.invalidated.lock().keys.len() < KEYS_MAX);
        assert!(!epochs.is_current(|| key(0), pushed));
        assert!(!epochs.is_current(never_pushed, asked));
        assert!(epochs.is_current(never_pushed, epochs.of(never_pushed)));
    }

    #[test]
    fn a_change_is_made_only_to_a_record_that_is_still_current() {
        let epochs = EpochTable::default();
        let since = epochs.now();
        assert_eq!(epochs.if_current(&key(1), since, || "changed"), Some("changed"));

        epochs.invalidate(&key(1), SystemTime::UNIX_EPOCH);

        assert_eq!(epochs.if_current(&key(1), since, || "changed"), None);
        assert_eq!(epochs.if_current(&key(2), since, || "changed"), Some("changed"));
    }
}
