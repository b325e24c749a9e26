//! How long blobs are kept without a pull, and how much one registry may take: as pure code.
//!
//! Both are decided by the last pull, never by the first: a blob that is pulled every day stays for
//! years. How blobs are evicted for it is in `budget.rs`.

use std::time::Duration;

use super::class::{BlobClass, BlobHold, RegistryGroup, RegistryGroups};
use super::protection::ProtectionLimits;
use crate::oci::RegistryName;
use crate::store::space_limits::SpaceAmount;

/// How long content is kept, and how much of it. It may change while the store is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    /// The time without a pull after which content is evicted; `None` for any.
    pub max_idle: Option<Duration>,
    /// Those of registries that differ.
    pub registries: Vec<RegistryRetention>,
    /// How much is protected that the upstream can no longer give, and for how long.
    pub protection: ProtectionLimits,
}

impl RetentionLimits {
    /// The registries that have limits of their own.
    pub(super) fn registry_names(&self) -> Vec<RegistryName> {
        self.registries.iter().map(|limits| limits.registry.clone()).collect()
    }
}

/// The limits of the content of one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryRetention {
    /// The registry.
    pub registry: RegistryName,
    /// Bytes that its content may take; `None` for any number.
    pub max_size: Option<SpaceAmount>,
    /// The time without a pull after which its content is evicted; `None` for any.
    pub max_idle: Option<Duration>,
}

/// The limits in force, by the numbers of registries.
#[derive(Debug, Default)]
pub(super) struct RetentionRules {
    max_idle: Option<Duration>,
    registries: Vec<GroupLimits>,
}

#[derive(Debug)]
struct GroupLimits {
    group: RegistryGroup,
    max_size: Option<SpaceAmount>,
    max_idle: Option<Duration>,
}

impl RetentionRules {
    pub(super) fn new(limits: &RetentionLimits, groups: &mut RegistryGroups) -> Self {
        let registries = limits.registries.iter().map(|it| GroupLimits {
            group: groups.group(&it.registry),
            max_size: it.max_size,
            max_idle: it.max_idle,
        });
        Self { max_idle: limits.max_idle, registries: registries.collect() }
    }

    fn of(&self, group: RegistryGroup) -> Option<&GroupLimits> {
        self.registries.iter().find(|limits| limits.group == group)
    }

    /// Whether a registry has limits of its own.
    pub(super) fn is_limited(&self, group: RegistryGroup) -> bool {
        self.of(group).is_some()
    }

    /// Bytes that a registry may take on a file system of `total` bytes, if that is limited.
    pub(super) fn max_size(&self, group: RegistryGroup, total: u64) -> Option<u64> {
        Some(self.of(group)?.max_size?.of(total))
    }

    /// The registries that may not take any number of bytes.
    pub(super) fn sized(&self) -> impl Iterator<Item = RegistryGroup> {
        self.registries.iter().filter(|it| it.max_size.is_some()).map(|it| it.group)
    }

    /// Whether any content is evicted after a time.
    pub(super) fn has_idle_limits(&self) -> bool {
        self.max_idle.is_some() || self.registries.iter().any(|it| it.max_idle.is_some())
    }

    /// Whether a blob that was last used at `used` has to go at `now`, in seconds since 1970.
    pub(super) fn is_due(&self, class: BlobClass, used: u32, now: u32) -> bool {
        let max_idle = self.of(class.group).map_or(self.max_idle, |limits| limits.max_idle);
        let is_idle = |max: Duration| u64::from(now.saturating_sub(used)) > max.as_secs();
        class.hold != BlobHold::Pinned && max_idle.is_some_and(is_idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_blob_is_due_by_its_last_use_and_the_limit_of_its_registry() {
        let name = |text: &str| text.parse::<RegistryName>().unwrap();
        let limit = |registry: &str, days: Option<u32>, max_size| RegistryRetention {
            registry: name(registry),
            max_size,
            max_idle: days.map(|days| DAY * days),
        };
        let mut groups = RegistryGroups::default();
        let other = groups.group(&name("other.test"));
        let registries = vec![
            limit("short.test", Some(1), Some(SpaceAmount::Percent(10))),
            limit("ever.test", None, None),
        ];
        let limits = RetentionLimits {
            max_idle: Some(DAY * 30),
            registries,
            protection: ProtectionLimits::NONE,
        };
        let rules = RetentionRules::new(&limits, &mut groups);
        let [short, ever] = ["short.test", "ever.test"].map(|text| groups.group(&name(text)));
        let now = 100 * 86_400;
        for (group, days, is_due) in [
            (RegistryGroup::UNKNOWN, 30, false),
            (RegistryGroup::UNKNOWN, 31, true),
            (other, 30, false),
            (other, 31, true),
            (short, 1, false),
            (short, 2, true),
            (ever, 99, false),
        ] {
            let class = |hold| BlobClass { group, hold, is_idle: false };
            let used = now - days * 86_400;
            assert_eq!(rules.is_due(class(BlobHold::Free), used, now), is_due, "{group:?} {days}");
            assert!(!rules.is_due(class(BlobHold::Pinned), used, now), "pinned");
        }
        assert!(!rules.is_due(BlobClass::default(), now + 5, now), "a clock that went back");
        let sizes = [short, ever, other].map(|group| rules.max_size(group, 1000));
        assert_eq!(sizes, [Some(100), None, None]);
        assert!(rules.sized().eq([short]) && rules.has_idle_limits());
        let none = RetentionRules::new(&RetentionLimits::default(), &mut groups);
        assert!(!none.is_due(BlobClass::default(), 0, now) && !none.has_idle_limits());
    }
}
