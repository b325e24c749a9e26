//! Limits how many logins may fail in a minute: from one address, for one user, and for the pair.
//!
//! A login that is cached as good passes whatever the counts say, so an attacker who guesses a
//! user's password does not lock that user out. Logins whose outcome is not known yet count as
//! failures until it is, so that guesses that are sent at once all wait for their turn.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::process_key::ProcessKey;
use super::ttl_map::TtlMap;
use crate::upstream::CredentialId;

/// The failed logins of the last minute, counted in windows of [`WINDOW`].
#[derive(Debug)]
pub(super) struct LoginFailures {
    counts: TtlMap<u32>,
    /// Logins of each counter that are being tried.
    trying: Mutex<HashMap<CredentialId, u32>>,
    ended: Notify,
}

/// A login that is being tried, until it is dropped.
#[derive(Debug)]
pub(super) struct LoginTry {
    failures: Arc<LoginFailures>,
    counters: [CredentialId; 3],
}

/// The three counters that a login from one address for one user adds to when it fails.
pub(super) struct FailureSubject {
    counters: [FailureCounter; 3],
}

struct FailureCounter {
    id: CredentialId,
    failures_max: u32,
}

impl FailureSubject {
    /// A login for `username` from `address`. An IPv4 address and its IPv6-mapped form are one.
    pub(super) fn new(key: &ProcessKey, address: IpAddr, username: &str) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let address = address.octets();
        let user = username.as_bytes();
        let counter =
            |parts: &[&[u8]], failures_max| FailureCounter { id: key.hash(parts), failures_max };
        Self {
            counters: [
                counter(&[b"address and user", &address, user], OF_BOTH_MAX),
                counter(&[b"address", &address], OF_ADDRESS_MAX),
                counter(&[b"user", user], OF_USER_MAX),
            ],
        }
    }
}

impl LoginFailures {
    /// No failures yet. When too many counters are held, the lowest counts are evicted first, so an
    /// attacker who makes up users and addresses does not erase the count of the real target.
    pub(super) fn new() -> Self {
        Self {
            counts: TtlMap::weighted(COUNTERS_MAX, |count| *count),
            trying: Mutex::default(),
            ended: Notify::new(),
        }
    }

    /// How long this login is rate limited; `None` if it may be tried.
    pub(super) fn retry_after(&self, subject: &FailureSubject) -> Option<Duration> {
        let is_full = |counter: &&FailureCounter| {
            self.counts.get(&counter.id).is_some_and(|count| count >= counter.failures_max)
        };
        let full = subject.counters.iter().filter(is_full);
        full.filter_map(|counter| self.counts.time_left(&counter.id)).max()
    }

    /// Begins to try a login; `None` while as many are being tried as may fail.
    pub(super) fn begin(self: &Arc<Self>, subject: &FailureSubject) -> Option<LoginTry> {
        let mut trying = self.trying.lock();
        let is_full = |counter: &FailureCounter| {
            let failed = self.counts.get(&counter.id).unwrap_or_default();
            let tried = trying.get(&counter.id).copied().unwrap_or_default();
            failed + tried >= counter.failures_max
        };
        if subject.counters.iter().any(is_full) {
            return None;
        }
        let counters = subject.counters.each_ref().map(|counter| counter.id);
        for id in &counters {
            *trying.entry(*id).or_default() += 1;
        }
        Some(LoginTry { failures: Arc::clone(self), counters })
    }

    /// Ends when a login that is being tried does.
    pub(super) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// Counts a failed login.
    pub(super) fn record(&self, subject: &FailureSubject) {
        for counter in &subject.counters {
            self.counts.update(counter.id, WINDOW, |count| *count += 1);
        }
    }
}

impl Drop for LoginTry {
    fn drop(&mut self) {
        let mut trying = self.failures.trying.lock();
        for id in &self.counters {
            if let Entry::Occupied(mut tried) = trying.entry(*id) {
                *tried.get_mut() -= 1;
                if *tried.get() == 0 {
                    tried.remove();
                }
            }
        }
        drop(trying);
        self.failures.ended.notify_waiters();
    }
}

const WINDOW: Duration = Duration::from_secs(60);

/// Enough for a person who mistypes, with a client that retries each time.
const OF_BOTH_MAX: u32 = 10;

/// Enough for several people behind one address.
const OF_ADDRESS_MAX: u32 = 30;

/// Stops guessing from many addresses.
const OF_USER_MAX: u32 = 100;

/// At 56 bytes each, 3 MiB.
const COUNTERS_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        key: ProcessKey,
        failures: LoginFailures,
    }

    impl Case {
        fn new() -> Self {
            Self { key: ProcessKey::random().unwrap(), failures: LoginFailures::new() }
        }

        fn subject(&self, address: &str, user: &str) -> FailureSubject {
            FailureSubject::new(&self.key, address.parse().unwrap(), user)
        }

        fn fail(&self, address: &str, user: &str) {
            self.failures.record(&self.subject(address, user));
        }

        fn wait(&self, address: &str, user: &str) -> Option<u64> {
            self.failures.retry_after(&self.subject(address, user)).map(|wait| wait.as_secs())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failed_logins_are_limited_by_pair_by_address_and_by_user() {
        let case = Case::new();
        for _ in 0..OF_BOTH_MAX {
            assert_eq!(case.wait("10.0.0.1", "ann"), None);
            case.fail("10.0.0.1", "ann");
        }
        assert_eq!(case.wait("10.0.0.1", "ann"), Some(60));
        assert_eq!(case.wait("::ffff:10.0.0.1", "ann"), Some(60));
        assert_eq!(case.wait("10.0.0.1", "ben"), None);
        assert_eq!(case.wait("10.0.0.2", "ann"), None);
        for number in 0..OF_ADDRESS_MAX - OF_BOTH_MAX {
            case.fail("10.0.0.1", &number.to_string());
        }
        assert_eq!(case.wait("10.0.0.1", "ben"), Some(60));
        for number in 0..OF_USER_MAX - OF_BOTH_MAX {
            case.fail(&format!("10.1.0.{number}"), "ann");
        }
        assert_eq!(case.wait("10.0.0.2", "ann"), Some(60));
        assert_eq!(case.wait("10.0.0.2", "ben"), None);

        tokio::time::advance(WINDOW).await;
        assert_eq!(case.wait("10.0.0.1", "ann"), None);
    }

    /// An attacker who makes up many users must not make Larder forget the one under attack.
    #[tokio::test(start_paused = true)]
    async fn the_highest_counts_are_evicted_last() {
        let case = Case::new();
        for _ in 0..OF_BOTH_MAX {
            case.fail("10.0.0.1", "ann");
        }
        for number in 0..COUNTERS_MAX {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap());
            case.fail(&address.to_string(), &number.to_string());
        }
        assert!(case.wait("10.0.0.1", "ann").is_some());
    }
}
