//! How many logins may fail, from one address, for one user, and both together.
//!
//! Counted in windows of a minute. A login that is remembered as good passes whatever the counts
//! say, so that whoever guesses a user's password does not lock out those who are in.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::process_key::ProcessKey;
use crate::upstream::CredentialId;

/// The failures of the last minute.
#[derive(Debug, Default)]
pub(super) struct LoginFailures {
    windows: Mutex<HashMap<CredentialId, FailureWindow>>,
}

#[derive(Clone, Copy, Debug)]
struct FailureWindow {
    count: u32,
    until: Instant,
}

/// Whose failures are counted together, and how many there may be.
pub(super) struct FailureSubject {
    counters: [(CredentialId, u32); 3],
}

impl FailureSubject {
    /// A login for `username` from `address`.
    pub(super) fn of(keyed: &ProcessKey, address: IpAddr, username: &str) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let (address, user) = (address.octets(), username.as_bytes());
        Self {
            counters: [
                (keyed.tag(&[b"address and user", &address, user]), OF_BOTH_MAX),
                (keyed.tag(&[b"address", &address]), OF_ADDRESS_MAX),
                (keyed.tag(&[b"user", user]), OF_USER_MAX),
            ],
        }
    }
}

impl LoginFailures {
    /// For how long no further login is looked at; `None` if one may be.
    pub(super) fn wait(&self, counted: &FailureSubject) -> Option<Duration> {
        let now = Instant::now();
        let windows = self.windows();
        let full = counted.counters.iter().filter_map(|(tag, max)| {
            let window = windows.get(tag).filter(|window| now < window.until)?;
            (window.count >= *max).then(|| window.until - now)
        });
        full.max()
    }

    /// A login has failed.
    pub(super) fn note(&self, counted: &FailureSubject) {
        let now = Instant::now();
        let mut windows = self.windows();
        if windows.len() + counted.counters.len() > WINDOWS_MAX {
            make_room(&mut windows, now);
        }
        for (tag, _) in &counted.counters {
            let window = windows.entry(*tag).or_insert(FailureWindow { count: 0, until: now });
            if now >= window.until {
                *window = FailureWindow { count: 0, until: now + WINDOW };
            }
            window.count += 1;
        }
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<CredentialId, FailureWindow>> {
        self.windows.lock()
    }
}

/// What is over goes first. Then what has counted least: those who try many users and addresses do
/// not push out what was counted of the one they are after.
fn make_room(windows: &mut HashMap<CredentialId, FailureWindow>, now: Instant) {
    windows.retain(|_, window| now < window.until);
    for least in 1.. {
        if windows.len() <= WINDOWS_MAX / 2 {
            return;
        }
        windows.retain(|_, window| window.count > least);
    }
}

const WINDOW: Duration = Duration::from_secs(60);

/// A person who mistypes, and a client that tries each time several times.
const OF_BOTH_MAX: u32 = 10;

/// Several people behind one address.
const OF_ADDRESS_MAX: u32 = 30;

/// Guessing from many addresses.
const OF_USER_MAX: u32 = 100;

/// At 56 bytes each, 3 MiB.
const WINDOWS_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        keyed: ProcessKey,
        failures: LoginFailures,
    }

    impl Case {
        fn new() -> Self {
            Self { keyed: ProcessKey::random().unwrap(), failures: LoginFailures::default() }
        }

        fn counted(&self, address: &str, user: &str) -> FailureSubject {
            FailureSubject::of(&self.keyed, address.parse().unwrap(), user)
        }

        fn fail(&self, address: &str, user: &str) {
            self.failures.note(&self.counted(address, user));
        }

        fn wait(&self, address: &str, user: &str) -> Option<u64> {
            self.failures.wait(&self.counted(address, user)).map(|wait| wait.as_secs())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_ends_for_a_minute_for_the_pair_the_address_and_the_user() {
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

    /// Whoever makes many names up must not make Larder forget whom they were guessing at.
    #[tokio::test(start_paused = true)]
    async fn what_counts_most_is_forgotten_last() {
        let case = Case::new();
        for _ in 0..OF_BOTH_MAX {
            case.fail("10.0.0.1", "ann");
        }
        for number in 0..WINDOWS_MAX {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap());
            case.fail(&address.to_string(), &number.to_string());
        }
        assert!(case.failures.windows().len() <= WINDOWS_MAX);
        assert!(case.wait("10.0.0.1", "ann").is_some());
    }
}
