//! The wall clock, injected so that tests can set it.
//!
//! Time-outs and waits use tokio's clock, which tests can pause. The wall clock is only for what
//! outlives the process: when a tag was last heard of, when a file was last used.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Tells the time of day.
pub trait WallClock: fmt::Debug + Send + Sync {
    /// Now. May jump in either direction; whoever subtracts must expect a negative difference.
    fn now(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Whole seconds since 1970; 0 for anything before.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
