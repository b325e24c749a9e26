//! The blobs that are stored, as the order of eviction has them: noted as they come, are used and
//! go.
//!
//! Nothing here looks at the disk. Which of them go, and when, is decided in `budget.rs`.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::class::{BlobClass, BlobHold, RegistryGroup, RegistryGroups};
use super::counts::EvictionReason;
use super::heap::BLOCK_BYTES;
use super::hits::HitQueue;
use super::key::BlobKey;
use super::order::{EvictionOrder, LOOK_BLOBS, OrderBound, RemovedBlob};
use super::pins::PinBoard;
use super::protected::{LostContent, UpstreamStates, set_vanished};
use super::recent::RecentlyEvicted;
use super::retention::{RetentionLimits, RetentionRules};
use crate::clock::{WallClock, unix_seconds};
use crate::oci::{Digest, ManifestFacts, Reference, RegistryName, RepositoryName, Tag};
use crate::store::space::{FreeSpace, SpacePart};
use crate::store::space_shortage::SpaceShortage;
use crate::store::sums;

/// The blobs of a store. No method blocks for longer than a step of the order takes.
#[derive(Debug)]
pub(in crate::store) struct BlobCatalog {
    space: FreeSpace,
    clock: Arc<dyn WallClock>,
    order: Mutex<EvictionOrder<BlobKey>>,
    hits: HitQueue,
    recent: Mutex<RecentlyEvicted>,
    groups: Mutex<RegistryGroups>,
    retention: Mutex<RetentionRules>,
    pins: PinBoard,
    lost: LostContent,
    /// Registries whose blobs of earlier processes are to be found.
    sought: Mutex<Vec<RegistryName>>,
    /// Registries that were sought because they were unavailable.
    found_unavailable: Mutex<Vec<RegistryName>>,
}

impl BlobCatalog {
    pub(super) fn new(
        space: FreeSpace,
        clock: Arc<dyn WallClock>,
        limits: &RetentionLimits,
    ) -> Self {
        let mut groups = RegistryGroups::default();
        let retention = Mutex::new(RetentionRules::new(limits, &mut groups));
        Self {
            space,
            clock,
            order: Mutex::default(),
            hits: HitQueue::new(),
            recent: Mutex::default(),
            groups: Mutex::new(groups),
            retention,
            pins: PinBoard::default(),
            lost: LostContent::new(limits.protection),
            sought: Mutex::new(limits.registry_names()),
            found_unavailable: Mutex::default(),
        }
    }

    /// The limits from now on.
    pub(super) fn set_retention(&self, limits: &RetentionLimits) {
        let rules = RetentionRules::new(limits, &mut self.groups.lock());
        *self.retention.lock() = rules;
        *self.sought.lock() = limits.registry_names();
        self.pins.set_stale();
        self.lost.set_limits(limits.protection);
    }

    /// Registries whose blobs of earlier processes are to be found, once.
    pub(super) fn take_sought(&self) -> Vec<RegistryName> {
        let sought = std::mem::take(&mut *self.sought.lock());
        let is_unknown = |class: BlobClass| class.group == RegistryGroup::UNKNOWN;
        if self.order.lock().count_of(is_unknown) > 0 { sought } else { Vec::new() }
    }

    /// The content that the operator wants kept.
    pub(in crate::store) fn pins(&self) -> &PinBoard {
        &self.pins
    }

    /// Bytes that pinned blobs take.
    pub(super) fn pinned_bytes(&self) -> u64 {
        self.order.lock().bytes_of(|class| class.hold == BlobHold::Pinned)
    }

    /// Pins these blobs, as far as they are stored, and no others. The first ones go before those
    /// that would be too much. `keys` has them all.
    pub(super) fn set_pinned(&self, found: Vec<BlobKey>, keys: HashSet<BlobKey>) {
        let gone = self.pins.replace(keys);
        let mut order = self.order.lock();
        // The cap may be lower than it was: each is let go of, and pinned again if there is room.
        for key in found.iter().chain(&gone) {
            set_hold(&mut order, key, BlobHold::Free);
        }
        for key in found {
            self.pin(&mut order, key);
        }
        if !gone.is_empty() {
            // Their tags may be gone as well.
            self.lost.look_everywhere();
        }
    }

    /// Pins a blob if it is stored and there is room for it among all that is pinned.
    fn pin(&self, order: &mut EvictionOrder<BlobKey>, key: BlobKey) {
        let Some(class) = order.class(&key).filter(|class| class.hold != BlobHold::Pinned) else {
            return;
        };
        let pinned = order.bytes_of(|class| class.hold == BlobHold::Pinned);
        let bytes = order.size(&key).unwrap_or_default();
        if !self.space.could_hold(pinned + bytes) {
            tracing::warn!(digest = %key.digest(), bytes, pinned, cap = self.space.cap(), "not pinned: pins would take more than the cache may");
            return;
        }
        order.set_class(&key, BlobClass { hold: BlobHold::Pinned, ..class });
        self.pins.is_unsynced(key);
    }

    /// The number of a registry.
    pub(in crate::store) fn group(&self, registry: &RegistryName) -> RegistryGroup {
        self.groups.lock().group(registry)
    }

    /// Whether all blobs that may be evicted would make up for what is lacking.
    pub(super) fn is_met_by_all(&self, shortage: SpaceShortage) -> bool {
        let order = self.order.lock();
        shortage.is_met_by(order.bytes_of(is_evictable), order.count_of(is_evictable) as u64)
    }

    /// Notes that a stored blob was served. If there are more than can be taken, some are lost.
    pub(in crate::store) fn note_hit(&self, digest: &Digest) {
        self.hits.note(BlobKey::of(digest));
    }

    /// Gives the order the uses since the last time.
    pub(super) fn count_hits(&self) {
        let now = self.now();
        let mut order = self.order.lock();
        self.hits.drain(|key| {
            order.touch(key, now);
        });
    }

    /// Notes that a blob was stored, from this registry if that is known.
    pub(in crate::store) fn stored(
        &self,
        digest: &Digest,
        len: u64,
        allocated: u64,
        group: RegistryGroup,
    ) {
        let key = BlobKey::of(digest);
        let bytes = footprint(digest, len, allocated);
        self.recent.lock().forget(&key);
        self.change(|order, now| {
            order.insert(key.clone(), bytes, now);
            give_group(order, &key, group);
            if self.pins.has(&key) {
                self.pin(order, key);
            }
        });
    }

    /// Notes that a manifest of a registry was stored. Content that it lists and that was pushed
    /// before it is of the same registry, and pinned if it is.
    pub(in crate::store) fn note_manifest(
        &self,
        digest: &Digest,
        body: &[u8],
        group: RegistryGroup,
    ) {
        let is_limited = self.retention.lock().is_limited(group);
        let is_pinned = self.pins.has(&BlobKey::of(digest));
        if (is_limited || is_pinned)
            && let Ok(facts) = ManifestFacts::read(body)
        {
            let listed = || facts.descriptors.iter().map(|it| &it.digest);
            self.set_group(listed(), group);
            if is_pinned {
                self.pins.add(listed().map(BlobKey::of));
                self.pins.set_stale();
            }
        }
    }

    /// Notes the registry of blobs of which none is known, as far as they are stored.
    pub(super) fn set_group<'d>(
        &self,
        digests: impl IntoIterator<Item = &'d Digest>,
        group: RegistryGroup,
    ) {
        let mut order = self.order.lock();
        for digest in digests {
            let key = BlobKey::of(digest);
            if order.class(&key).is_some_and(|class| class.group == RegistryGroup::UNKNOWN) {
                give_group(&mut order, &key, group);
            }
        }
    }

    /// Notes that a blob of an earlier process was found.
    pub(super) fn found(&self, digest: &Digest, len: u64, allocated: u64, used: u32) {
        let key = BlobKey::of(digest);
        let bytes = footprint(digest, len, allocated);
        self.change(|order, _| order.insert_found(key, bytes, used));
    }

    /// Notes that every blob of earlier processes was found.
    pub(super) fn order_by_age(&self) {
        self.change(EvictionOrder::order_by_age);
    }

    /// Whether a blob was evicted lately, and not stored since.
    pub(in crate::store) fn was_evicted(&self, digest: &Digest) -> bool {
        self.recent.lock().has(&BlobKey::of(digest))
    }

    /// Notes that a blob was removed by another than the eviction.
    pub(in crate::store) fn removed(&self, digest: &Digest) {
        self.change(|order, _| order.remove(&BlobKey::of(digest)));
    }

    /// Notes that a blob was evicted, if it is known.
    pub(super) fn evicted(&self, key: &BlobKey, reason: EvictionReason) -> Option<RemovedBlob> {
        self.recent.lock().note(key.clone());
        self.change(|order, _| match reason {
            EvictionReason::MaxIdle => order.remove(key),
            EvictionReason::MaxSize | EvictionReason::MinFree => {
                order.evict(key, OrderBound::Whole)
            }
            EvictionReason::RegistryMaxSize => order.evict(key, OrderBound::Registry),
        })
    }

    /// The blob that goes next, of a registry if one is given.
    pub(super) fn next(&self, of: Option<RegistryGroup>) -> Option<BlobKey> {
        let is_of = |class: BlobClass| of.is_none_or(|group| class.group == group);
        self.lost.next(&self.order, &self.space, is_of)
    }

    /// The content that no upstream could give again.
    pub(super) fn lost(&self) -> &LostContent {
        &self.lost
    }

    /// The one that tells from now on which registries can be asked.
    pub(in crate::store) fn set_states(&self, states: UpstreamStates) {
        self.lost.set_states(states);
    }

    /// Learns which registries can be asked now.
    pub(super) fn ask_for_states(&self) {
        let names = self.lost.unavailable();
        // Clients can make up names that patterns of the configuration match.
        let known = self.groups.lock();
        let groups: Vec<_> = names.iter().filter_map(|name| known.known(name)).collect();
        drop(known);
        self.lost.set_unavailable(&groups);
        let mut found = self.found_unavailable.lock();
        if found.len() > UNAVAILABLE_MAX {
            found.clear();
        }
        let new: Vec<_> = names.into_iter().filter(|name| !found.contains(name)).collect();
        self.sought.lock().extend_from_slice(&new);
        found.extend(new);
    }

    /// Notes that the upstream has a tag no longer, or has it again.
    pub(in crate::store) fn note_tag(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        tag: &Tag,
    ) {
        self.lost.note_tag(registry, repository, tag);
        self.pins.note_image(registry, repository, &Reference::Tag(tag.clone()));
    }

    /// Notes that contents belong to an image whose tag the upstream has no longer, or has again.
    pub(super) fn set_vanished(&self, digests: &[Digest], is_gone: bool) {
        set_vanished(&mut self.order.lock(), digests, is_gone);
    }

    /// Ends the protection of what was not pulled for too long, if it `is_time` to look for that.
    pub(super) fn mark_idle(&self, is_time: bool) {
        self.count_hits();
        self.lost.mark_idle(&self.order, self.now(), is_time);
    }

    /// Bytes of the blobs that go last.
    pub(super) fn protected_bytes(&self) -> u64 {
        self.lost.bytes(&self.order)
    }

    /// Lets all others go before a blob, until it is used.
    pub(super) fn postpone(&self, key: &BlobKey) {
        self.order.lock().postpone(key);
    }

    /// Notes that blobs are being read.
    pub(super) fn are_used(&self, keys: &[BlobKey]) {
        self.change(|order, now| {
            for key in keys {
                order.touch(key, now);
            }
        });
    }

    /// Bytes of a registry that are too many, if it is to take `more`.
    pub(super) fn excess(&self, group: RegistryGroup, more: u64) -> u64 {
        let Some(max) = self.retention.lock().max_size(group, self.space.total()) else { return 0 };
        let used = self.order.lock().bytes_of(|class| class.group == group);
        used.saturating_add(more).saturating_sub(max)
    }

    /// Whether a registry may take so many bytes if it has no others.
    pub(super) fn could_hold(&self, group: RegistryGroup, bytes: u64) -> bool {
        let max = self.retention.lock().max_size(group, self.space.total());
        max.is_none_or(|max| bytes <= max)
    }

    /// The registries that may not take any number of bytes.
    pub(super) fn sized(&self) -> Vec<RegistryGroup> {
        self.retention.lock().sized().collect()
    }

    /// The blobs that were not used for too long, by the uses that are counted.
    pub(super) fn idle(&self) -> Vec<BlobKey> {
        let retention = self.retention.lock();
        let now = self.now();
        let mut idle = Vec::new();
        let mut from = 0;
        while retention.has_idle_limits() {
            // Others have the lock in between.
            let order = self.order.lock();
            if from >= order.len() {
                break;
            }
            let is_due = |class, used| retention.is_due(class, used, now);
            idle.extend(order.choose(from, LOOK_BLOBS, is_due));
            from += LOOK_BLOBS;
        }
        idle
    }

    fn change<T>(&self, change: impl FnOnce(&mut EvictionOrder<BlobKey>, u32) -> T) -> T {
        let now = self.now();
        let mut order = self.order.lock();
        let changed = change(&mut order, now);
        self.space.set(SpacePart::Blobs, order.bytes());
        changed
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> u32 {
        u32::try_from(unix_seconds(self.clock.now())).unwrap_or(u32::MAX)
    }
}

/// Bytes that a blob takes, with its checksums.
fn footprint(digest: &Digest, len: u64, allocated: u64) -> u64 {
    let files = [allocated, sums::file_bytes(digest, len)];
    files.into_iter().map(|bytes| bytes.next_multiple_of(BLOCK_BYTES)).sum()
}

fn is_evictable(class: BlobClass) -> bool {
    class.hold != BlobHold::Pinned
}

/// Registries that are remembered as sought; beyond it, their blobs are looked for once more.
const UNAVAILABLE_MAX: usize = 1024;

fn set_hold(order: &mut EvictionOrder<BlobKey>, key: &BlobKey, hold: BlobHold) {
    if let Some(class) = order.class(key) {
        order.set_class(key, BlobClass { hold, ..class });
    }
}

fn give_group(order: &mut EvictionOrder<BlobKey>, key: &BlobKey, group: RegistryGroup) {
    let known = order.class(key).filter(|_| group != RegistryGroup::UNKNOWN);
    if let Some(class) = known {
        order.set_class(key, BlobClass { group, ..class });
    }
}
