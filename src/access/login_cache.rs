//! Verifies logins and caches the outcomes, over all listeners and across reloads.
//!
//! Passwords are verified on the blocking pool, few at a time, so that logins never delay pulls.
//! Outcomes are cached by keyed hash, good ones for a minute after their last use and bad ones for
//! seconds, so a client that repeats a login costs nothing. The right to read in a repository is
//! not decided here.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::AccessDenied;
use super::basic::BasicCredential;
use super::failures::{FailureSubject, LoginFailures, LoginTry};
use super::htpasswd::UserTable;
use super::process_key::ProcessKey;
use super::rights::ConfirmedRights;
use super::ttl_map::TtlMap;
use crate::registry::Registry;
use crate::upstream::{ClientCredential, ClientShares, CredentialId};

/// Outcomes of logins, failure counts and confirmed rights. Nothing of it is written to disk.
#[derive(Debug)]
pub struct LoginCache {
    pub(super) key: ProcessKey,
    pub(super) rights: ConfirmedRights,
    /// Credentials that an upstream has accepted.
    accepted: TtlMap<()>,
    good: TtlMap<()>,
    bad: TtlMap<()>,
    failures: Arc<LoginFailures>,
    /// Permits to verify a password.
    verifying: Arc<Semaphore>,
    /// Permits to wait for one of those.
    waiting: Semaphore,
    /// Those of each address.
    waiting_of: ClientShares<IpAddr>,
}

/// One try of a client's credential at an upstream.
pub(super) struct CredentialTry {
    accepted: CredentialId,
    refused: CredentialId,
    subject: FailureSubject,
    /// Held while it may be a guess.
    trying: Option<LoginTry>,
}

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

impl LoginCache {
    /// An empty cache, with a new key.
    pub fn new() -> Result<Self, NoRandomness> {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            key: ProcessKey::random().ok_or(NoRandomness)?,
            rights: ConfirmedRights::new(),
            accepted: TtlMap::new(LOGINS_MAX),
            good: TtlMap::new(LOGINS_MAX),
            bad: TtlMap::new(LOGINS_MAX),
            failures: Arc::new(LoginFailures::new()),
            verifying: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Semaphore::new(WAITING_MAX),
            waiting_of: ClientShares::default(),
        })
    }

    /// Verifies a user's password and returns the user's name.
    pub(super) async fn log_in(
        &self,
        users: &Arc<UserTable>,
        credential: BasicCredential,
        address: IpAddr,
    ) -> Result<String, AccessDenied> {
        let id = self.login_id(users, &credential);
        if let Some(outcome) = self.cached_outcome(&id) {
            return outcome.map(|()| credential.username);
        }
        let subject = FailureSubject::new(&self.key, address, &credential.username);
        if let Some(wait) = self.failures.retry_after(&subject) {
            return Err(AccessDenied::RateLimited { wait });
        }
        let busy = || AccessDenied::LoginQueueFull;
        let permit = self.turn(address).await.ok_or_else(busy)?;
        // Clients send several requests at once; the first of them has verified the password.
        if let Some(outcome) = self.cached_outcome(&id) {
            return outcome.map(|()| credential.username);
        }
        // Guesses that were sent at once have all passed the limit before they waited.
        if let Some(wait) = self.failures.retry_after(&subject) {
            return Err(AccessDenied::RateLimited { wait });
        }
        let users = Arc::clone(users);
        let verify = move || {
            // Held until the hash is done, even if the client has left.
            let _permit = permit;
            users.verify(&credential.username, &credential.password).then_some(credential.username)
        };
        // The runtime has reported a panic in it.
        let verified = tokio::task::spawn_blocking(verify).await.map_err(|_| busy())?;
        if let Some(username) = verified {
            self.good.insert(id, (), GOOD_TTL);
            return Ok(username);
        }
        self.bad.insert(id, (), BAD_TTL);
        self.failures.record(&subject);
        Err(AccessDenied::BadCredentials)
    }

    /// A permit to verify a password for a client at `address`; `None` if too many wait for one.
    async fn turn(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        let of_address = self.waiting_of.of(address, WAITING_OF_ADDRESS_MAX);
        let _own = of_address.try_acquire_owned().ok()?;
        let _waiting = self.waiting.try_acquire().ok()?;
        Arc::clone(&self.verifying).acquire_owned().await.ok()
    }

    /// The hash that keeps a credential for an upstream apart from others.
    pub(super) fn credential_id(&self, credential: &BasicCredential) -> CredentialId {
        let password = credential.password.expose_secret().as_bytes();
        self.key.hash(&[b"credential", credential.username.as_bytes(), password])
    }

    /// Allows a credential to be presented to the upstream of `registry`, unless that upstream has
    /// refused it within [`BAD_TTL`] or logins are rate limited. One that is not known to be good
    /// waits while as many others of its address and user are tried as may fail.
    pub(super) async fn begin_try(
        &self,
        client: &ClientCredential,
        registry: &Registry,
        address: IpAddr,
        is_known: bool,
    ) -> Result<CredentialTry, AccessDenied> {
        let mut this = CredentialTry {
            accepted: self.upstream_id(b"known", client, registry),
            refused: self.upstream_id(b"refused", client, registry),
            subject: FailureSubject::new(&self.key, address, client.username()),
            trying: None,
        };
        let turn = async {
            loop {
                let mut ended = pin!(self.failures.ended());
                ended.as_mut().enable();
                if self.bad.get(&this.refused).is_some() {
                    return Err(AccessDenied::BadCredentials);
                }
                // One that was accepted a moment ago is no guess.
                if self.is_accepted(&this) {
                    return Ok(None);
                }
                if let Some(wait) = self.failures.retry_after(&this.subject) {
                    return Err(AccessDenied::RateLimited { wait });
                }
                if is_known {
                    return Ok(None);
                }
                if let Some(trying) = self.failures.begin(&this.subject) {
                    return Ok(Some(trying));
                }
                ended.await;
            }
        };
        let turn = timeout(TURN_WAIT, turn).await;
        this.trying = turn.map_err(|_| AccessDenied::LoginQueueFull)??;
        Ok(this)
    }

    /// Whether the upstream has accepted this credential within [`GOOD_TTL`].
    pub(super) fn is_accepted(&self, this: &CredentialTry) -> bool {
        self.accepted.get(&this.accepted).is_some()
    }

    /// Notes that the upstream has accepted the credential.
    pub(super) fn note_accepted(&self, this: &CredentialTry) {
        self.accepted.insert(this.accepted, (), GOOD_TTL);
    }

    /// Notes that the upstream has refused the credential.
    pub(super) fn note_refused(&self, this: &CredentialTry) {
        self.bad.insert(this.refused, (), BAD_TTL);
        self.failures.record(&this.subject);
    }

    fn upstream_id(
        &self,
        kind: &[u8],
        client: &ClientCredential,
        registry: &Registry,
    ) -> CredentialId {
        let name = registry.name().as_str().as_bytes();
        let host = registry.upstream().host().as_bytes();
        self.key.hash(&[kind, client.tag_bytes().unwrap_or_default(), name, host])
    }

    fn cached_outcome(&self, id: &CredentialId) -> Option<Result<(), AccessDenied>> {
        if let Some(left) = self.good.time_left(id) {
            // A user who is at work does not have to wait in line with guesses.
            if left < GOOD_TTL / 2 {
                self.good.insert(*id, (), GOOD_TTL);
            }
            return Some(Ok(()));
        }
        self.bad.get(id).map(|()| Err(AccessDenied::BadCredentials))
    }

    /// The stored hash is part of it, so a changed password voids cached outcomes at once.
    fn login_id(&self, users: &UserTable, credential: &BasicCredential) -> CredentialId {
        let hash = users.hash_of(&credential.username).map(ExposeSecret::expose_secret);
        self.key.hash(&[
            b"login",
            credential.username.as_bytes(),
            credential.password.expose_secret().as_bytes(),
            hash.unwrap_or_default().as_bytes(),
        ])
    }
}

/// How long a good login is cached after its last use. A user who is removed from the file is out
/// at once.
const GOOD_TTL: Duration = Duration::from_secs(60);

/// How long a bad login is cached: short, so that a user who was just added gets in soon.
const BAD_TTL: Duration = Duration::from_secs(5);

/// How long a login waits for others of its address and user, whose outcome is not known yet.
const TURN_WAIT: Duration = Duration::from_secs(15);

/// At about 80 bytes each, 4 MiB.
const LOGINS_MAX: usize = 50_000;

/// At a tenth of a second each, the last one waits for about six seconds.
const WAITING_MAX: usize = 64;

/// One address cannot take all of them.
const WAITING_OF_ADDRESS_MAX: usize = WAITING_MAX / 2;

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
        logins: &LoginCache,
        users: &Arc<UserTable>,
        user: &str,
        password: &str,
    ) -> Outcome {
        log_in_from(1, logins, users, user, password).await
    }

    async fn log_in_from(
        address: u8,
        logins: &LoginCache,
        users: &Arc<UserTable>,
        user: &str,
        password: &str,
    ) -> Outcome {
        let credential = BasicCredential { username: user.to_owned(), password: password.into() };
        let outcome = logins.log_in(users, credential, IpAddr::from([10, 0, 0, address])).await;
        outcome.map_err(|denied| denied.to_string())
    }

    type Outcome = Result<String, String>;

    fn denied(denied: &AccessDenied) -> Outcome {
        Err(denied.to_string())
    }

    #[tokio::test]
    async fn a_changed_password_voids_cached_logins_at_once() {
        let logins = LoginCache::new().unwrap();
        let old = users(&[("ann", "old")]);
        assert_eq!(log_in(&logins, &old, "ann", "old").await, Ok("ann".to_owned()));
        assert_eq!(
            log_in(&logins, &old, "ann", "new").await,
            denied(&AccessDenied::BadCredentials)
        );

        let new = users(&[("ann", "new")]);
        assert_eq!(
            log_in(&logins, &new, "ann", "old").await,
            denied(&AccessDenied::BadCredentials)
        );
        assert_eq!(log_in(&logins, &new, "ann", "new").await, Ok("ann".to_owned()));
        let gone = users(&[("ben", "x")]);
        assert_eq!(
            log_in(&logins, &gone, "ann", "new").await,
            denied(&AccessDenied::BadCredentials)
        );
    }

    /// Guessing is stopped, and the real user stays logged in meanwhile.
    #[tokio::test]
    async fn too_many_failed_logins_are_rate_limited_and_cached_logins_still_pass() {
        let logins = LoginCache::new().unwrap();
        let users = users(&[("ann", "right"), ("ben", "x")]);
        assert!(log_in(&logins, &users, "ann", "right").await.is_ok());
        for guess in 0..10 {
            let outcome = log_in(&logins, &users, "ann", &guess.to_string()).await;
            assert_eq!(outcome, denied(&AccessDenied::BadCredentials));
            // Repeating a guess does not count as another one.
            let again = log_in(&logins, &users, "ann", &guess.to_string()).await;
            assert_eq!(again, denied(&AccessDenied::BadCredentials));
        }
        let outcome = log_in(&logins, &users, "ann", "another").await;
        assert_eq!(outcome, denied(&AccessDenied::RateLimited { wait: Duration::ZERO }));
        assert!(log_in(&logins, &users, "ann", "right").await.is_ok());
        assert!(log_in(&logins, &users, "ben", "x").await.is_ok());
    }

    /// Hundreds of logins at once must not become hundreds of threads that hash.
    #[tokio::test]
    async fn passwords_are_verified_few_at_a_time_and_the_queue_is_bounded() {
        let logins = LoginCache::new().unwrap();
        let users = users(&[("ann", "right")]);
        let held = logins.verifying.available_permits();
        let permits: Vec<_> = (0..held).map(|_| logins.verifying.try_acquire().unwrap()).collect();
        let mut waiting = Vec::new();
        for address in [1, 2] {
            for number in 0..WAITING_OF_ADDRESS_MAX {
                let login = log_in_from(address, &logins, &users, "ann", "right");
                let mut login = Box::pin(login);
                assert!(is_pending(login.as_mut()).await, "{number} should wait");
                waiting.push(login);
            }
            assert_eq!(
                log_in_from(address, &logins, &users, "ann", "right").await,
                denied(&AccessDenied::LoginQueueFull)
            );
        }
        assert_eq!(
            log_in_from(3, &logins, &users, "ann", "right").await,
            denied(&AccessDenied::LoginQueueFull)
        );

        drop(permits);
        for login in waiting {
            assert_eq!(login.await, Ok("ann".to_owned()));
        }
    }

    /// Guesses that are sent at once are no way around the limit.
    #[tokio::test]
    async fn guesses_that_wait_together_are_limited_like_those_that_follow_each_other() {
        let logins = LoginCache::new().unwrap();
        let users = users(&[("ann", "right")]);
        let held = logins.verifying.available_permits();
        let permits: Vec<_> = (0..held).map(|_| logins.verifying.try_acquire().unwrap()).collect();
        let guesses: Vec<_> = (0..WAITING_OF_ADDRESS_MAX).map(|it| it.to_string()).collect();
        let mut waiting = Vec::new();
        for guess in &guesses {
            let mut login = Box::pin(log_in(&logins, &users, "ann", guess));
            assert!(is_pending(login.as_mut()).await);
            waiting.push(login);
        }

        drop(permits);
        let mut verified = 0;
        for login in waiting {
            verified += usize::from(login.await == denied(&AccessDenied::BadCredentials));
        }
        assert_eq!(verified, 10);
    }

    /// While others guess, the queue may be full for as long as they like.
    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_used_stays_cached() {
        let logins = LoginCache::new().unwrap();
        let users = users(&[("ann", "right")]);
        assert!(log_in(&logins, &users, "ann", "right").await.is_ok());
        let held = logins.verifying.available_permits();
        let _permits: Vec<_> = (0..held).map(|_| logins.verifying.try_acquire().unwrap()).collect();

        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(59)).await;
            let mut login = Box::pin(log_in(&logins, &users, "ann", "right"));
            assert!(!is_pending(login.as_mut()).await);
        }
        tokio::time::advance(GOOD_TTL).await;
        let mut login = Box::pin(log_in(&logins, &users, "ann", "right"));
        assert!(is_pending(login.as_mut()).await);
    }

    /// Polls once, and reports whether the future is still pending.
    async fn is_pending(mut future: std::pin::Pin<&mut impl Future<Output = Outcome>>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending()))
            .await
    }
}
