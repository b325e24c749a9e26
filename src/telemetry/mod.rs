//! What is counted with: numbers that any thread may raise and none waits for.
//!
//! What there is to count, and what it is called, is decided by those who count; what is shown of it,
//! in `admin/`.

mod counter;
mod histogram;

pub use counter::{Counter, CounterGrid};
pub use histogram::{BOUNDS, Histogram, HistogramSnapshot};
