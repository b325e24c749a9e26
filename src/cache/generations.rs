//! Which knowledge a push or a delete has made old.
//!
//! What may change (a tag, the lists of a repository) has a generation. A push raises it before its
//! client is told; then whatever was asked before says nothing any more. So an answer is kept only
//! under the generation under which it was asked for, and nobody joins a question of an older one.
//!
//! Generations are of this process: what is on disk is older than all of them, or was written under
//! one. Each subject's record and generation change together, under one lock.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::hot::key;
use crate::access::Grant;
use crate::oci::{Digest, Tag};

/// What of a repository may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutableRecord {
    /// Its lists: of tags, and of referrers.
    Lists,
    /// What a tag means, to whomever.
    Tag(Tag),
}

/// The same, of a certain repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordKey(String);

impl RecordKey {
    pub(super) fn of(grant: &Grant, what: &MutableRecord) -> Self {
        match what {
            MutableRecord::Lists => Self::lists(grant),
            MutableRecord::Tag(tag) => Self::tag(grant, tag),
        }
    }

    // No tag has a slash or a colon.
    pub(super) fn lists(grant: &Grant) -> Self {
        Self(key(grant, "/lists"))
    }

    /// Whether the repository has a manifest.
    pub(super) fn manifest(grant: &Grant, digest: &Digest) -> Self {
        Self(key(grant, digest.as_str()))
    }

    pub(super) fn tag(grant: &Grant, tag: &Tag) -> Self {
        Self(key(grant, tag.as_str()))
    }
}

/// How often a subject was pushed, so to speak: another one is another time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Generation(u64);

/// A point in the time that pushes and deletes make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

/// The generations of everything.
#[derive(Debug)]
pub(super) struct Generations {
    /// Pushes and deletes so far; as long as there was none, there is nothing to look up.
    count: AtomicU64,
    raised: Mutex<Raised>,
    /// Who changes a subject's records holds one of these, chosen by the subject.
    writers: [Mutex<()>; WRITERS],
}

#[derive(Debug, Default)]
struct Raised {
    /// The generation of what is not listed.
    floor: u64,
    subjects: HashMap<RecordKey, (u64, SystemTime)>,
}

impl Default for Generations {
    fn default() -> Self {
        let writers = std::array::from_fn(|_| Mutex::default());
        Self { count: AtomicU64::default(), raised: Mutex::default(), writers }
    }
}

impl Generations {
    /// The generation of a subject.
    pub(super) fn of(&self, subject: impl FnOnce() -> RecordKey) -> Generation {
        if self.count.load(Ordering::Acquire) == 0 {
            return Generation(0);
        }
        let raised = self.raised.lock();
        Generation(raised.subjects.get(&subject()).map_or(raised.floor, |(count, _)| *count))
    }

    /// Now. For questions whose subject only the answer tells.
    pub(super) fn now(&self) -> Moment {
        Moment(self.count.load(Ordering::Acquire))
    }

    /// Whether what was asked at a moment says nothing about the subject any more.
    pub(super) fn has_overtaken(&self, subject: &RecordKey, asked: Moment) -> bool {
        if self.count.load(Ordering::Acquire) == asked.0 {
            return false;
        }
        let raised = self.raised.lock();
        raised.subjects.get(subject).map_or(raised.floor, |(count, _)| *count) > asked.0
    }

    /// Whether what was last confirmed at this time, by an earlier process or so, is older than
    /// the subject's last push. Within a second it may be taken for older than it is.
    pub(super) fn has_outdated(&self, subject: &RecordKey, checked_at: SystemTime) -> bool {
        self.raised.lock().subjects.get(subject).is_some_and(|(_, at)| checked_at <= *at)
    }

    /// Does this while nobody else changes the records of the subject. Blocks.
    pub(super) fn exclusively<T>(&self, subject: &RecordKey, change: impl FnOnce() -> T) -> T {
        let mut hasher = DefaultHasher::new();
        subject.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % WRITERS as u64).unwrap_or_default();
        let _writer = self.writers[index].lock();
        change()
    }

    /// From now on it is another time. To be called by who changes the records exclusively.
    pub(super) fn raise(&self, subject: &RecordKey, now: SystemTime) {
        let mut raised = self.raised.lock();
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        if raised.subjects.len() >= SUBJECTS_MAX {
            raised.subjects.clear();
            raised.floor = count;
        }
        raised.subjects.insert(subject.clone(), (count, now));
    }
}

/// How many subjects are remembered, at some 150 bytes. When there are more, everything that is
/// known in memory is looked up and asked for again, once.
const SUBJECTS_MAX: usize = 50_000;

/// Records are small files. So many may be written at a time.
const WRITERS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn subject(number: usize) -> RecordKey {
        RecordKey(number.to_string())
    }

    #[test]
    fn a_push_makes_its_own_subject_older_and_no_other() {
        let generations = Generations::default();
        let (before, now) = (generations.of(|| subject(1)), SystemTime::UNIX_EPOCH);
        assert_eq!(generations.of(|| panic!("nothing was pushed")), before);

        generations.raise(&subject(1), now);
        let once = generations.of(|| subject(1));
        generations.raise(&subject(1), now + Duration::from_secs(9));

        assert!(before != once && once != generations.of(|| subject(1)));
        assert_eq!(generations.of(|| subject(2)), before);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(generations.has_outdated(&subject(1), at(9)));
        assert!(!generations.has_outdated(&subject(1), at(10)));
        assert!(!generations.has_outdated(&subject(2), at(0)));
    }

    #[test]
    fn what_was_asked_before_is_overtaken_in_its_own_subject_only() {
        let generations = Generations::default();
        generations.raise(&subject(1), SystemTime::UNIX_EPOCH);
        let asked = generations.now();
        assert!(!generations.has_overtaken(&subject(1), asked));

        generations.raise(&subject(1), SystemTime::UNIX_EPOCH);

        assert!(generations.has_overtaken(&subject(1), asked));
        assert!(!generations.has_overtaken(&subject(1), generations.now()));
        assert!(!generations.has_overtaken(&subject(2), asked));
    }

    /// Whoever pushes for months must not fill the memory, nor bring back what was overtaken.
    #[test]
    fn what_is_forgotten_is_another_time_too() {
        let generations = Generations::default();
        generations.raise(&subject(0), SystemTime::UNIX_EPOCH);
        let (pushed, other) =
            (generations.of(|| subject(0)), generations.of(|| subject(usize::MAX)));
        for number in 1..=SUBJECTS_MAX {
            generations.raise(&subject(number), SystemTime::UNIX_EPOCH);
        }
        assert!(generations.raised.lock().subjects.len() < SUBJECTS_MAX);
        assert!(generations.of(|| subject(0)) != pushed);
        assert!(generations.of(|| subject(usize::MAX)) != other);
    }
}
