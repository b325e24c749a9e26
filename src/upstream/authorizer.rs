//! Meets the challenge of an upstream: with which credential, and with which token.
//!
//! When a login is made, and what a refusal of the registry means, is decided in `login.rs`. A
//! credential that the token server refuses is replaced here, if its source can give another one,
//! and left alone for a while, if it has been refused several times: registries lock accounts out.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use url::Url;

use super::authorization::{Authorization, LoginChallenge, ShownCredential};
use super::challenge::{self, ChallengeOffer};
use super::error::UpstreamError;
use super::identity::ClientCredential;
use super::own_credential::{LoginCredential, OwnCredential};
use super::refusal::RefusalRecord;
use super::scope::TokenScope;
use super::token_fetcher::{HeldToken, TokenFetcher};
use super::transport::UpstreamTransport;
use crate::http::HostPort;

/// The credentials and tokens of one upstream.
pub(super) struct Authorizer {
    host: String,
    pub(super) own: OwnCredential,
    pub(super) tokens: TokenFetcher,
    pub(super) refusal: RefusalRecord,
}

impl Authorizer {
    /// Shows `own` to the upstream of `transport` and to the token servers that it may name.
    pub(super) fn new(
        transport: &Arc<UpstreamTransport>,
        token_hosts: Vec<HostPort>,
        own: OwnCredential,
    ) -> Self {
        Self {
            host: transport.host.clone(),
            own,
            tokens: TokenFetcher::new(Arc::clone(transport), token_hosts),
            refusal: RefusalRecord::default(),
        }
    }

    /// Whether there may be a credential for `scope`.
    pub(super) fn has_credential(&self, scope: &TokenScope) -> bool {
        scope.client.is_some() || self.own.is_some()
    }

    /// The challenge in the headers of a refusal, if it can be met.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Forbidden`] if its token server may not be asked.
    pub(super) fn read(
        &self,
        headers: &HeaderMap,
        scope: &TokenScope,
    ) -> Result<Option<LoginChallenge>, UpstreamError> {
        match challenge::read(headers) {
            Some(ChallengeOffer::Bearer { realm, service }) => {
                let realm = self.tokens.realm(&realm)?;
                Ok(Some(LoginChallenge::Bearer { realm, service }))
            }
            Some(ChallengeOffer::Basic) => {
                Ok(self.has_credential(scope).then_some(LoginChallenge::Basic))
            }
            None => Ok(None),
        }
    }

    /// Meets `challenge` for `scope`.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::NoCredential`] if a source fails, those of a token server, and
    /// [`UpstreamError::Denied`] if there is nothing to meet it with.
    pub(super) async fn authorize(
        &self,
        challenge: LoginChallenge,
        scope: &TokenScope,
    ) -> Result<Authorization, UpstreamError> {
        let credential = self.credential(scope).await?;
        match self.meet(&challenge, scope, credential.as_ref()).await {
            Err(UpstreamError::CredentialRefused { .. })
                if credential.as_ref().is_some_and(|refused| self.own.replace(refused)) =>
            {
                let credential = self.credential(scope).await?;
                let met = self.meet(&challenge, scope, credential.as_ref()).await?;
                Ok(met.with(challenge, credential))
            }
            met => Ok(met?.with(challenge, credential)),
        }
    }

    /// The credential for `scope`: the client's, or Larder's own.
    async fn credential(
        &self,
        scope: &TokenScope,
    ) -> Result<Option<LoginCredential>, UpstreamError> {
        if let Some(client) = &scope.client {
            return Ok(Some(LoginCredential::fixed(client.clone())));
        }
        let credential = self.own.obtain(scope.repository(), &self.host).await;
        if let Err(UpstreamError::NoCredential { reason, .. }) = &credential {
            self.refusal.note_missing(reason);
        }
        let credential = credential?;
        let refused = credential.as_ref().and_then(|it| self.refusal.pause(&it.credential));
        match refused {
            Some(reason) => {
                let host = self.host.clone();
                let status = StatusCode::UNAUTHORIZED;
                Err(UpstreamError::CredentialRefused { host, status, reason })
            }
            None => Ok(credential),
        }
    }

    async fn meet(
        &self,
        challenge: &LoginChallenge,
        scope: &TokenScope,
        credential: Option<&LoginCredential>,
    ) -> Result<MetChallenge, UpstreamError> {
        let credential = credential.map(|it| &it.credential);
        let (header, token) = match challenge {
            LoginChallenge::Bearer { realm, service } => {
                let held = self.token(realm, service.as_deref(), scope, credential).await?;
                (held.token.header(), Some(held))
            }
            LoginChallenge::Basic => (credential.and_then(ClientCredential::header), None),
        };
        let denied = UpstreamError::Denied {
            host: self.host.clone(),
            status: StatusCode::UNAUTHORIZED,
            is_proven: false,
        };
        Ok(MetChallenge { header: header.ok_or(denied)?, token })
    }

    /// A token, and what its server thereby says about the credential.
    async fn token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &TokenScope,
        credential: Option<&ClientCredential>,
    ) -> Result<HeldToken, UpstreamError> {
        let obtained = self.tokens.obtain(realm, service, scope, credential).await;
        match &obtained {
            Ok(held) if held.is_fresh => self.refusal.note_password_taken(scope),
            Err(UpstreamError::CredentialRefused { reason, .. }) => {
                self.refusal.note_refused(scope, ShownCredential::Password, reason, credential);
            }
            _ => {}
        }
        obtained
    }
}

/// The header that meets a challenge, and the token in it.
struct MetChallenge {
    header: http::HeaderValue,
    token: Option<HeldToken>,
}

impl MetChallenge {
    fn with(self, challenge: LoginChallenge, credential: Option<LoginCredential>) -> Authorization {
        let Self { header, token } = self;
        Authorization { challenge, header, token, credential }
    }
}
