//! Manifests, tag records and lists in memory.

use std::sync::Arc;

use super::CachedManifest;
use super::memory::{MemoryTable, MemoryUse};
use super::mutable::lists::HotList;
use super::mutable::revalidate::LastValidated;
use crate::oci::Digest;

/// The memory cache.
#[derive(Debug)]
pub(super) struct MemoryCache {
    pub(super) manifests: MemoryTable<Arc<CachedManifest>>,
    pub(super) tags: MemoryTable<Arc<HotTag>>,
    pub(super) lists: MemoryTable<Arc<HotList>>,
    /// Pages that an upstream's own link leads to.
    pub(super) issued: MemoryTable<()>,
}

/// A record of a tag.
#[derive(Clone, Debug)]
pub(super) struct HotTag {
    /// The manifest that it names; `None` when there was no such tag.
    pub(super) digest: Option<Digest>,
    pub(super) checked: LastValidated,
}

impl MemoryCache {
    /// A cache of at most about this many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let manifest_bytes = |manifest: &Arc<CachedManifest>| manifest.body().len();
        let list_bytes = |list: &Arc<HotList>| list.len();
        Self {
            manifests: MemoryTable::new("manifests", bytes / 2, manifest_bytes),
            tags: MemoryTable::new("tags", bytes / 8, |_| 0),
            lists: MemoryTable::new("lists", bytes / 32 * 3, list_bytes),
            issued: MemoryTable::new("pages", bytes / 32, |()| 0),
        }
    }

    /// How much it holds.
    pub(super) fn sizes(&self) -> [MemoryUse; 4] {
        [self.manifests.usage(), self.tags.usage(), self.lists.usage(), self.issued.usage()]
    }
}
