//! The credential that goes with a request, and the challenge that it meets.

use http::HeaderValue;
use url::Url;

use super::own_credential::LoginCredential;
use super::token_fetcher::HeldToken;

/// A challenge whose realm was checked.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum LoginChallenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// The `Authorization` of a request, and the challenge that it meets.
pub(super) struct Authorization {
    pub(super) challenge: LoginChallenge,
    pub(super) header: HeaderValue,
    pub(super) token: Option<HeldToken>,
    /// The credential of the header, or of the token; `None` if the token is anonymous.
    pub(super) credential: Option<LoginCredential>,
}

impl Authorization {
    /// The credential that a request shows, if any.
    pub(super) fn shown(used: Option<&Self>) -> ShownCredential {
        match used.map(|used| &used.token) {
            None => ShownCredential::None,
            Some(None) => ShownCredential::Password,
            Some(Some(_)) => ShownCredential::Token,
        }
    }
}

/// The kind of credential that a request showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShownCredential {
    None,
    Password,
    Token,
}
