//! The tokens of one upstream: which token servers are asked, and one fetch for all that wait.
//!
//! With whose credential a token is fetched is decided by the caller, and what a refusal means for
//! that credential, too.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use url::Url;

use super::client_shares::ClientShares;
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

/// Those of one client: one in four is left to the others.
const EXCHANGES_OF_CLIENT_MAX: usize = EXCHANGES_MAX - EXCHANGES_MAX / 4;

/// Gets tokens, and keeps them.
pub(super) struct TokenFetcher {
    transport: Arc<UpstreamTransport>,
    token_hosts: Vec<HostPort>,
    tokens: TokenCache,
    exchanges: Arc<Semaphore>,
    shares: ClientShares<IpAddr>,
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
        let shares = ClientShares::default();
        Self { transport, token_hosts, tokens: TokenCache::default(), exchanges, shares }
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
        let (key, host) = (asked.key.clone(), asked.host());
        let turn = self.turn(scope.asker, &host);
        let fetch = |permits| self.fetch(asked, permits);
        let lost = || {
            let reason = "the task that fetched the token was lost".to_owned();
            Err(UpstreamError::Unreachable { host: host.clone(), reason })
        };
        let obtained = self.tokens.obtain_in_turn(&key, scope.need, turn, fetch).await;
        obtained.unwrap_or_else(lost).map(|(token, is_fresh)| HeldToken { key, token, is_fresh })
    }

    /// Waits for a place among the fetches, and in the share of the client that asks. One that
    /// leaves before it has a place leaves nothing behind.
    async fn turn(
        &self,
        asker: Option<IpAddr>,
        host: &str,
    ) -> Result<ExchangePermits, UpstreamError> {
        let turn = async {
            let own = match asker {
                Some(client) => {
                    let share = self.shares.of(client, EXCHANGES_OF_CLIENT_MAX);
                    share.acquire_owned().await.ok()
                }
                None => None,
            };
            (own, Arc::clone(&self.exchanges).acquire_owned().await.ok())
        };
        let turn = timeout(HEAD_WAIT, turn).await;
        turn.map_err(|_| UpstreamError::Stalled { host: host.to_owned(), waited: HEAD_WAIT })
    }

    /// Forgets a token, unless another has taken its place already.
    pub(super) fn discard(&self, held: &HeldToken) {
        self.tokens.discard(&held.key, &held.token);
    }

    /// Fetches a token, in a task of its own: once begun, it serves those who ask later as well.
    fn fetch(
        &self,
        asked: TokenRequest,
        permits: ExchangePermits,
    ) -> impl Future<Output = Result<BearerToken, UpstreamError>> + use<> {
        let transport = Arc::clone(&self.transport);
        async move {
            let _permits = permits;
            timeout(HEAD_WAIT, fetch_token(&transport, &asked)).await.unwrap_or_else(|_| {
                Err(UpstreamError::Stalled { host: asked.host(), waited: HEAD_WAIT })
            })
        }
    }
}

/// The place of a fetch in its client's share, and among all.
type ExchangePermits = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);
