//! Which blobs go last because no upstream could give them again: as pure code.
//!
//! Protected is content of a registry that is down, limited or offline, and of images whose tag the
//! upstream no longer has. It goes after all else, as long as it takes no more than `protect_max`
//! and was pulled within `protect_for`; beyond either it has the place that its use gives it.

use std::hash::Hash;
use std::time::Duration;

use super::class::{BlobClass, BlobHold, RegistryGroup};
use super::order::EvictionOrder;
use crate::store::space_limits::SpaceAmount;

/// How much is protected, and for how long. It may change while the store is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectionLimits {
    /// Bytes, or a part of the most that content may take.
    pub amount: SpaceAmount,
    /// The time since the last pull after which nothing is protected.
    pub keep_for: Duration,
}

impl ProtectionLimits {
    /// Nothing is protected.
    pub const NONE: Self = Self { amount: SpaceAmount::Bytes(0), keep_for: Duration::ZERO };

    /// Whether anything is.
    pub fn is_on(self) -> bool {
        !matches!(self.amount, SpaceAmount::Bytes(0) | SpaceAmount::Percent(0))
            && !self.keep_for.is_zero()
    }
}

impl Default for ProtectionLimits {
    fn default() -> Self {
        Self::NONE
    }
}

/// The limits in force, and the registries that can give nothing now.
#[derive(Debug, Default)]
pub(super) struct ProtectionRules {
    pub(super) limits: ProtectionLimits,
    /// By the number of the registry.
    unavailable: Vec<bool>,
}

impl ProtectionRules {
    /// The registries that can give nothing from now on.
    pub(super) fn set_unavailable(&mut self, groups: &[RegistryGroup]) {
        self.unavailable.clear();
        for group in groups.iter().map(|group| group.number()) {
            let len = self.unavailable.len().max(group + 1);
            self.unavailable.resize(len, false);
            self.unavailable[group] = true;
        }
    }

    /// Whether a blob goes last. One whose registry is not known goes in its turn.
    pub(super) fn protects(&self, class: BlobClass) -> bool {
        let is_lost = match class.hold {
            BlobHold::Free if class.group == RegistryGroup::UNKNOWN => false,
            BlobHold::Free => self.unavailable.get(class.group.number()) == Some(&true),
            BlobHold::Vanished => true,
            BlobHold::Pinned => false,
        };
        is_lost && !class.is_idle && self.limits.is_on()
    }

    /// Whether the mark of a blob that was last used at `used` says the opposite of what is true at
    /// `now`, in seconds since 1970.
    pub(super) fn is_mismarked(&self, class: BlobClass, used: u32, now: u32) -> bool {
        let unused = u64::from(now.saturating_sub(used));
        class.is_idle != (unused > self.limits.keep_for.as_secs())
    }

    /// The blob that goes next, of those that `is_meant`; `max` bytes are protected at most.
    pub(super) fn next<'o, K: Hash + Eq>(
        &self,
        order: &'o EvictionOrder<K>,
        is_meant: impl Fn(BlobClass) -> bool,
        max: u64,
    ) -> Option<&'o K> {
        let is_evictable = |class: BlobClass| class.hold != BlobHold::Pinned && is_meant(class);
        let any = || order.first_of(is_evictable);
        if order.bytes_of(|class| self.protects(class)) > max {
            return any();
        }
        order.first_of(|class| is_evictable(class) && !self.protects(class)).or_else(any)
    }
}

#[cfg(test)]
mod tests {
    use super::super::class::RegistryGroups;
    use super::super::order::OrderBound;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn groups() -> [RegistryGroup; 2] {
        let mut groups = RegistryGroups::default();
        ["up.test", "down.test"].map(|name| groups.group(&name.parse().unwrap()))
    }

    fn rules(unavailable: &[RegistryGroup]) -> ProtectionRules {
        let amount = SpaceAmount::Percent(25);
        let limits = ProtectionLimits { amount, keep_for: Duration::from_secs(90) };
        let mut rules = ProtectionRules { limits, ..ProtectionRules::default() };
        rules.set_unavailable(unavailable);
        rules
    }

    /// Blobs of 10 MiB: 0 to 9 of a registry that is up, used before 10 to 19 of one that is down.
    fn order([up, down]: [RegistryGroup; 2]) -> EvictionOrder<u32> {
        let mut order = EvictionOrder::default();
        for key in (10..20).chain(0..10) {
            order.insert(key, 10 * MIB, key);
            let group = if key < 10 { up } else { down };
            order.set_class(&key, BlobClass { group, ..BlobClass::default() });
        }
        order
    }

    fn drained(rules: &ProtectionRules, mut order: EvictionOrder<u32>, max: u64) -> Vec<u32> {
        let next = || {
            let key = *rules.next(&order, |_| true, max)?;
            order.evict(&key, OrderBound::Whole).map(|_| key)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn content_of_a_registry_that_is_down_goes_last() {
        let groups = groups();
        let drained = drained(&rules(&groups[1..]), order(groups), 100 * MIB);
        assert!(drained[..10].iter().all(|key| *key < 10), "{drained:?}");
        assert_eq!(drained.len(), 20, "in the end everything goes");
    }

    /// Or the cache would hold nothing else, however little of it is used.
    #[test]
    fn beyond_the_bound_it_has_the_place_that_its_use_gives_it() {
        let groups = groups();
        let mut order = order(groups);
        for key in 0..10 {
            order.touch(&key, 50);
        }
        let drained = drained(&rules(&groups[1..]), order, 40 * MIB);
        assert!(drained[..6].iter().all(|key| *key >= 10), "the excess: {drained:?}");
        assert!(drained[6..16].iter().all(|key| *key < 10), "40 MiB are kept: {drained:?}");
    }

    #[test]
    fn content_of_a_vanished_tag_goes_last_until_it_is_idle() {
        let groups = groups();
        let mut order = order(groups);
        for key in [3, 14] {
            let class = order.class(&key).unwrap();
            order.set_class(&key, BlobClass { hold: BlobHold::Vanished, ..class });
        }
        let rules = rules(&[]);
        let class = order.class(&3).unwrap();
        assert!(rules.protects(class));
        assert!(!rules.is_mismarked(class, 10, 100), "90 s are allowed");
        assert!(rules.is_mismarked(class, 10, 101));
        let idle = BlobClass { is_idle: true, ..class };
        assert!(!rules.protects(idle) && rules.is_mismarked(idle, 10, 100));
        order.set_class(&3, idle);
        let drained = drained(&rules, order, 20 * MIB);
        assert_eq!(drained.last(), Some(&14));
        assert!(drained[..19].contains(&3));
    }

    #[test]
    fn nothing_is_protected_without_a_bound_or_a_time_nor_what_is_pinned() {
        let [_, down] = groups();
        let class = BlobClass { group: down, ..BlobClass::default() };
        assert!(rules(&[down]).protects(class));
        for limits in [
            ProtectionLimits { amount: SpaceAmount::Bytes(0), ..rules(&[]).limits },
            ProtectionLimits { keep_for: Duration::ZERO, ..rules(&[]).limits },
        ] {
            let rules = ProtectionRules { limits, ..rules(&[down]) };
            assert!(!rules.protects(class));
            assert!(!rules.protects(BlobClass { hold: BlobHold::Vanished, ..class }));
        }
        assert!(!rules(&[down]).protects(BlobClass { hold: BlobHold::Pinned, ..class }));
        let unknown = BlobClass::default();
        assert!(!rules(&[RegistryGroup::UNKNOWN]).protects(unknown));
    }
}
