//! The object of a 401 or 403: the repository, or the credential that was shown.
//!
//! A refusal that says so itself is read here. For one that does not, `/v2/` is asked (`login.rs`).
//! Refusals of Larder's own credential are noted for `/readyz`.

use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::authorization::ShownCredential;
use super::challenge::{TokenFault, token_fault};
use super::identity::ClientCredential;
use super::reply::UpstreamReply;
use super::scope::TokenScope;

/// Whether a refusal says itself that it is about the repository, and not about what was shown.
/// With a password that is never clear: a registry may refuse all that an account asks for.
pub(super) fn is_about_repository(refusal: &UpstreamReply, shown: ShownCredential) -> bool {
    let is_said = refusal.status == StatusCode::FORBIDDEN && refusal.is_of_a_registry();
    match shown {
        ShownCredential::None => is_said,
        ShownCredential::Password => false,
        ShownCredential::Token => {
            is_said || token_fault(&refusal.headers) == Some(TokenFault::InsufficientScope)
        }
    }
}

/// How Larder's own credential was refused everywhere, if it was and has not been taken since.
#[derive(Default)]
pub(super) struct RefusalRecord {
    last: Mutex<Option<CredentialRefusal>>,
}

struct CredentialRefusal {
    reason: String,
    shown: ShownCredential,
    /// The credential that was refused, if it was a password or a refresh token.
    credential: Option<ClientCredential>,
    /// How many times in a row.
    count: u32,
    at: Instant,
}

/// How many times in a row a credential is shown before there are pauses. Docker Hub locks an
/// account out after about a dozen.
const TRIES_FREE: u32 = 4;

/// The first pause. It doubles with each further refusal.
const PAUSE_MIN: Duration = Duration::from_secs(15);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);

impl RefusalRecord {
    /// Why, if that is how things stand.
    pub(super) fn reason(&self) -> Option<String> {
        self.last.lock().as_ref().map(|refusal| refusal.reason.clone())
    }

    /// Why `credential` is not shown now, if it has been refused too often. Another one is shown at
    /// once.
    pub(super) fn pause(&self, credential: &ClientCredential) -> Option<String> {
        let last = self.last.lock();
        let refusal = last.as_ref().filter(|refusal| refusal.count >= TRIES_FREE)?;
        let is_same = refusal.credential.as_ref()?.has_same_secret(credential);
        let doublings = (refusal.count - TRIES_FREE).min(16);
        let pause = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
        (is_same && refusal.at.elapsed() < pause).then(|| refusal.reason.clone())
    }

    /// Notes a refusal. A client's credential is its own matter.
    pub(super) fn note_refused(
        &self,
        scope: &TokenScope,
        shown: ShownCredential,
        reason: &str,
        credential: Option<&ClientCredential>,
    ) {
        if scope.client.is_some() {
            return;
        }
        let mut last = self.last.lock();
        let credential = credential.filter(|_| shown == ShownCredential::Password).cloned();
        let before = last.take().filter(|before| match (&before.credential, &credential) {
            (Some(before), Some(credential)) => before.has_same_secret(credential),
            _ => false,
        });
        let count = before.map_or(0, |before| before.count) + 1;
        let reason = reason.to_owned();
        *last = Some(CredentialRefusal { reason, shown, credential, count, at: Instant::now() });
    }

    /// Notes that the source of the credential gave none.
    pub(super) fn note_missing(&self, reason: &str) {
        *self.last.lock() = Some(CredentialRefusal {
            reason: reason.to_owned(),
            shown: ShownCredential::None,
            credential: None,
            count: 1,
            at: Instant::now(),
        });
    }

    /// The password was taken, by the registry or by the token server.
    pub(super) fn note_password_taken(&self, scope: &TokenScope) {
        if scope.client.is_none() {
            *self.last.lock() = None;
        }
    }

    /// The registry took a token. The password may be refused all the same: the token may be of an
    /// earlier day, and its server has spoken when it issued it.
    pub(super) fn note_token_taken(&self) {
        self.last.lock().take_if(|refusal| refusal.shown == ShownCredential::Token);
    }
}
