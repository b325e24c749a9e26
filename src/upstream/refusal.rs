//! The object of a 401 or 403: the repository, or the credential that was shown.
//!
//! A refusal that says so itself is read here. For one that does not, `/v2/` is asked (`login.rs`).
//! Refusals of Larder's own credential are noted for `/readyz`.

use http::StatusCode;
use parking_lot::Mutex;

use super::authorization::ShownCredential;
use super::challenge::{TokenFault, token_fault};
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
}

impl RefusalRecord {
    /// Why, if that is how things stand.
    pub(super) fn reason(&self) -> Option<String> {
        self.last.lock().as_ref().map(|refusal| refusal.reason.clone())
    }

    /// Notes a refusal. A client's credential is its own matter.
    pub(super) fn note_refused(&self, scope: &TokenScope, shown: ShownCredential, reason: &str) {
        if scope.client.is_none() {
            let reason = reason.to_owned();
            *self.last.lock() = Some(CredentialRefusal { reason, shown });
        }
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
