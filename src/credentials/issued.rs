//! A credential that a source gave, and for how long.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use tokio::time::Instant;

use super::fetch_cache::Perishable;

/// The least time for which a credential is kept, whatever its end: a clock that is wrong, here or
/// there, has the source asked once a minute.
const LIFE_MIN: Duration = Duration::from_secs(75);

/// The longest time. No cloud's credential lives longer than twelve hours.
const LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A credential with which an upstream is asked. Clones share it; nothing prints it.
#[derive(Clone)]
pub struct IssuedCredential(Arc<IssuedParts>);

struct IssuedParts {
    secret: IssuedSecret,
    issued: Instant,
    usable_until: Instant,
    ends: Instant,
    /// The end that the source gave, for people.
    stated_end: Option<SystemTime>,
    /// The identity that it was issued to, for people.
    owner: Option<String>,
}

/// The kinds of credential that a source can give.
pub enum IssuedSecret {
    /// None: the source knows of no credential for the upstream.
    Nothing,
    /// A user and password, for Basic and for token servers.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token, for token servers alone (distribution, "OAuth 2.0 token").
    IdentityToken(SecretString),
}

impl IssuedCredential {
    /// A credential received now, good for `life`.
    pub fn new(secret: IssuedSecret, life: Duration) -> Self {
        Self::with_end(secret, life, None)
    }

    /// A credential received `now`, good until `end`. An end that has passed is not believed: the
    /// credential is used, and replaced after a minute.
    pub fn until(secret: IssuedSecret, end: SystemTime, now: SystemTime) -> Self {
        let life = end.duration_since(now).unwrap_or_default();
        Self::with_end(secret, life, Some(end))
    }

    fn with_end(secret: IssuedSecret, life: Duration, stated_end: Option<SystemTime>) -> Self {
        let life = life.clamp(LIFE_MIN, LIFE_MAX);
        let issued = Instant::now();
        Self(Arc::new(IssuedParts {
            secret,
            issued,
            usable_until: issued + life - life / 5,
            ends: issued + life,
            stated_end,
            owner: None,
        }))
    }

    /// The same, with the identity that it was issued to.
    pub(super) fn of(mut self, owner: Option<String>) -> Self {
        if let Some(parts) = Arc::get_mut(&mut self.0) {
            parts.owner = owner;
        }
        self
    }

    /// The identity that it was issued to, if its source has said so.
    pub(super) fn owner(&self) -> Option<&str> {
        self.0.owner.as_deref()
    }

    /// The credential itself.
    pub fn secret(&self) -> &IssuedSecret {
        &self.0.secret
    }

    /// When it ends, if its source has said so.
    pub fn stated_end(&self) -> Option<SystemTime> {
        self.0.stated_end
    }

    /// How long ago it was received.
    pub(super) fn age(&self) -> Duration {
        self.0.issued.elapsed()
    }
}

impl Perishable for IssuedCredential {
    fn usable_until(&self) -> Instant {
        self.0.usable_until
    }

    fn ends(&self) -> Instant {
        self.0.ends
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
