//! Who we are to one upstream: which credential goes where, and what a refusal means.
//!
//! Nothing is sent before the upstream has asked for it. What it asked for once is remembered, so
//! that later requests bring it along. A request is sent at most twice: once with what is at
//! hand, and once more if the refusal gave reason to bring something else.
//!
//! Tokens are asked for the repository at hand and for what is to be done there, whatever scope the
//! challenge names: a scope is the upstream's wish, and could be another repository's.
//!
//! Who asks is Larder itself, or a client with a credential of its own. What one of them was given is
//! kept apart from what the others were given.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use url::Url;

use super::answer::UpstreamReply;
use super::challenge::{self, ChallengeOffer};
use super::change::{ChangePayload, ChangeRequest, ChangeResponse};
use super::exchange::exchange;
use super::realm;
use super::request::ReadRequest;
use super::scope::TokenScope;
use super::token::{BearerToken, TokenCache};
use super::transport::{HEAD_WAIT, UpstreamTransport, host_of};
use super::{ClientCredential, UpstreamError};
use crate::http::HostPort;

/// The most token fetches at once. They do not count as connections to the upstream: whoever
/// waits for a token holds no place in its queue.
const EXCHANGES_MAX: usize = 32;

/// The login at one upstream.
pub(super) struct UpstreamLogin {
    transport: Arc<UpstreamTransport>,
    token_hosts: Vec<HostPort>,
    identity: Option<ClientCredential>,
    /// What the upstream asked for last.
    known: Mutex<Option<LoginChallenge>>,
    /// When a change was last taken without anything.
    open: Mutex<Option<Instant>>,
    tokens: TokenCache,
    exchanges: Arc<Semaphore>,
    /// How our credential was refused everywhere, if it was and has not been taken since.
    refusal: Mutex<Option<String>>,
}

/// For how long an upstream that wanted no login is believed to want none. If that is wrong, one
/// upload is refused.
const OPEN_BELIEVED: Duration = Duration::from_secs(300);

/// What the upstream asks for, after the realm was checked.
#[derive(Clone, PartialEq, Eq)]
enum LoginChallenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// What a request brings along.
pub(super) struct Authorization {
    challenge: LoginChallenge,
    header: HeaderValue,
    token: Option<HeldToken>,
}

struct HeldToken {
    key: String,
    token: BearerToken,
    /// Whether it was issued for this request, and so cannot be too old.
    is_fresh: bool,
}

impl UpstreamLogin {
    /// A login that has not been asked for anything yet.
    pub(super) fn new(
        transport: Arc<UpstreamTransport>,
        token_hosts: Vec<HostPort>,
        identity: Option<ClientCredential>,
    ) -> Self {
        Self {
            transport,
            token_hosts,
            identity,
            known: Mutex::default(),
            open: Mutex::default(),
            tokens: TokenCache::default(),
            exchanges: Arc::new(Semaphore::new(EXCHANGES_MAX)),
            refusal: Mutex::default(),
        }
    }

    /// How our credential was refused everywhere, if that is how things stand.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }

    /// What becomes of a client's own credential is the client's matter.
    fn note_refusal(&self, scope: &TokenScope, refusal: Option<String>) {
        if scope.client.is_some() {
            return;
        }
        *self.refusal.lock() = refusal;
    }

    /// Sends `request` with what it takes.
    pub(super) async fn send(
        &self,
        request: &ReadRequest,
        scope: &TokenScope,
    ) -> Result<UpstreamReply, UpstreamError> {
        let first = self.pass_in_advance(scope).await?;
        let reply = self.transport.follow(request, first.as_ref().map(|pass| &pass.header)).await?;
        if !reply.is_refusal() {
            self.taken(first.as_ref(), scope);
            return Ok(reply);
        }
        // Waiting for another permit while holding one could deadlock.
        let (status, headers) = reply.into_refusal();
        let Some(next) = self.next_challenge((status, &headers), first.as_ref(), scope).await?
        else {
            return Err(self.verdict(status, first.as_ref(), scope).await);
        };
        let second = self.pass(next.clone(), scope).await?;
        self.remember(Some(next));
        let reply = self.transport.follow(request, Some(&second.header)).await?;
        if !reply.is_refusal() {
            self.taken(Some(&second), scope);
            return Ok(reply);
        }
        let status = reply.status;
        drop(reply);
        Err(self.verdict(status, Some(&second), scope).await)
    }

    /// The upstream answered what came with `used`. A token says nothing: it may be of an earlier day,
    /// and its server has spoken when it issued it.
    fn taken(&self, used: Option<&Authorization>, scope: &TokenScope) {
        if let Some(Authorization { challenge: LoginChallenge::Basic, .. }) = used {
            self.note_refusal(scope, None);
        }
    }

    /// Sends a change with what it takes. What can be sent once is not sent before there is a token
    /// for it; a refusal is then the answer.
    pub(super) async fn change(
        &self,
        errand: &ChangeRequest,
        payload: ChangePayload,
    ) -> Result<ChangeResponse, UpstreamError> {
        if errand.is_foreign {
            return self.transport.change(errand, payload, None).await;
        }
        let again = payload.again();
        if again.is_none() {
            self.learn(&errand.scope).await?;
        }
        let first = self.pass_in_advance(&errand.scope).await?;
        let header = first.as_ref().map(|pass| &pass.header);
        let said = self.transport.change(errand, payload, header).await?;
        if !said.is_refusal() {
            self.taken(first.as_ref(), &errand.scope);
            if first.is_none() {
                self.note_open();
            }
            return Ok(said);
        }
        let refusal = (said.status, &said.headers);
        let next = self.next_challenge(refusal, first.as_ref(), &errand.scope).await?;
        let Some(next) = next else {
            self.discard(first.as_ref());
            return Ok(said);
        };
        let Some(payload) = again else {
            self.remember(Some(next));
            return Ok(said);
        };
        let second = self.pass(next.clone(), &errand.scope).await?;
        self.remember(Some(next));
        let said = self.transport.change(errand, payload, Some(&second.header)).await?;
        if said.is_refusal() {
            self.discard(Some(&second));
        }
        Ok(said)
    }

    /// Finds out what the upstream asks for, unless that is known.
    async fn learn(&self, scope: &TokenScope) -> Result<(), UpstreamError> {
        let open = *self.open.lock();
        let is_known = self.known.lock().is_some();
        if is_known || open.is_some_and(|noted| noted.elapsed() < OPEN_BELIEVED) {
            return Ok(());
        }
        let ping = self.transport.follow(&self.ping(scope), None).await?;
        if ping.is_refusal()
            && let Some(offered) = self.read(&ping.headers, scope)?
        {
            self.remember(Some(offered));
        } else {
            self.note_open();
        }
        Ok(())
    }

    fn note_open(&self) {
        *self.open.lock() = Some(Instant::now());
    }

    fn discard(&self, used: Option<&Authorization>) {
        if let Some(Authorization { token: Some(held), .. }) = used {
            self.tokens.discard(&held.key, &held.token);
        }
    }

    /// What the upstream is known to ask for. If that leads nowhere, it is forgotten, so that
    /// the upstream can name another token server.
    async fn pass_in_advance(
        &self,
        scope: &TokenScope,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let known = self.known.lock().clone();
        let Some(challenge) = known else { return Ok(None) };
        let pass = self.pass(challenge, scope).await;
        match &pass {
            Ok(_) | Err(UpstreamError::Denied { .. } | UpstreamError::Throttled { .. }) => {}
            // That a client's credential leads nowhere says nothing about the token server.
            Err(UpstreamError::CredentialRefused { .. }) if scope.client.is_some() => {}
            Err(_) => self.remember(None),
        }
        pass.map(Some)
    }

    /// What to meet after a refusal of `used`, if a second try could end differently.
    async fn next_challenge(
        &self,
        (status, headers): (StatusCode, &HeaderMap),
        used: Option<&Authorization>,
        scope: &TokenScope,
    ) -> Result<Option<LoginChallenge>, UpstreamError> {
        let mut offered = self.read(headers, scope)?;
        let Some(used) = used else {
            if offered.is_none() && status == StatusCode::UNAUTHORIZED {
                let ping = self.transport.follow(&self.ping(scope), None).await?;
                offered = if ping.is_refusal() { self.read(&ping.headers, scope)? } else { None };
            }
            return Ok(offered);
        };
        match &used.token {
            Some(HeldToken { key, token, is_fresh: false }) => {
                self.tokens.discard(key, token);
                Ok(Some(offered.unwrap_or_else(|| used.challenge.clone())))
            }
            _ => Ok(offered.filter(|offered| *offered != used.challenge)),
        }
    }

    fn ping(&self, scope: &TokenScope) -> ReadRequest {
        ReadRequest::ping(&self.transport.url, scope.who())
    }

    /// Whose credential is used.
    fn identity<'i>(&'i self, scope: &'i TokenScope) -> Option<&'i ClientCredential> {
        scope.client.as_ref().or(self.identity.as_ref())
    }

    fn read(
        &self,
        headers: &HeaderMap,
        scope: &TokenScope,
    ) -> Result<Option<LoginChallenge>, UpstreamError> {
        match challenge::read(headers) {
            Some(ChallengeOffer::Bearer { realm, service }) => {
                let url = &self.transport.url;
                let realm = realm::check(url, &self.token_hosts, &realm).map_err(|refusal| {
                    UpstreamError::Forbidden {
                        host: self.transport.host.clone(),
                        target: refusal.target,
                        reason: refusal.reason.to_owned(),
                    }
                })?;
                Ok(Some(LoginChallenge::Bearer { realm, service }))
            }
            Some(ChallengeOffer::Basic) => Ok(self.identity(scope).map(|_| LoginChallenge::Basic)),
            None => Ok(None),
        }
    }

    fn remember(&self, challenge: Option<LoginChallenge>) {
        *self.known.lock() = challenge;
    }

    async fn pass(
        &self,
        challenge: LoginChallenge,
        scope: &TokenScope,
    ) -> Result<Authorization, UpstreamError> {
        match &challenge {
            LoginChallenge::Bearer { realm, service } => {
                let url = self.token_url(realm, service.as_deref(), scope);
                let held = self.token(url, scope).await?;
                let header = held.token.header();
                let header = header.ok_or_else(|| self.denied(StatusCode::UNAUTHORIZED))?;
                Ok(Authorization { challenge, header, token: Some(held) })
            }
            LoginChallenge::Basic => {
                let header = self.identity(scope).and_then(ClientCredential::header);
                let header = header.ok_or_else(|| self.denied(StatusCode::UNAUTHORIZED))?;
                Ok(Authorization { header, challenge, token: None })
            }
        }
    }

    fn token_url(&self, realm: &Url, service: Option<&str>, scope: &TokenScope) -> Url {
        let mut url = realm.clone();
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for text in &scope.texts {
            query.append_pair("scope", text);
        }
        if let Some(identity) = self.identity(scope) {
            query.append_pair("account", identity.username());
        }
        drop(query);
        url
    }

    async fn token(&self, url: Url, scope: &TokenScope) -> Result<HeldToken, UpstreamError> {
        let who = scope.who();
        // No URL has a space in it.
        let key = who.map_or_else(|| url.to_string(), |who| format!("{url} {who}"));
        let host = host_of(&url);
        let fetch = || {
            let transport = Arc::clone(&self.transport);
            let exchanges = Arc::clone(&self.exchanges);
            let credential = self.identity(scope).and_then(ClientCredential::header);
            async move {
                let fetch = async {
                    let _permit = exchanges.acquire().await;
                    exchange(&transport, &url, credential.as_ref(), who).await
                };
                timeout(HEAD_WAIT, fetch).await.unwrap_or_else(|_| {
                    Err(UpstreamError::Stalled { host: host_of(&url), waited: HEAD_WAIT })
                })
            }
        };
        match self.tokens.obtain(&key, scope.need, fetch).await {
            Some(Ok((token, is_fresh))) => {
                if is_fresh {
                    self.note_refusal(scope, None);
                }
                Ok(HeldToken { key, token, is_fresh })
            }
            Some(Err(error)) => {
                if let UpstreamError::CredentialRefused { reason, .. } = &error {
                    self.note_refusal(scope, Some(reason.clone()));
                }
                Err(error)
            }
            None => Err(UpstreamError::Unreachable {
                host,
                reason: "the login was given up".to_owned(),
            }),
        }
    }

    /// What it means that the upstream refused, with `used`, for good.
    ///
    /// A token server that issued a token has accepted our credential; with Basic only `/v2/`
    /// can tell whether it is the credential or the repository that is refused.
    async fn verdict(
        &self,
        status: StatusCode,
        used: Option<&Authorization>,
        scope: &TokenScope,
    ) -> UpstreamError {
        match used {
            Some(Authorization { token: Some(_), .. }) => self.discard(used),
            Some(Authorization { challenge: LoginChallenge::Basic, header, .. }) => {
                match self.transport.follow(&self.ping(scope), Some(header)).await {
                    Err(error) => return error,
                    Ok(ping) if ping.is_refusal() => {
                        let reason = format!("/v2/ answered {}", ping.status.as_u16());
                        self.note_refusal(scope, Some(reason.clone()));
                        let status = ping.status;
                        return UpstreamError::CredentialRefused {
                            host: ping.host,
                            status,
                            reason,
                        };
                    }
                    Ok(ping) if ping.status.is_server_error() => {
                        let reason = "for /v2/".to_owned();
                        return UpstreamError::Unexpected {
                            host: ping.host,
                            status: ping.status,
                            reason,
                        };
                    }
                    Ok(_) => {}
                }
            }
            _ => {}
        }
        self.denied(status)
    }

    fn denied(&self, status: StatusCode) -> UpstreamError {
        UpstreamError::Denied { host: self.transport.host.clone(), status }
    }
}
