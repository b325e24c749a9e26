//! Which content the operator wants kept: the rules, and the contents that they mean now.
//!
//! Nothing here looks at the disk. The contents of images are found in `pin_walk.rs`.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::key::BlobKey;
use crate::oci::{Digest, Reference, RegistryName, RepositoryName};

/// The operator's rules. They may change while the store is open: see
/// [`Store::pins_changed`](crate::store::Store::pins_changed).
pub trait PinRules: fmt::Debug + Send + Sync {
    /// Whether images of a repository may be pinned.
    fn matches_repository(&self, registry: &RegistryName, repository: &RepositoryName) -> bool;

    /// Whether an image is pinned.
    fn matches(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> bool;
}

/// No image is pinned.
#[derive(Clone, Copy, Debug)]
pub struct NoPins;

impl PinRules for NoPins {
    fn matches_repository(&self, _: &RegistryName, _: &RepositoryName) -> bool {
        false
    }

    fn matches(&self, _: &RegistryName, _: &RepositoryName, _: &Reference) -> bool {
        false
    }
}

/// The rules, and the contents that they mean, stored or not.
#[derive(Debug)]
pub(in crate::store) struct PinBoard {
    rules: Mutex<Arc<dyn PinRules>>,
    keys: Mutex<HashSet<BlobKey>>,
    /// Whether contents may be meant that are not known to be, or the other way round.
    is_stale: AtomicBool,
    /// Pinned contents whose names may not be on disk yet.
    unsynced: Mutex<Vec<BlobKey>>,
}

impl Default for PinBoard {
    fn default() -> Self {
        Self {
            rules: Mutex::new(Arc::new(NoPins)),
            keys: Mutex::default(),
            is_stale: AtomicBool::new(false),
            unsynced: Mutex::default(),
        }
    }
}

/// No method blocks.
impl PinBoard {
    /// The rules.
    pub(in crate::store) fn rules(&self) -> Arc<dyn PinRules> {
        Arc::clone(&self.rules.lock())
    }

    /// The rules from now on.
    pub(in crate::store) fn set_rules(&self, rules: Arc<dyn PinRules>) {
        *self.rules.lock() = rules;
        self.set_stale();
    }

    /// Has the contents that are meant be found anew.
    pub(in crate::store) fn set_stale(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// Whether that is to be done; not again until it is asked for.
    pub(super) fn take_stale(&self) -> bool {
        self.is_stale.swap(false, Ordering::AcqRel)
    }

    /// Notes that an image has another manifest, or a manifest is held as one.
    pub(in crate::store) fn note_image(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        reference: &Reference,
    ) {
        if self.rules().matches(registry, repository, reference) {
            self.set_stale();
        }
    }

    /// Whether a content is meant.
    pub(super) fn has(&self, key: &BlobKey) -> bool {
        self.keys.lock().contains(key)
    }

    /// Whether a manifest of a repository may be meant: it is, or that is not known yet.
    pub(in crate::store) fn may_mean(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        manifest: &Digest,
    ) -> bool {
        self.has(&BlobKey::of(manifest))
            || (self.is_stale.load(Ordering::Acquire)
                && self.rules().matches_repository(registry, repository))
    }

    /// Notes that these contents are meant too.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = BlobKey>) {
        self.keys.lock().extend(keys);
    }

    /// Notes that these contents are meant, and returns those that are no longer. If an image has
    /// changed since they were found, those that were meant still are.
    pub(super) fn replace(&self, keys: HashSet<BlobKey>) -> Vec<BlobKey> {
        let mut known = self.keys.lock();
        if self.is_stale.load(Ordering::Acquire) {
            known.extend(keys);
            return Vec::new();
        }
        let before = std::mem::replace(&mut *known, keys);
        before.into_iter().filter(|key| !known.contains(key)).collect()
    }

    /// Notes a pinned content that was stored.
    pub(super) fn is_unsynced(&self, key: BlobKey) {
        self.unsynced.lock().push(key);
    }

    /// The pinned contents that were stored since the last time.
    pub(super) fn take_unsynced(&self) -> Vec<BlobKey> {
        std::mem::take(&mut *self.unsynced.lock())
    }
}
