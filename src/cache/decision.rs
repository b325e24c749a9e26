//! How a request was answered: one enum for the header, the log and the metrics.
//!
//! The names of a decision stand in one table, [`DecisionNames`], with a row for each; nothing else
//! has names for decisions. The header is `Cache-Status` (RFC 9211), its value a list of one
//! member, this cache.

use std::io;
use std::time::Duration;

use http::HeaderValue;

/// Something pulled, and how it was come by.
#[derive(Clone, Debug)]
pub struct Pulled<T> {
    /// The thing itself.
    pub what: T,
    /// How the request was answered.
    pub decision: Decision,
    /// How long ago the upstream last confirmed it; `None` for what cannot change.
    pub age: Option<Duration>,
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// From the upstream, without being stored.
    Bypass(BypassReason),
    /// From the cache, and fresh.
    Hit,
    /// From the upstream, being stored.
    Miss {
        /// Whether another request had begun the fetch.
        collapsed: bool,
        /// Whether the answer ends before the blob does, and so before it is verified.
        unverified: bool,
        /// Why it was not in the cache.
        reason: MissReason,
    },
    /// Not the cache's to answer: a push or a deletion, which only the registry can do.
    Relayed {
        /// Whether nothing was sent, because the registry had it in another repository.
        mounted: bool,
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

/// Why something was not in the cache. It is for operators alone, in the log: to a client it would
/// say what others have pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissReason {
    /// Nothing that may be served in this repository is stored.
    Absent,
    /// It was stored, and evicted to make room.
    Evicted,
}

impl MissReason {
    /// The reason for a miss of content that is not stored.
    pub(super) fn of(was_evicted: bool) -> Self {
        if was_evicted { Self::Evicted } else { Self::Absent }
    }

    /// The value of the log's field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Evicted => "evicted",
        }
    }
}

/// Why an answer passed by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BypassReason {
    /// The disk failed.
    DiskFailed,
    /// The client's `Accept` set, or the manifest itself, allows no caching: schema 1.
    NotCacheable,
    /// The blob does not fit on the disk.
    NoSpace,
    /// Only the upstream can say: existence of what is not in the cache.
    Lookup,
    /// A range, which is not to begin a fill, and whose bytes are as the upstream gave them.
    Range,
}

impl BypassReason {
    /// The reason for an error of the disk.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::DiskFailed,
        }
    }
}

/// Why a tag was not revalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// Few requests are left of its rate limit.
    Budget,
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

/// The names of a decision: in header, log and metrics.
#[derive(Debug, PartialEq, Eq)]
pub struct DecisionNames {
    /// The word in the log and the metrics.
    pub word: &'static str,
    /// The detail beside the word; empty for none.
    pub detail: &'static str,
    /// `Cache-Status`, whole; of a stale answer, up to the number of its `ttl`.
    header: &'static str,
}

impl Decision {
    /// One of each kind, in the order of [`Decision::index`].
    pub const ALL: [Self; 19] = [
        Self::Hit,
        Self::Revalidated,
        Self::Miss { collapsed: false, unverified: false, reason: MissReason::Absent },
        Self::Miss { collapsed: false, unverified: true, reason: MissReason::Absent },
        Self::Miss { collapsed: true, unverified: false, reason: MissReason::Absent },
        Self::Miss { collapsed: true, unverified: true, reason: MissReason::Absent },
        Self::Stale { since: Duration::ZERO, reason: StaleReason::CredentialRefused },
        Self::Stale { since: Duration::ZERO, reason: StaleReason::Offline },
        Self::Stale { since: Duration::ZERO, reason: StaleReason::Slow },
        Self::Stale { since: Duration::ZERO, reason: StaleReason::Throttled },
        Self::Stale { since: Duration::ZERO, reason: StaleReason::Unavailable },
        Self::Stale { since: Duration::ZERO, reason: StaleReason::Budget },
        Self::Bypass(BypassReason::DiskFailed),
        Self::Bypass(BypassReason::Lookup),
        Self::Bypass(BypassReason::NoSpace),
        Self::Bypass(BypassReason::NotCacheable),
        Self::Bypass(BypassReason::Range),
        Self::Relayed { mounted: false },
        Self::Relayed { mounted: true },
    ];

    /// Its place among the kinds of decisions; for how long an answer is stale makes no
    /// kind, nor does the reason of a miss.
    pub fn index(self) -> usize {
        match self {
            Self::Hit => 0,
            Self::Revalidated => 1,
            Self::Miss { collapsed, unverified, .. } => {
                2 + 2 * usize::from(collapsed) + usize::from(unverified)
            }
            Self::Stale { reason: StaleReason::CredentialRefused, .. } => 6,
            Self::Stale { reason: StaleReason::Offline, .. } => 7,
            Self::Stale { reason: StaleReason::Slow, .. } => 8,
            Self::Stale { reason: StaleReason::Throttled, .. } => 9,
            Self::Stale { reason: StaleReason::Unavailable, .. } => 10,
            Self::Stale { reason: StaleReason::Budget, .. } => 11,
            Self::Bypass(BypassReason::DiskFailed) => 12,
            Self::Bypass(BypassReason::Lookup) => 13,
            Self::Bypass(BypassReason::NoSpace) => 14,
            Self::Bypass(BypassReason::NotCacheable) => 15,
            Self::Bypass(BypassReason::Range) => 16,
            Self::Relayed { mounted } => 17 + usize::from(mounted),
        }
    }

    /// The names of this decision.
    pub fn names(self) -> &'static DecisionNames {
        &NAMES[self.index()]
    }

    /// The decision for an answer that ends before the blob does, if `is_verified` is not said of
    /// it.
    #[must_use]
    pub fn of_part(self, is_verified: bool) -> Self {
        match self {
            Self::Miss { collapsed, reason, .. } => {
                Self::Miss { collapsed, unverified: !is_verified, reason }
            }
            other => other,
        }
    }

    /// Why it was a miss, if it was one.
    pub fn miss_reason(self) -> Option<MissReason> {
        match self {
            Self::Miss { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// The value of `Cache-Status`.
    pub fn to_header(self) -> HeaderValue {
        let DecisionNames { detail, header, .. } = self.names();
        let Self::Stale { since, .. } = self else { return HeaderValue::from_static(header) };
        let text = format!("{header}{}; detail={detail}", since.as_secs());
        // It is made of what a header can hold.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("larder; hit"))
    }
}

/// In the order of [`Decision::index`].
const NAMES: [DecisionNames; Decision::ALL.len()] = [
    names("hit", "", "larder; hit"),
    names("revalidated", "", "larder; fwd=stale; fwd-status=200"),
    names("miss", "", "larder; fwd=uri-miss"),
    names("miss", "unverified", "larder; fwd=uri-miss; detail=unverified"),
    names("collapsed", "", "larder; fwd=uri-miss; collapsed"),
    names("collapsed", "unverified", "larder; fwd=uri-miss; collapsed; detail=unverified"),
    names("stale", "credential-refused", STALE),
    names("stale", "offline", STALE),
    names("stale", "upstream-slow", STALE),
    names("stale", "upstream-throttled", STALE),
    names("stale", "upstream-unavailable", STALE),
    names("stale", "upstream-budget", STALE),
    names("bypass", "disk-failed", "larder; fwd=bypass; detail=disk-failed"),
    names("bypass", "lookup", "larder; fwd=bypass; detail=lookup"),
    names("bypass", "no-space", "larder; fwd=bypass; detail=no-space"),
    names("bypass", "not-cacheable", "larder; fwd=bypass; detail=not-cacheable"),
    names("bypass", "unverified-range", "larder; fwd=bypass; detail=unverified-range"),
    names("relayed", "", "larder; fwd=method"),
    names("relayed", "mounted", "larder; fwd=method; detail=mounted"),
];

const STALE: &str = "larder; hit; ttl=-";

const fn names(word: &'static str, detail: &'static str, header: &'static str) -> DecisionNames {
    DecisionNames { word, detail, header }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word that RFC 9211 has for what each of our words says.
    fn parameter(word: &str) -> &'static str {
        match word {
            "hit" | "stale" => "hit",
            "revalidated" => "fwd=stale",
            "miss" | "collapsed" => "fwd=uri-miss",
            "bypass" => "fwd=bypass",
            "relayed" => "fwd=method",
            other => panic!("{other}"),
        }
    }

    /// An operator who sees one in the log looks for the same in the header and the metrics.
    #[test]
    fn the_header_says_what_the_names_say() {
        for (index, decision) in Decision::ALL.into_iter().enumerate() {
            assert_eq!(decision.index(), index, "{decision:?}");
            let DecisionNames { word, detail, .. } = decision.names();
            let header = decision.to_header();
            let parts: Vec<&str> = header.to_str().unwrap().split("; ").collect();
            assert_eq!(parts[..2], ["larder", parameter(word)], "{decision:?}");
            assert_eq!(parts.contains(&"collapsed"), *word == "collapsed", "{decision:?}");
            assert_eq!(parts.iter().any(|it| it.starts_with("ttl=-")), *word == "stale");
            let told = parts.iter().find_map(|part| part.strip_prefix("detail="));
            assert_eq!(told.unwrap_or_default(), *detail, "{decision:?}");
        }
    }

    #[test]
    fn no_two_decisions_are_called_the_same() {
        for (one, other) in (0..NAMES.len()).flat_map(|one| (0..one).map(move |it| (one, it))) {
            let (one, other) = (&NAMES[one], &NAMES[other]);
            assert_ne!((one.word, one.detail), (other.word, other.detail));
        }
    }

    #[test]
    fn a_stale_answer_says_for_how_long_it_has_been_stale() {
        let since = Duration::from_millis(12_900);
        let stale = Decision::Stale { since, reason: StaleReason::Slow };
        assert_eq!(stale.to_header(), "larder; hit; ttl=-12; detail=upstream-slow");
    }
}
