//! The changes since the index was last written, by row.
//!
//! They are bounded: when the index cannot keep up, further changes are dropped, and the index has
//! to be compared with the files later.

use std::collections::HashMap;

use super::rows::{IndexRow, RowFacts, RowKey};

/// A change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowChange {
    /// It was removed.
    Gone,
    /// It came to be.
    Kept(RowFacts),
    /// It was used at this time, if there is one.
    Used(u32),
}

/// The changes, the last one of each row.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    changes: HashMap<RowKey, RowChange>,
    dropped: u64,
    /// The buffer that names are written to: most names have been noted a moment ago, and need no
    /// memory of their own.
    name: Vec<u8>,
}

impl PendingChanges {
    /// Notes a change. Returns whether there are now so many that they should be written soon.
    pub(super) fn note_row(&mut self, row: IndexRow<'_>, change: RowChange) -> bool {
        let mut name = std::mem::take(&mut self.name);
        row.name(&mut name);
        let are_many = self.note(&name, change);
        self.name = name;
        are_many
    }

    /// Notes a change by the row's name.
    pub(super) fn note(&mut self, name: &[u8], change: RowChange) -> bool {
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
    pub(super) fn take(&mut self) -> (HashMap<RowKey, RowChange>, u64) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.dropped))
    }
}

impl RowChange {
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Kept(facts), Self::Used(used)) => {
                Self::Kept(RowFacts { used: used.max(facts.used), ..facts })
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

    fn key(number: usize) -> RowKey {
        number.to_le_bytes().into()
    }

    #[test]
    fn the_last_word_on_a_row_counts() {
        let facts = RowFacts { size: 5, used: 10 };
        let cases = [
            (vec![RowChange::Used(3), RowChange::Used(7), RowChange::Used(5)], RowChange::Used(7)),
            (
                vec![RowChange::Kept(facts), RowChange::Used(30)],
                RowChange::Kept(RowFacts { size: 5, used: 30 }),
            ),
            (vec![RowChange::Kept(facts), RowChange::Used(1)], RowChange::Kept(facts)),
            (vec![RowChange::Kept(facts), RowChange::Gone, RowChange::Used(30)], RowChange::Gone),
            (vec![RowChange::Gone, RowChange::Kept(facts)], RowChange::Kept(facts)),
        ];
        for (changes, want) in cases {
            let mut pending = PendingChanges::default();
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
        let mut pending = PendingChanges::default();
        let soon = (0..CHANGES_MAX + 5).filter(|n| pending.note(&key(*n), RowChange::Gone)).count();
        assert_eq!(soon, 1, "told once");
        pending.note(&key(0), RowChange::Used(1));
        let (taken, dropped) = pending.take();
        assert_eq!((taken.len(), dropped), (CHANGES_MAX, 5));
        assert_eq!(pending.take().1, 0);
    }
}
