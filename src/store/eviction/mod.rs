//! A finite disk: which blobs go, when, and what may be stored.
//!
//! `order.rs` decides which blob goes first, `protection.rs` which go last, `retention.rs` which
//! have been there for too long, `budget.rs` whether one has to go and that it may, and `keeper.rs`
//! does so ahead of need. The blobs that there are are noted in `catalog.rs`, those that are pinned
//! in `pins.rs`, those that no upstream could give again in `protected.rs`; how much is stored and
//! may be is counted in `../space.rs`.

mod budget;
mod catalog;
mod class;
mod counts;
mod heap;
mod hits;
mod idle;
mod keeper;
mod key;
mod open_files;
mod order;
mod owners;
mod pin_walk;
mod pins;
mod protected;
mod protection;
mod recent;
mod retention;
mod vanished;

pub(super) use self::budget::DiskBudget;
pub use self::class::{BlobClass, BlobHold, RegistryGroup};
pub use self::counts::{EvictedBlobs, EvictionReason, SpaceReport};
pub(super) use self::keeper::start;
pub use self::order::{EvictionOrder, OrderBound, RemovedBlob};
pub use self::pins::{NoPins, PinRules};
pub use self::protected::UpstreamStates;
pub use self::protection::ProtectionLimits;
pub use self::retention::{RegistryRetention, RetentionLimits};

#[cfg(test)]
mod pin_tests;
#[cfg(test)]
mod protection_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod tests;
