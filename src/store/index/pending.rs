//! What has happened since the index was last written to, by row.
//!
//! Bounded: when the index cannot keep up, what does not fit is dropped, and the index has to be
//! compared with the files later.

use std::collections::HashMap;

use super::rows::{Facts, Key, Row};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was removed.
    Gone,
    /// It came to be.
    Kept(Facts),
    /// It was used at this time, if there is one.
    Used(u32),
}

/// The changes, the last one of each row.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: HashMap<Key, Change>,
    dropped: u64,
    /// Where names are written: most have been noted a moment ago, and need no memory of their own.
    name: Vec<u8>,
}

impl Pending {
    /// Notes a change. Returns whether there are now so many that they should be written soon.
    pub(super) fn note_row(&mut self, row: Row<'_>, change: Change) -> bool {
        let mut name = std::mem::take(&mut self.name);
        row.name(&mut name);
        let are_many = self.note(&name, change);
        self.name = name;
        are_many
    }

    /// The same by the row's name.
    pub(super) fn note(&mut self, name: &[u8], change: Change) -> bool {
        let len = self.changes.len();
        if let Some(before) = self.changes.get_mut(name) {
            *before = before.then(change);
        } else if len >= CHANGES_MAX {
            self.dropped += 1;
        } else {
            self.changes.insert(name.into(), change);
        }
        len == CHANGES_SOON
    }

    /// The changes, and how many there are no more.
    pub(super) fn take(&mut self) -> (HashMap<Key, Change>, u64) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.dropped))
    }
}

impl Change {
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Kept(facts), Self::Used(used)) => {
                Self::Kept(Facts { used: used.max(facts.used), ..facts })
            }
            (Self::Used(one), Self::Used(other)) => Self::Used(one.max(other)),
            (Self::Gone, Self::Used(_)) => Self::Gone,
            (_, next) => next,
        }
    }
}

/// How many changes wait at most, of 100 to 700 bytes each.
const CHANGES_MAX: usize = 1 << 16;

/// How many are written without waiting for the next round.
const CHANGES_SOON: usize = 1 << 13;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        number.to_le_bytes().into()
    }

    #[test]
    fn the_last_word_on_a_row_counts() {
        let facts = Facts { size: 5, used: 10 };
        let cases = [
            (vec![Change::Used(3), Change::Used(7), Change::Used(5)], Change::Used(7)),
            (
                vec![Change::Kept(facts), Change::Used(30)],
                Change::Kept(Facts { size: 5, used: 30 }),
            ),
            (vec![Change::Kept(facts), Change::Used(1)], Change::Kept(facts)),
            (vec![Change::Kept(facts), Change::Gone, Change::Used(30)], Change::Gone),
            (vec![Change::Gone, Change::Kept(facts)], Change::Kept(facts)),
        ];
        for (changes, want) in cases {
            let mut pending = Pending::default();
            for change in &changes {
                assert!(!pending.note(&key(1), *change), "one is not many");
            }
            let (taken, dropped) = pending.take();
            assert_eq!((taken.get(&key(1)), dropped), (Some(&want), 0), "{changes:?}");
        }
    }

    /// An index that hangs must not eat the memory.
    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mut pending = Pending::default();
        let soon = (0..CHANGES_MAX + 5).filter(|n| pending.note(&key(*n), Change::Gone)).count();
        assert_eq!(soon, 1, "told once");
        pending.note(&key(0), Change::Used(1));
        let (taken, dropped) = pending.take();
        assert_eq!((taken.len(), dropped), (CHANGES_MAX, 5));
        assert_eq!(pending.take().1, 0);
    }
}
