//! Times as commands print them.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::unix_seconds;

/// A time in whole seconds: RFC 3339 in UTC, in JSON as in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time that lies so many seconds after 1970.
    pub(super) fn of_seconds(seconds: u64) -> Self {
        Self(seconds.min(LAST_SECOND))
    }

    /// How long before `now` it was; zero if it was not.
    pub fn age(self, now: SystemTime) -> Duration {
        Duration::from_secs(unix_seconds(now).saturating_sub(self.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self::of_seconds(unix_seconds(time))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.0);
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(time.into())
    }
}

/// The end of the year 9999, after which RFC 3339 has no name for a second.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written_and_the_latest_can_be_written_too() {
        for seconds in [0, 1_790_000_000, u64::MAX >> 2] {
            let time: Timestamp = (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into();
            let json = serde_json::to_string(&time).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time, "{json}");
        }
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
    }
}
