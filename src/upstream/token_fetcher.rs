//! The tokens of one upstream: which token servers are asked, and one fetch for all that wait.
//!
//! With whose credential a token is fetched is decided by the caller, and what a refusal means for
//! that credential, too.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::error::UpstreamError;
use super::identity::ClientCredential;
use super::realm;
use super::scope::TokenScope;
use super::token::{BearerToken, TokenCache};
use super::token_server::{TokenRequest, fetch_token};
use super::transport::{HEAD_WAIT, UpstreamTransport};
use crate::http::HostPort;

/// The most token fetches at once. They do not count as connections to the upstream: a request
/// that waits for a token holds no permit.
const EXCHANGES_MAX: usize = 32;

/// Gets tokens, and keeps them.
pub(super) struct TokenFetcher {
    transport: Arc<UpstreamTransport>,
    token_hosts: Vec<HostPort>,
    tokens: TokenCache,
    exchanges: Arc<Semaphore>,
}

/// A token, and where it is kept.
pub(super) struct HeldToken {
    key: String,
    pub(super) token: BearerToken,
    /// Whether it was issued for this request, and so cannot be too old.
    pub(super) is_fresh: bool,
}

impl TokenFetcher {
    /// Asks the token servers that the upstream of `transport` may name, and `token_hosts`.
    pub(super) fn new(transport: Arc<UpstreamTransport>, token_hosts: Vec<HostPort>) -> Self {
        let exchanges = Arc::new(Semaphore::new(EXCHANGES_MAX));
        Self { transport, token_hosts, tokens: TokenCache::default(), exchanges }
    }

    /// The token server that a challenge names.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Forbidden`] if it may not be asked.
    pub(super) fn realm(&self, text: &str) -> Result<Url, UpstreamError> {
        realm::check(self.transport.base.url(), &self.token_hosts, text)
    }

    /// A token from the token server at `realm` for `scope`, with this credential or anonymously.
    ///
    /// # Errors
    ///
    /// Those of [`fetch_token`].
    pub(super) async fn obtain(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &TokenScope,
        credential: Option<&ClientCredential>,
    ) -> Result<HeldToken, UpstreamError> {
        let asked = TokenRequest::new(realm, service, scope, credential);
        let key = asked.key.clone();
        let host = asked.host();
        match self.tokens.obtain(&key, scope.need, || self.fetch(asked)).await {
            Some(Ok((token, is_fresh))) => Ok(HeldToken { key, token, is_fresh }),
            Some(Err(error)) => Err(error),
            None => {
                let reason = "the task that fetched the token was lost".to_owned();
                Err(UpstreamError::Unreachable { host, reason })
            }
        }
    }

    /// Forgets a token, unless another has taken its place already.
    pub(super) fn discard(&self, held: &HeldToken) {
        self.tokens.discard(&held.key, &held.token);
    }

    /// Fetches a token, in a task of its own.
    fn fetch(
        &self,
        asked: TokenRequest,
    ) -> impl Future<Output = Result<BearerToken, UpstreamError>> + use<> {
        let transport = Arc::clone(&self.transport);
        let exchanges = Arc::clone(&self.exchanges);
        async move {
            let fetch = async {
                let _permit = exchanges.acquire().await;
                fetch_token(&transport, &asked).await
            };
            timeout(HEAD_WAIT, fetch).await.unwrap_or_else(|_| {
                Err(UpstreamError::Stalled { host: asked.host(), waited: HEAD_WAIT })
            })
        }
    }
}
