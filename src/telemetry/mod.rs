//! Counters and histograms that any thread may raise and none waits for, and a file of lines.
//!
//! Each module decides what it counts; `admin/` decides what is shown, and under which name.

mod counter;
mod histogram;
mod rotated_file;

pub use counter::{Counter, CounterGrid};
pub use histogram::{BOUNDS, Histogram, HistogramSnapshot};
pub use rotated_file::{RefusedLines, RotatedFile, RotationLimits};
