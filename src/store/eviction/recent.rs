//! The blobs that were evicted last, so that the log can say why a pull was a miss.

use std::collections::{HashSet, VecDeque};

use super::key::BlobKey;

/// The names of a bounded number of blobs.
#[derive(Debug, Default)]
pub(super) struct RecentlyEvicted {
    keys: HashSet<BlobKey>,
    /// In the order of eviction; a key that was forgotten may still be in here.
    order: VecDeque<BlobKey>,
}

impl RecentlyEvicted {
    /// Notes that a blob was evicted.
    pub(super) fn note(&mut self, key: BlobKey) {
        if !self.keys.insert(key.clone()) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    /// Notes that a blob is stored again.
    pub(super) fn forget(&mut self, key: &BlobKey) {
        self.keys.remove(key);
    }

    /// Whether a blob is not stored because it was evicted, as far as is known.
    pub(super) fn has(&self, key: &BlobKey) -> bool {
        self.keys.contains(key)
    }
}

/// The most keys that are kept, about 1 MiB of them.
const KEYS_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Digest};

    fn key(number: usize) -> BlobKey {
        BlobKey::of(&Digest::of(Algorithm::Sha256, &number.to_le_bytes()))
    }

    #[test]
    fn the_last_blobs_are_known_until_they_are_stored_again() {
        let mut recent = RecentlyEvicted::default();
        for number in 0..KEYS_MAX + 10 {
            recent.note(key(number));
        }

        assert!(!recent.has(&key(9)) && recent.has(&key(10)));
        recent.forget(&key(10));
        assert!(!recent.has(&key(10)));
        for number in 0..KEYS_MAX * 3 {
            recent.note(key(number % 7));
        }
        assert!(recent.keys.len() <= KEYS_MAX && recent.order.len() <= KEYS_MAX);
    }
}
