//! Larder's own credential for an upstream: none, a password of the configuration, or what a source
//! issues.

use super::error::{SetupError, UpstreamError};
use super::identity::ClientCredential;
use super::options::ProxyCredential;
use crate::credentials::{
    CredentialKeeper, CredentialRoute, CredentialState, HeldCredential, IssuedSecret,
};

/// Larder's own credential for an upstream.
pub(super) enum OwnCredential {
    Anonymous,
    Fixed(ClientCredential),
    Issued(Box<CredentialKeeper>),
}

/// A credential that a login shows.
pub(super) struct LoginCredential {
    pub(super) credential: ClientCredential,
    /// Where it came from, if it can be replaced.
    held: Option<HeldCredential>,
}

impl OwnCredential {
    /// The credential that `options` describe, for the upstream at `host`. Its source calls
    /// services by `route`.
    ///
    /// # Errors
    ///
    /// [`SetupError::Username`] if the user cannot be one, [`SetupError::Ca`] if the certificates
    /// of `route` are unusable.
    pub(super) fn new(
        options: &ProxyCredential,
        host: &str,
        route: CredentialRoute<'_>,
    ) -> Result<Self, SetupError> {
        match options {
            ProxyCredential::Anonymous => Ok(Self::Anonymous),
            ProxyCredential::Basic { username, password } => {
                let credential = ClientCredential::of_larder(username, password);
                let invalid = |_| SetupError::Username { host: host.to_owned() };
                credential.map(Self::Fixed).map_err(invalid)
            }
            ProxyCredential::Issued(options) => {
                let keeper = options.keeper(host, route);
                let unusable = |fault| SetupError::Ca { host: host.to_owned(), fault };
                keeper.map(|keeper| Self::Issued(Box::new(keeper))).map_err(unusable)
            }
        }
    }

    /// Whether there may be one.
    pub(super) fn is_some(&self) -> bool {
        !matches!(self, Self::Anonymous)
    }

    /// How things stand with one that is issued.
    pub(super) fn state(&self) -> Option<CredentialState> {
        match self {
            Self::Issued(keeper) => Some(keeper.state()),
            Self::Anonymous | Self::Fixed(_) => None,
        }
    }

    /// The credential for `repository`, named as the upstream at `host` names it.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::NoCredential`] if the source gives none.
    pub(super) async fn obtain(
        &self,
        repository: Option<&str>,
        host: &str,
    ) -> Result<Option<LoginCredential>, UpstreamError> {
        let keeper = match self {
            Self::Anonymous => return Ok(None),
            Self::Fixed(credential) => {
                return Ok(Some(LoginCredential::fixed(credential.clone())));
            }
            Self::Issued(keeper) => keeper,
        };
        let unusable = |reason| UpstreamError::NoCredential { host: host.to_owned(), reason };
        let held = keeper.obtain(repository).await;
        let held = held.map_err(|error| unusable(error.to_string()))?;
        let credential = match held.credential.secret() {
            IssuedSecret::Nothing => return Ok(None),
            IssuedSecret::IdentityToken(token) => ClientCredential::of_identity_token(token),
            IssuedSecret::Password { username, password } => {
                ClientCredential::of_larder(username, password)
                    .map_err(|fault| unusable(fault.to_string()))?
            }
        };
        Ok(Some(LoginCredential { credential, held: Some(held) }))
    }

    /// Has another credential take the place of one that was refused. Returns whether the next
    /// [`OwnCredential::obtain`] may give another one.
    pub(super) fn replace(&self, refused: &LoginCredential) -> bool {
        match (self, &refused.held) {
            (Self::Issued(keeper), Some(held)) => keeper.replace(held),
            _ => false,
        }
    }
}

impl LoginCredential {
    /// One that nothing replaces.
    pub(super) fn fixed(credential: ClientCredential) -> Self {
        Self { credential, held: None }
    }
}
