//! How a request was answered: one enum for the header, the log and the metrics.
//!
//! The header is `Cache-Status` (RFC 9211), its value a list of one member, this cache.

use std::fmt;
use std::time::Duration;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// From the upstream, without being stored.
    Bypass(Bypass),
    /// From the cache, and fresh.
    Hit,
    /// From the upstream, being stored.
    Miss {
        /// Whether another request had begun the fetch.
        collapsed: bool,
        /// Whether the answer ends before the blob does, and so before it is verified.
        unverified: bool,
    },
    /// From the cache, after the upstream was asked whether it still holds.
    Revalidated,
    /// From the cache, though the upstream should have been asked and could not be.
    Stale {
        /// How long ago the record ceased to be fresh.
        since: Duration,
        /// Why the upstream was not asked.
        reason: StaleReason,
    },
}

/// Why an answer passed by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// The disk failed.
    DiskFailed,
    /// The client's `Accept` set, or the manifest itself, allows no caching: schema 1.
    NotCacheable,
    /// The blob does not fit on the disk.
    NoSpace,
    /// Only the upstream can say: existence of what is not in the cache.
    Lookup,
}

/// Why a tag was not revalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// Our credential is refused everywhere.
    CredentialRefused,
    /// The operator has the cache alone answer.
    Offline,
    /// It did not answer within `stale_wait`.
    Slow,
    /// It is limiting us.
    Throttled,
    /// It cannot be reached, or answers with faults.
    Unavailable,
}

impl Decision {
    /// The word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bypass(_) => "bypass",
            Self::Hit => "hit",
            Self::Miss { .. } => "miss",
            Self::Revalidated => "revalidated",
            Self::Stale { .. } => "stale",
        }
    }

    /// The same for an answer that ends before the blob does, if `is_verified` is not said of it.
    #[must_use]
    pub fn of_part(self, is_verified: bool) -> Self {
        match self {
            Self::Miss { collapsed, .. } => Self::Miss { collapsed, unverified: !is_verified },
            other => other,
        }
    }

    /// The reason behind the word, where there is one.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Bypass(Bypass::DiskFailed) => Some("disk-failed"),
            Self::Bypass(Bypass::Lookup) => Some("lookup"),
            Self::Bypass(Bypass::NoSpace) => Some("no-space"),
            Self::Bypass(Bypass::NotCacheable) => Some("not-cacheable"),
            Self::Stale { reason, .. } => Some(reason.as_str()),
            Self::Miss { unverified: true, .. } => Some("unverified"),
            Self::Hit | Self::Miss { .. } | Self::Revalidated => None,
        }
    }
}

impl StaleReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::CredentialRefused => "credential-refused",
            Self::Offline => "offline",
            Self::Slow => "upstream-slow",
            Self::Throttled => "upstream-throttled",
            Self::Unavailable => "upstream-unavailable",
        }
    }
}

/// As the value of `Cache-Status`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bypass(_) => f.write_str("larder; fwd=bypass")?,
            Self::Hit => f.write_str("larder; hit")?,
            Self::Miss { collapsed: false, .. } => f.write_str("larder; fwd=uri-miss")?,
            Self::Miss { collapsed: true, .. } => f.write_str("larder; fwd=uri-miss; collapsed")?,
            Self::Revalidated => f.write_str("larder; fwd=stale; fwd-status=200")?,
            Self::Stale { since, .. } => write!(f, "larder; hit; ttl=-{}", since.as_secs())?,
        }
        match self.detail() {
            Some(detail) => write!(f, "; detail={detail}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decision_is_a_cache_status() {
        let since = Duration::from_secs(12);
        let miss = |collapsed, unverified| Decision::Miss { collapsed, unverified };
        let table = [
            (Decision::Hit, "larder; hit"),
            (miss(false, false), "larder; fwd=uri-miss"),
            (miss(true, false), "larder; fwd=uri-miss; collapsed"),
            (miss(false, true), "larder; fwd=uri-miss; detail=unverified"),
            (Decision::Revalidated, "larder; fwd=stale; fwd-status=200"),
            (
                Decision::Stale { since, reason: StaleReason::Unavailable },
                "larder; hit; ttl=-12; detail=upstream-unavailable",
            ),
            (Decision::Bypass(Bypass::NoSpace), "larder; fwd=bypass; detail=no-space"),
        ];
        for (decision, want) in table {
            assert_eq!(decision.to_string(), want);
        }
    }
}
