//! What is hot and small, in memory: manifests, tag records, memberships.
//!
//! Everything here is also on disk, so an entry may go at any time. The only place that knows
//! which library keeps it.

use parking_lot::Mutex;
use std::sync::Arc;

use moka::sync::Cache;
use tokio::time::Instant;

use super::belief::LastValidated;
use super::lists::HotList;
use super::{CachedManifest, MemoryUse};
use crate::access::Grant;
use crate::oci::{Digest, RegistryName, RepositoryName, Tag};
use crate::store::MemberSizes;

/// The memory cache.
#[derive(Clone, Debug)]
pub(super) struct MemoryCache {
    manifests: Cache<String, Arc<CachedManifest>>,
    tags: Cache<String, Arc<HotTag>>,
    lists: Cache<String, Arc<HotList>>,
    /// Pages that an upstream's own link leads to.
    issued: Cache<String, ()>,
    members: Cache<String, Arc<Mutex<MemberSizes>>>,
    /// When a registry last said that a repository has something.
    claims: Cache<String, Instant>,
    /// Repositories that are known to have something, by registry and digest.
    homes: Cache<String, Arc<[RepositoryName]>>,
}

/// What is known of a tag.
#[derive(Clone, Debug)]
pub(super) struct HotTag {
    /// The manifest that it names; `None` when there was no such tag.
    pub(super) digest: Option<Digest>,
    pub(super) checked: LastValidated,
}

impl MemoryCache {
    /// A cache of at most about this many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let manifests = Cache::builder()
            .max_capacity(bytes / 2)
            .weigher(|key: &String, manifest: &Arc<CachedManifest>| {
                weight(key.len() + manifest.body().len())
            })
            .build();
        let tags = Cache::builder()
            .max_capacity(bytes / 8)
            .weigher(|key: &String, _: &Arc<HotTag>| weight(key.len()))
            .build();
        let lists = Cache::builder()
            .max_capacity(bytes / 32 * 3)
            .weigher(|key: &String, list: &Arc<HotList>| weight(key.len() + list.len()))
            .build();
        let issued = Cache::builder()
            .max_capacity(bytes / 32)
            .weigher(|key: &String, (): &()| weight(key.len()))
            .build();
        let claims = Cache::builder()
            .max_capacity(bytes / 32)
            .weigher(|key: &String, _: &Instant| weight(key.len()))
            .build();
        let homes = Cache::builder()
            .max_capacity(bytes / 32)
            .weigher(|key: &String, homes: &Arc<[RepositoryName]>| {
                weight(key.len() + homes.iter().map(|home| home.as_str().len()).sum::<usize>())
            })
            .build();
        let members = Cache::builder()
            .max_capacity(bytes / 16 * 3)
            .weigher(|key: &String, members: &Arc<Mutex<MemberSizes>>| {
                weight(key.len() + members.lock().len() * MEMBER_BYTES)
            })
            .build();
        Self { manifests, tags, lists, issued, members, claims, homes }
    }

    /// How much it holds. Entries that were added a moment ago may be missing.
    pub(super) fn sizes(&self) -> [MemoryUse; 7] {
        fn size<V: Clone + Send + Sync + 'static>(
            what: &'static str,
            cache: &Cache<String, V>,
        ) -> MemoryUse {
            MemoryUse { what, entries: cache.entry_count(), bytes: cache.weighted_size() }
        }
        [
            size("manifests", &self.manifests),
            size("tags", &self.tags),
            size("lists", &self.lists),
            size("pages", &self.issued),
            size("members", &self.members),
            size("claims", &self.claims),
            size("homes", &self.homes),
        ]
    }

    pub(super) fn manifest(&self, grant: &Grant, digest: &Digest) -> Option<Arc<CachedManifest>> {
        self.manifests.get(&key(grant, digest.as_str()))
    }

    pub(super) fn put_manifest(
        &self,
        grant: &Grant,
        digest: &Digest,
        manifest: Arc<CachedManifest>,
    ) {
        self.manifests.insert(key(grant, digest.as_str()), manifest);
    }

    pub(super) fn tag(&self, grant: &Grant, tag: &Tag, view: Option<&str>) -> Option<Arc<HotTag>> {
        self.tags.get(&tag_key(grant, tag, view))
    }

    pub(super) fn put_tag(&self, grant: &Grant, tag: &Tag, view: Option<&str>, hot: Arc<HotTag>) {
        self.tags.insert(tag_key(grant, tag, view), hot);
    }

    pub(super) fn drop_tag(&self, grant: &Grant, tag: &Tag, view: Option<&str>) {
        self.tags.invalidate(&tag_key(grant, tag, view));
    }

    pub(super) fn list(&self, grant: &Grant, name: &str) -> Option<Arc<HotList>> {
        self.lists.get(&key(grant, name))
    }

    pub(super) fn put_list(&self, grant: &Grant, name: &str, hot: Arc<HotList>) {
        self.lists.insert(key(grant, name), hot);
    }

    pub(super) fn drop_list(&self, grant: &Grant, name: &str) {
        self.lists.invalidate(&key(grant, name));
    }

    /// Notes that an upstream's own link leads to the page.
    pub(super) fn issue(&self, grant: &Grant, name: &str) {
        self.issued.insert(key(grant, name), ());
    }

    pub(super) fn is_issued(&self, grant: &Grant, name: &str) -> bool {
        self.issued.contains_key(&key(grant, name))
    }

    pub(super) fn drop_manifest(&self, grant: &Grant, digest: &Digest) {
        self.manifests.invalidate(&key(grant, digest.as_str()));
    }

    pub(super) fn claimed(&self, grant: &Grant, digest: &Digest) -> Option<Instant> {
        self.claims.get(&key(grant, digest.as_str()))
    }

    pub(super) fn put_claim(&self, grant: &Grant, digest: &Digest) {
        self.claims.insert(key(grant, digest.as_str()), Instant::now());
    }

    pub(super) fn drop_claim(&self, grant: &Grant, digest: &Digest) {
        self.claims.invalidate(&key(grant, digest.as_str()));
    }

    pub(super) fn homes(&self, registry: &RegistryName, digest: &Digest) -> Vec<RepositoryName> {
        self.homes.get(&home_key(registry, digest)).map_or_else(Vec::new, |homes| homes.to_vec())
    }

    /// Notes that the grant's repository has it. Two that do so at once may lose one of the two.
    pub(super) fn put_home(&self, grant: &Grant, digest: &Digest) {
        let key = home_key(grant.registry().name(), digest);
        let own = grant.repository();
        let before = self.homes.get(&key);
        if before.as_ref().is_some_and(|homes| homes.first() == Some(own)) {
            return;
        }
        let others = before.iter().flat_map(|homes| homes.iter()).filter(|home| *home != own);
        let homes = std::iter::once(own).chain(others).take(HOMES_MAX).cloned().collect();
        self.homes.insert(key, homes);
    }

    pub(super) fn drop_home(&self, grant: &Grant, digest: &Digest) {
        let key = home_key(grant.registry().name(), digest);
        if let Some(homes) = self.homes.get(&key) {
            let others = homes.iter().filter(|home| *home != grant.repository());
            self.homes.insert(key, others.cloned().collect());
        }
    }

    /// The memberships of the grant's repository, if they are in memory.
    pub(super) fn members(&self, grant: &Grant) -> Option<Arc<Mutex<MemberSizes>>> {
        self.members.get(&key(grant, ""))
    }

    /// Lets the memberships be loaded anew.
    pub(super) fn drop_members(&self, grant: &Grant) {
        self.members.invalidate(&key(grant, ""));
    }

    /// The memberships, loaded by `load` once however many ask. Blocks.
    pub(super) fn members_or_load(
        &self,
        grant: &Grant,
        load: impl FnOnce() -> MemberSizes,
    ) -> Arc<Mutex<MemberSizes>> {
        self.members.get_with(key(grant, ""), || Arc::new(Mutex::new(load())))
    }

    /// Weighs memberships again that have grown, which is when they are put. Not to be called while
    /// they are locked.
    pub(super) fn weigh_members(&self, grant: &Grant, members: &Arc<Mutex<MemberSizes>>) {
        self.weigh(key(grant, ""), members);
    }

    fn weigh(&self, key: String, members: &Arc<Mutex<MemberSizes>>) {
        // What has been dropped or loaded anew meanwhile is better than these.
        if self.members.get(&key).is_some_and(|held| Arc::ptr_eq(&held, members)) {
            self.members.insert(key, Arc::clone(members));
        }
    }
}

/// How many repositories are remembered that have the same thing.
const HOMES_MAX: usize = 4;

/// What one membership costs: the text of a sha256 digest, its box, a size, a slot.
const MEMBER_BYTES: usize = 160;

/// What any entry costs beside its content.
const ENTRY_BYTES: usize = 256;

fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes + ENTRY_BYTES).unwrap_or(u32::MAX)
}

/// No registry, repository or reference contains a space.
pub(super) fn key(grant: &Grant, what: &str) -> String {
    let (registry, repository) = (grant.registry().name().as_str(), grant.repository().as_str());
    let mut key = String::with_capacity(registry.len() + repository.len() + what.len() + 2);
    for (index, part) in [registry, repository, what].into_iter().enumerate() {
        if index > 0 {
            key.push(' ');
        }
        key.push_str(part);
    }
    key
}

fn tag_key(grant: &Grant, tag: &Tag, view: Option<&str>) -> String {
    let mut key = key(grant, tag.as_str());
    if let Some(view) = view {
        key.push(' ');
        key.push_str(view);
    }
    key
}

fn home_key(registry: &RegistryName, digest: &Digest) -> String {
    format!("{registry} {digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn grow(members: &Mutex<MemberSizes>, count: usize) {
        for number in 0..count {
            let digest = Digest::of(Algorithm::Sha256, &number.to_le_bytes());
            members.lock().insert(digest, None);
        }
    }

    /// A repository is loaded when it is small, and grows with each manifest.
    #[test]
    fn memberships_weigh_what_they_have_grown_to() {
        let hot = MemoryCache::new(8 << 20);
        let members = Arc::new(Mutex::new(MemberSizes::new()));
        hot.members.insert("a".to_owned(), Arc::clone(&members));
        grow(&members, 1000);
        hot.weigh("a".to_owned(), &members);
        hot.members.run_pending_tasks();
        assert!(hot.members.weighted_size() >= 1000 * MEMBER_BYTES as u64);

        grow(&members, 20_000);
        hot.weigh("a".to_owned(), &members);
        hot.members.run_pending_tasks();
        assert!(hot.members.get("a").is_none(), "more than there is room for does not stay");

        hot.members.insert("a".to_owned(), Arc::default());
        hot.weigh("a".to_owned(), &members);
        assert!(hot.members.get("a").unwrap().lock().is_empty(), "what was loaded anew stays");
    }
}
