//! The registries that clients may name, and which one a name means.

mod doors;
mod entry;
mod table;

pub use doors::{Door, Doors};
pub use entry::{Options, TagPolicy};
pub use table::{Entry, Registry, Table};
