//! The class of a blob: which registry it counts to, and what keeps it.

use crate::oci::RegistryName;

/// A registry, by the number that it has in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegistryGroup(u8);

impl RegistryGroup {
    /// Blobs of an earlier process before it is known which registry they are of.
    pub const UNKNOWN: Self = Self(0);

    /// Its number.
    pub(super) fn number(self) -> usize {
        self.0.into()
    }
}

/// Why a blob is not evicted as all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlobHold {
    /// It is evicted in its turn.
    #[default]
    Free,
    /// Its image had a tag that the upstream no longer has.
    Vanished,
    /// The operator wants it kept.
    Pinned,
}

impl BlobHold {
    const ALL: [Self; 3] = [Self::Free, Self::Vanished, Self::Pinned];
}

/// The registry of a blob, its hold, and whether it is still in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobClass {
    /// The registry that it was fetched from last.
    pub group: RegistryGroup,
    /// Its protection.
    pub hold: BlobHold,
    /// Whether it was not pulled for so long that only a pin protects it.
    pub is_idle: bool,
}

impl BlobClass {
    /// Its place among all classes.
    pub(super) fn index(self) -> usize {
        let kind = 2 * (self.hold as usize) + usize::from(self.is_idle);
        self.group.number() * KINDS + kind
    }

    /// The class with this place.
    pub(super) fn at(index: usize) -> Self {
        let group = RegistryGroup(u8::try_from(index / KINDS).unwrap_or_default());
        let kind = index % KINDS;
        Self { group, hold: BlobHold::ALL[kind / 2], is_idle: kind % 2 == 1 }
    }
}

/// The classes of one registry.
const KINDS: usize = 2 * BlobHold::ALL.len();

/// The registries that have numbers, in the order of the first blob or limit of each.
#[derive(Debug, Default)]
pub(super) struct RegistryGroups {
    names: Vec<RegistryName>,
}

impl RegistryGroups {
    /// The number of a registry, if it has one.
    pub(super) fn known(&self, registry: &RegistryName) -> Option<RegistryGroup> {
        let index = self.names.iter().position(|name| name == registry)?;
        Some(RegistryGroup(u8::try_from(index + 1).unwrap_or_default()))
    }

    /// The number of a registry, from now on. Those beyond the 255th have none of their own.
    pub(super) fn group(&mut self, registry: &RegistryName) -> RegistryGroup {
        let known = self.names.iter().position(|name| name == registry);
        let index = known.unwrap_or_else(|| {
            if self.names.len() < usize::from(u8::MAX) {
                self.names.push(registry.clone());
            }
            self.names.len() - 1
        });
        let number = if self.names[index] == *registry { index + 1 } else { 0 };
        RegistryGroup(u8::try_from(number).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_one_place_and_a_registry_one_number() {
        let mut groups = RegistryGroups::default();
        for number in 0..300 {
            let name = format!("r{number}.test").parse().unwrap();
            let group = groups.group(&name);
            assert_eq!(group, groups.group(&name));
            let known = groups.known(&name).unwrap_or_default();
            assert_eq!(group, known);
            assert_eq!(group.number(), if number < 255 { number + 1 } else { 0 });
            for hold in BlobHold::ALL {
                for is_idle in [false, true] {
                    let class = BlobClass { group, hold, is_idle };
                    assert_eq!(BlobClass::at(class.index()), class);
                }
            }
        }
    }
}
