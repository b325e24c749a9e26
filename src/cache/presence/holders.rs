//! Which repositories of a registry have a digest: presence the other way round.
//!
//! An upload can then be replaced by a mount from one of them. Only hints: a repository may be
//! missing, and one that is named may have lost the digest.

use std::sync::Arc;

use crate::access::Grant;
use crate::cache::key::RecordKey;
use crate::cache::memory::{MemoryTable, MemoryUse};
use crate::oci::{Digest, RegistryName, RepositoryName};

/// The repositories that have a digest, by registry and digest.
#[derive(Debug)]
pub(super) struct HolderIndex {
    holders: MemoryTable<Arc<[RepositoryName]>>,
}

impl HolderIndex {
    /// An index of at most about this many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_of = |holders: &Arc<[RepositoryName]>| {
            holders.iter().map(|repository| repository.as_str().len()).sum()
        };
        Self { holders: MemoryTable::new("homes", bytes_max, bytes_of) }
    }

    /// The repositories, those noted last first.
    pub(super) fn of(&self, registry: &RegistryName, digest: &Digest) -> Vec<RepositoryName> {
        let holders = self.holders.get(&RecordKey::in_registry(registry, digest));
        holders.map_or_else(Vec::new, |holders| holders.to_vec())
    }

    /// Notes that the grant's repository has the digest. One of two calls at once may be lost.
    pub(super) fn add(&self, grant: &Grant, digest: &Digest) {
        let key = RecordKey::in_registry(grant.registry().name(), digest);
        let (own, before) = (grant.repository(), self.holders.get(&key));
        if before.as_ref().is_some_and(|holders| holders.first() == Some(own)) {
            return;
        }
        let others = before.iter().flat_map(|holders| holders.iter()).filter(|it| *it != own);
        let holders = std::iter::once(own).chain(others).take(HOLDERS_MAX).cloned().collect();
        self.holders.put(key, holders);
    }

    /// Notes that the grant's repository does not have the digest.
    pub(super) fn remove(&self, grant: &Grant, digest: &Digest) {
        let key = RecordKey::in_registry(grant.registry().name(), digest);
        if let Some(holders) = self.holders.get(&key) {
            let others = holders.iter().filter(|holder| *holder != grant.repository());
            self.holders.put(key, others.cloned().collect());
        }
    }

    pub(super) fn usage(&self) -> MemoryUse {
        self.holders.usage()
    }
}

/// How many repositories are remembered for one digest.
const HOLDERS_MAX: usize = 4;
