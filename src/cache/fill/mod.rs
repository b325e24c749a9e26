//! The one running fetch of a missing blob into the store.

pub(super) mod stats;
pub(super) mod table;
pub(super) mod task;
pub(super) mod writer;
