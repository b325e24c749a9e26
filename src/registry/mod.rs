//! The registries that clients may name, and which one a name means.

mod doors;
mod entry;
mod pattern;
mod table;

pub use doors::{Door, Doors};
pub use entry::{AskedAs, GrantPolicy, Options, Rules, TagPolicy, TagRule};
pub use pattern::{InvalidPattern, Pattern};
pub use table::{Entry, Registry, Table};
