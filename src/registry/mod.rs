//! The registries that clients may name, and which one a name means.

mod entry;

pub use entry::{Options, TagPolicy};
