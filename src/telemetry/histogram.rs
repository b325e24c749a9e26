//! How long things take, by bounds.
//!
//! Two atomic additions for each observation and no lock, which is why it is our own: those of the
//! common libraries lock, and one is observed twice in every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in seconds: from a manifest in memory to a layer over a slow
/// line.
pub const BOUNDS: [f64; 19] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 120.0, 600.0,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one for what took longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// The observations of a histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    /// How often.
    pub count: u64,
    /// How long in all, in seconds.
    pub sum: f64,
    /// An upper bound and how many lie above the one before it and not above this one; the last
    /// bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Notes one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The observations so far. While other threads add some, the sum may be a few ahead or behind.
    pub fn read(&self) -> HistogramSnapshot {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        HistogramSnapshot { count, sum, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_a_bound_is_below_it_and_the_longest_is_above_all() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 10_000_000] {
            histogram.observe(Duration::from_millis(millis));
        }

        let HistogramSnapshot { count, sum, buckets } = histogram.read();
        let seen: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(seen, [(0.000_1, 1), (0.001, 1), (0.002_5, 1), (f64::INFINITY, 1)]);
        assert_eq!(count, 4);
        assert!((sum - 10_000.003).abs() < 1e-6, "{sum}");
    }
}
