//! The registries that clients may name, and which one a name means.

mod entry;
mod table;

pub use entry::{Options, Rules, TagPolicy};
pub use table::{Entry, Registry, Table};
