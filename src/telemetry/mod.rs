//! Counters and histograms that any thread may raise and none waits for.
//!
//! Each module decides what it counts; `admin/` decides what is shown, and under which name.

mod counter;
mod histogram;

pub use counter::{Counter, CounterGrid};
pub use histogram::{BOUNDS, Histogram, HistogramSnapshot};
