//! The one fetch of a missing blob into the store, which its readers follow.

pub(super) mod handover;
pub(super) mod join;
pub(super) mod parallel_ranges;
pub(super) mod progress;
pub(super) mod range_budget;
pub(super) mod stats;
pub(super) mod table;
pub(super) mod task;
