//! The registries that clients may name, and which one a name means.

mod entry;
mod table;

pub use entry::{Options, TagPolicy};
pub use table::{Entry, Registry, Table};
