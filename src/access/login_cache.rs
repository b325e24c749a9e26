//! Who has logged in, and who has tried: what all listeners remember together.
//!
//! Passwords are verified on the blocking pool, few at a time, so that logins never stand in the way
//! of pulls. What came of it is remembered by keyed hash: good logins for a minute, bad ones for
//! seconds, so that a client that repeats itself costs nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use super::basic::BasicCredential;
use super::failures::{FailureSubject, LoginFailures};
use super::htpasswd::UserTable;
use super::process_key::ProcessKey;
use super::rights::ConfirmedRights;
use super::ttl_map::TtlMap;
use crate::registry::Registry;
use crate::upstream::{ClientCredential, CredentialId};

/// What is remembered of logins, over all listeners and across reloads.
#[derive(Debug)]
pub struct LoginCache {
    pub(super) keyed: ProcessKey,
    pub(super) rights: ConfirmedRights,
    /// Credentials that upstreams know.
    known: TtlMap<()>,
    good: TtlMap<()>,
    bad: TtlMap<()>,
    failures: LoginFailures,
    /// Turns to hash.
    turns: Arc<Semaphore>,
    /// Places to wait for one.
    places: Semaphore,
}

/// A credential that is to be shown to an upstream.
pub(super) struct CredentialTry {
    known: CredentialId,
    refused: CredentialId,
    counted: FailureSubject,
}

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// Why a login is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Too many are waiting for their passwords to be verified.
    #[error("too many logins at once")]
    Busy,
    /// Two readers of the request could see two users in it.
    #[error("there is more than one `Authorization` header")]
    DuplicateHeader,
    /// Too many have failed.
    #[error("too many failed logins")]
    RateLimited {
        /// For how long no further one is looked at.
        wait: Duration,
    },
    /// It is not a user's password.
    #[error("the user name or the password is wrong")]
    BadCredentials,
}

impl LoginCache {
    /// Nothing is remembered yet.
    pub fn new() -> Result<Self, NoRandomness> {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            keyed: ProcessKey::random().ok_or(NoRandomness)?,
            rights: ConfirmedRights::new(),
            known: TtlMap::new(LOGINS_MAX),
            good: TtlMap::new(LOGINS_MAX),
            bad: TtlMap::new(LOGINS_MAX),
            failures: LoginFailures::default(),
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            places: Semaphore::new(WAITING_MAX),
        })
    }

    /// Finds out whether this is the password of one of `users`.
    pub(super) async fn log_in(
        &self,
        users: &Arc<UserTable>,
        presented: BasicCredential,
        address: IpAddr,
    ) -> Result<String, LoginError> {
        let tag = self.login_tag(users, &presented);
        if let Some(verdict) = self.remembered(&tag) {
            return verdict.map(|()| presented.username);
        }
        let counted = FailureSubject::of(&self.keyed, address, &presented.username);
        if let Some(wait) = self.failures.wait(&counted) {
            return Err(LoginError::RateLimited { wait });
        }
        let _place = self.places.try_acquire().map_err(|_| LoginError::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| LoginError::Busy)?;
        // Clients send several requests at once; the first of them has settled it.
        if let Some(verdict) = self.remembered(&tag) {
            return verdict.map(|()| presented.username);
        }
        let users = Arc::clone(users);
        let verify = move || {
            // Held until it is done, also if whoever asked has left.
            let _turn = turn;
            (users.verify(&presented.username, &presented.password), presented.username)
        };
        let verified = tokio::task::spawn_blocking(verify).await;
        // A panic in it has been reported.
        let (is_right, username) = verified.map_err(|_| LoginError::Busy)?;
        if is_right {
            self.good.put(tag, (), GOOD_FOR);
            return Ok(username);
        }
        self.bad.put(tag, (), BAD_FOR);
        self.failures.note(&counted);
        Err(LoginError::BadCredentials)
    }

    /// What keeps a credential that is meant for an upstream apart from others.
    pub(super) fn credential_tag(&self, presented: &BasicCredential) -> CredentialId {
        let password = presented.password.expose_secret().as_bytes();
        self.keyed.tag(&[b"credential", presented.username.as_bytes(), password])
    }

    /// Whether this credential may be shown to the upstream of `registry`, or was refused there a
    /// moment ago, or there were too many that were.
    pub(super) fn may_try(
        &self,
        client: &ClientCredential,
        registry: &Registry,
        address: IpAddr,
    ) -> Result<CredentialTry, LoginError> {
        let parts = |kind| self.upstream_tag(kind, client, registry);
        let this = CredentialTry {
            known: parts(b"known"),
            refused: parts(b"refused"),
            counted: FailureSubject::of(&self.keyed, address, client.username()),
        };
        if self.bad.get(&this.refused).is_some() {
            return Err(LoginError::BadCredentials);
        }
        match self.failures.wait(&this.counted) {
            // One that was good a moment ago is no guess.
            Some(wait) if self.known.get(&this.known).is_none() => {
                Err(LoginError::RateLimited { wait })
            }
            _ => Ok(this),
        }
    }

    /// Whether the upstream has taken this credential a moment ago.
    pub(super) fn is_known(&self, this: &CredentialTry) -> bool {
        self.known.get(&this.known).is_some()
    }

    /// The upstream has taken it.
    pub(super) fn note_known(&self, this: &CredentialTry) {
        self.known.put(this.known, (), GOOD_FOR);
    }

    /// The upstream knows no such credential.
    pub(super) fn note_refused(&self, this: &CredentialTry) {
        self.bad.put(this.refused, (), BAD_FOR);
        self.failures.note(&this.counted);
    }

    fn upstream_tag(
        &self,
        kind: &[u8],
        client: &ClientCredential,
        registry: &Registry,
    ) -> CredentialId {
        let (name, host) = (registry.name().as_str(), registry.upstream().host());
        let client = client.tag_bytes().unwrap_or_default();
        self.keyed.tag(&[kind, client, name.as_bytes(), host.as_bytes()])
    }

    fn remembered(&self, tag: &CredentialId) -> Option<Result<(), LoginError>> {
        if self.good.get(tag).is_some() {
            return Some(Ok(()));
        }
        self.bad.get(tag).map(|()| Err(LoginError::BadCredentials))
    }

    /// With the stored hash in it: a password that was changed makes what was remembered void.
    fn login_tag(&self, users: &UserTable, presented: &BasicCredential) -> CredentialId {
        let hash = users.hash_of(&presented.username).map(ExposeSecret::expose_secret);
        self.keyed.tag(&[
            b"login",
            presented.username.as_bytes(),
            presented.password.expose_secret().as_bytes(),
            hash.unwrap_or_default().as_bytes(),
        ])
    }
}

/// For how long a good login is remembered. A user who is taken out of the file is out at once.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// For how long a bad one is: a user who was just entered gets in soon.
const BAD_FOR: Duration = Duration::from_secs(5);

/// At about 80 bytes each, 4 MiB.
const LOGINS_MAX: usize = 50_000;

/// At a tenth of a second each, the last one waits for about six seconds.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn users(hash_of: &[(&str, &str)]) -> Arc<UserTable> {
        let line = |(user, password): &(&str, &str)| {
            let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
            format!("{user}:{hash}\n")
        };
        Arc::new(UserTable::parse(hash_of.iter().map(line).collect::<String>().as_bytes()).unwrap())
    }

    async fn log_in(
        ledger: &LoginCache,
        users: &Arc<UserTable>,
        user: &str,
        password: &str,
    ) -> Outcome {
        let presented = BasicCredential { username: user.to_owned(), password: password.into() };
        ledger.log_in(users, presented, IpAddr::from([10, 0, 0, 1])).await
    }

    type Outcome = Result<String, LoginError>;

    #[tokio::test]
    async fn a_password_that_was_changed_is_void_at_once() {
        let ledger = LoginCache::new().unwrap();
        let old = users(&[("ann", "old")]);
        assert_eq!(log_in(&ledger, &old, "ann", "old").await, Ok("ann".to_owned()));
        assert_eq!(log_in(&ledger, &old, "ann", "new").await, Err(LoginError::BadCredentials));

        let new = users(&[("ann", "new")]);
        assert_eq!(log_in(&ledger, &new, "ann", "old").await, Err(LoginError::BadCredentials));
        assert_eq!(log_in(&ledger, &new, "ann", "new").await, Ok("ann".to_owned()));
        let gone = users(&[("ben", "x")]);
        assert_eq!(log_in(&ledger, &gone, "ann", "new").await, Err(LoginError::BadCredentials));
    }

    /// Guessing ends, and whoever was in stays in meanwhile.
    #[tokio::test]
    async fn too_many_guesses_are_not_looked_at_and_harm_nobody_who_is_in() {
        let ledger = LoginCache::new().unwrap();
        let users = users(&[("ann", "right"), ("ben", "x")]);
        assert!(log_in(&ledger, &users, "ann", "right").await.is_ok());
        for guess in 0..10 {
            let outcome = log_in(&ledger, &users, "ann", &guess.to_string()).await;
            assert_eq!(outcome, Err(LoginError::BadCredentials));
            // The same again is no further guess.
            let again = log_in(&ledger, &users, "ann", &guess.to_string()).await;
            assert_eq!(again, Err(LoginError::BadCredentials));
        }
        let outcome = log_in(&ledger, &users, "ann", "another").await;
        assert!(matches!(outcome, Err(LoginError::RateLimited { .. })), "{outcome:?}");
        assert!(log_in(&ledger, &users, "ann", "right").await.is_ok());
        assert!(log_in(&ledger, &users, "ben", "x").await.is_ok());
    }

    /// Hundreds of logins at once must not become hundreds of threads that hash.
    #[tokio::test]
    async fn few_are_verified_at_once_and_few_wait() {
        let ledger = LoginCache::new().unwrap();
        let users = users(&[("ann", "right")]);
        let held = ledger.turns.available_permits();
        let turns: Vec<_> = (0..held).map(|_| ledger.turns.try_acquire().unwrap()).collect();
        let mut waiting = Vec::new();
        for number in 0..WAITING_MAX {
            let mut login = Box::pin(log_in(&ledger, &users, "ann", "right"));
            assert!(futures_poll(login.as_mut()).await, "{number} should wait");
            waiting.push(login);
        }
        assert_eq!(log_in(&ledger, &users, "ann", "right").await, Err(LoginError::Busy));

        drop(turns);
        for login in waiting {
            assert_eq!(login.await, Ok("ann".to_owned()));
        }
    }

    /// Polls once; whether it waits.
    async fn futures_poll(mut future: std::pin::Pin<&mut impl Future<Output = Outcome>>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending()))
            .await
    }
}
