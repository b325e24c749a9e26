//! A finite disk: which blobs go, when, and what may be stored.
//!
//! `order.rs` decides which blob goes first, `budget.rs` whether one has to and that it may, and
//! `keeper.rs` does so ahead of need. How much is stored and may be is counted in `../space.rs`.

mod budget;
mod counts;
mod hits;
mod keeper;
mod key;
mod open_files;
mod order;
mod recent;

pub(super) use self::budget::DiskBudget;
pub use self::counts::{EvictedBlobs, EvictionReason, SpaceReport};
pub(super) use self::keeper::{bytes_of_directories, bytes_under, start};
pub use self::order::{EvictionOrder, RemovedBlob};

#[cfg(test)]
mod tests;
