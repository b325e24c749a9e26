//! A wall clock that follows tokio's, so that advancing the paused time ages what is stored too.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use larder::clock::{SystemClock, WallClock};
use tokio::time::Instant;

/// Starts at the machine's time, because files get their times from the machine.
#[derive(Debug)]
pub struct TestClock {
    began: (Instant, SystemTime),
    ahead: Mutex<Duration>,
}

impl TestClock {
    pub fn new() -> Self {
        Self { began: (Instant::now(), SystemClock.now()), ahead: Mutex::default() }
    }

    /// Moves the wall clock alone, as when the machine was off in between.
    pub fn skip(&self, span: Duration) {
        *self.ahead.lock().unwrap() += span;
    }
}

impl WallClock for TestClock {
    fn now(&self) -> SystemTime {
        let (instant, time) = self.began;
        time + instant.elapsed() + *self.ahead.lock().unwrap()
    }
}
