//! The registries that clients may name, and the one that each name means.
//!
//! A closed world: a name that is not configured, and that no configured pattern matches, means no
//! registry, and never an address to dial.
//! How a request names a registry is read in `routes/door.rs`, and how a registry is called is
//! decided in `upstream`.

mod doors;
mod matched;
mod name_pattern;
mod options;
mod pattern;
mod set;
mod single;

pub use doors::{Door, OpenDoors};
pub use name_pattern::{InvalidNamePattern, RegistryNamePattern};
pub use options::{AskedAs, GrantPolicy, RegistryOptions, RegistryRules, TagPolicy, TagRule};
pub use pattern::{InvalidPattern, RepositoryPattern};
pub use set::RegistrySet;
pub use single::Registry;
