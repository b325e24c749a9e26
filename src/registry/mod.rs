//! The registries that clients may name, and which one a name means.

mod doors;
mod entry;
mod pattern;
mod table;

pub use doors::{Door, OpenDoors};
pub use entry::{AskedAs, GrantPolicy, RegistryOptions, RegistryRules, TagPolicy, TagRule};
pub use pattern::{InvalidPattern, RepositoryPattern};
pub use table::{Registry, RegistryEntry, RegistrySet};
