//! The wall clock and the run of the machine, injected so that tests can set them.
//!
//! Time-outs and waits use tokio's clock, which tests can pause. The wall clock is only for what
//! outlives the process: when a tag was last heard of, when a file was last used.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

/// Tells the time of day.
pub trait WallClock: fmt::Debug + Send + Sync {
    /// The time now. It may jump in either direction; a caller that subtracts must expect a
    /// negative difference.
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

/// One run of the machine, from its start to its end, as a number that another run does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(u32);

impl BootId {
    /// The run that we are in. On a machine that does not tell, every process counts as a run of
    /// its own.
    pub fn current() -> Self {
        Self::of_machine().unwrap_or(Self(fastrand::u32(1..NANOS)))
    }

    /// The run that we are in, if the machine tells: service managers can hide the file.
    pub fn of_machine() -> Option<Self> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Self::of_id(id.trim())
    }

    /// The run with this id: a UUID, as Linux gives it.
    pub fn of_id(id: &str) -> Option<Self> {
        let id = u128::from_str_radix(&id.replace('-', ""), 16).ok()?;
        // Its bits are random, so what is left of them is, too.
        let number = u32::try_from(id % u128::from(NANOS - 1)).ok()?;
        Some(Self(number + 1))
    }

    /// The number: at least 1, less than a second has nanoseconds. Two runs have the same once in
    /// a billion.
    pub fn number(self) -> u32 {
        self.0
    }
}

const NANOS: u32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_known_by_its_id() {
        let one = BootId::of_id("7d1b2f3e-58e1-4c05-a1c5-0d9e5a3b1c2d").unwrap();
        let other = BootId::of_id("7d1b2f3e-58e1-4c05-a1c5-0d9e5a3b1c2e").unwrap();
        assert_ne!(one, other);
        assert!((1..NANOS).contains(&one.number()));
        assert_eq!(BootId::of_id("not an id"), None);
        assert_eq!(BootId::current(), BootId::current(), "this machine has not started in between");
    }
}
