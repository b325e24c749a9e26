//! The login at one upstream: which credential goes where, and what a refusal means.
//!
//! No credential is sent before the upstream has asked for it. Its challenge is remembered, so
//! that later requests bring it along. A request is sent at most twice: once with what is at
//! hand, and once more if the refusal gave reason to bring something else. So does a 404 where
//! there is a credential that has not been shown, if `/v2/` asks for one.
//!
//! Tokens are asked for the repository at hand and for what is to be done there, whatever scope the
//! challenge names: a scope is the upstream's wish, and could be another repository's.
//!
//! Requests are Larder's own, or of a client with a credential of its own. The tokens of each are
//! kept apart.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::authorization::{Authorization, LoginChallenge, ShownCredential};
use super::authorizer::Authorizer;
use super::challenge::{self, TokenFault, token_fault};
use super::error::UpstreamError;
use super::foreign::follow_to_registry;
use super::own_credential::OwnCredential;
use super::payload::ChangePayload;
use super::refusal::is_about_repository;
use super::reply::UpstreamReply;
use super::request::{CallPurpose, UpstreamRequest};
use super::scope::TokenScope;
use super::status::StatusClass;
use super::transport::UpstreamTransport;
use super::trouble::{TroubleKind, UpstreamTrouble};
use super::walk::follow;
use crate::credentials::CredentialState;
use crate::http::HostPort;

/// The login at one upstream.
pub(super) struct UpstreamLogin {
    pub(super) transport: Arc<UpstreamTransport>,
    authorizer: Authorizer,
    /// The last challenge of the upstream.
    known: Mutex<Option<LoginChallenge>>,
    /// When a change was last taken without anything, or `/v2/` asked for nothing.
    open: Mutex<Option<Instant>>,
}

/// For how long an upstream that wanted no login is believed to want none. If that is wrong, one
/// upload is refused.
const OPEN_BELIEVED: Duration = Duration::from_secs(300);

impl UpstreamLogin {
    /// A login that has not been asked for anything yet.
    pub(super) fn new(
        transport: Arc<UpstreamTransport>,
        token_hosts: Vec<HostPort>,
        own: OwnCredential,
    ) -> Self {
        let authorizer = Authorizer::new(&transport, token_hosts, own);
        Self { transport, authorizer, known: Mutex::default(), open: Mutex::default() }
    }

    /// Whether Larder has a credential of its own for the upstream.
    pub(super) fn has_credential(&self) -> bool {
        self.authorizer.own.is_some()
    }

    /// Whether the upstream has asked for a login.
    pub(super) fn was_asked(&self) -> bool {
        self.known.lock().is_some()
    }

    /// The user whose credential is shown; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::NoCredential`] if its source gives none.
    pub(super) async fn user(&self) -> Result<Option<String>, UpstreamError> {
        let own = self.authorizer.own.obtain(None, &self.transport.host).await?;
        Ok(own.map(|own| own.credential.username().to_owned()))
    }

    /// The troubles of the credential: it is refused everywhere, or ends and cannot be renewed.
    pub(super) fn troubles(&self) -> Vec<UpstreamTrouble> {
        let trouble = |kind, reason| {
            let host = self.transport.host.clone();
            UpstreamTrouble { kind, host, reason }
        };
        let refusal = self.authorizer.refusal.reason();
        let refused = refusal.map(|reason| trouble(TroubleKind::Credential, reason));
        let ending = self.credential_state().and_then(|state| {
            // One that has ended is missed by the next login.
            let failure = state.failure?;
            let ends = humantime::format_rfc3339_seconds(state.ends?);
            let reason = format!("it ends at {ends} and cannot be renewed: {failure}");
            Some(trouble(TroubleKind::Ending, reason))
        });
        refused.into_iter().chain(ending).collect()
    }

    /// How things stand with a credential that a source issues.
    pub(super) fn credential_state(&self) -> Option<CredentialState> {
        self.authorizer.own.state()
    }

    /// Sends `request` with the credential that the upstream asks for, at most twice. A body that
    /// can be sent once is not sent before there is a token for it.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::LoginOutdated`] if such a body would be taken with the next login. A read
    /// that is refused for good is [`UpstreamError::Denied`] or
    /// [`UpstreamError::CredentialRefused`]; a change that is refused is an answer.
    pub(super) async fn send(
        &self,
        request: &UpstreamRequest,
        payload: ChangePayload,
    ) -> Result<UpstreamReply, UpstreamError> {
        if request.purpose == CallPurpose::Redirect {
            return follow(&self.transport, request, payload, None).await;
        }
        let scope = &request.scope;
        let again = payload.again();
        if again.is_none() {
            self.learn_challenge(scope).await?;
        }
        let first = self.authorize_in_advance(scope).await?;
        let reply = self.send_with(request, payload, first.as_ref()).await?;
        if first.is_none() && self.may_be_hidden(&reply, scope) {
            return self.send_again(request, again, reply).await;
        }
        if !reply.is_refusal() {
            return Ok(reply);
        }
        let Some(next) = self.next_challenge(&reply, first.as_ref(), scope).await? else {
            return self.refused(request, reply, first.as_ref()).await;
        };
        let Some(again) = again else {
            self.remember(Some(next));
            if is_about_repository(&reply, Authorization::shown(first.as_ref())) {
                return Ok(reply);
            }
            return Err(UpstreamError::LoginOutdated { host: reply.host, status: reply.status });
        };
        let second = self.authorizer.authorize(next.clone(), scope).await?;
        self.remember(Some(next));
        self.send_last(request, again, &second).await
    }

    /// Whether a 404 without a credential may be for the lack of one: Harbor, GHCR and ACR hide
    /// what is private. An upstream that is known to want no login hides nothing.
    fn may_be_hidden(&self, reply: &UpstreamReply, scope: &TokenScope) -> bool {
        let is_absence = reply.status == StatusCode::NOT_FOUND && !reply.is_foreign;
        is_absence && self.authorizer.has_credential(scope) && !self.is_open()
    }

    /// Sends with the credential what was answered 404 without one, if the upstream wants a login.
    async fn send_again(
        &self,
        request: &UpstreamRequest,
        again: Option<ChangePayload>,
        mut absence: UpstreamReply,
    ) -> Result<UpstreamReply, UpstreamError> {
        // Waiting for another permit while holding one could deadlock.
        absence.read_error().await;
        self.learn_challenge(&request.scope).await?;
        let login = self.authorize_in_advance(&request.scope).await?;
        if login.is_none() && !self.is_open() {
            let reason = "and /v2/ does not say whether it wants a login";
            return Err(UpstreamError::unexpected(absence.host, absence.status, reason));
        }
        let (Some(login), Some(again)) = (login, again) else { return Ok(absence) };
        self.send_last(request, again, &login).await
    }

    /// Sends `request` for the last time: a refusal is for good.
    async fn send_last(
        &self,
        request: &UpstreamRequest,
        payload: ChangePayload,
        used: &Authorization,
    ) -> Result<UpstreamReply, UpstreamError> {
        let reply = self.send_with(request, payload, Some(used)).await?;
        if reply.is_refusal() { self.refused(request, reply, Some(used)).await } else { Ok(reply) }
    }

    /// Sends `request` once, and notes what its answer says about the credential.
    async fn send_with(
        &self,
        request: &UpstreamRequest,
        payload: ChangePayload,
        used: Option<&Authorization>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let header = used.map(|used| &used.header);
        let (transport, tokens) = (&self.transport, &self.authorizer.tokens);
        let mut reply = follow_to_registry(transport, tokens, request, payload, header).await?;
        if reply.is_refusal() {
            // Waiting for another permit while holding one could deadlock.
            reply.read_error().await;
            return Ok(reply);
        }
        match used {
            Some(Authorization { token: Some(held), .. }) => {
                held.token.note_taken();
                self.authorizer.refusal.note_token_taken();
            }
            Some(_) => self.authorizer.refusal.note_password_taken(&request.scope),
            None if request.is_change() && reply.status.is_success() => self.note_open(),
            _ => {}
        }
        Ok(reply)
    }

    /// The outcome of a request that was refused with `used`, for good.
    async fn refused(
        &self,
        request: &UpstreamRequest,
        reply: UpstreamReply,
        used: Option<&Authorization>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let error = if request.is_change() {
            None
        } else {
            Some(self.verdict(request, &reply, used).await)
        };
        // A token that is refused everywhere may become valid, and another one would be no better.
        let is_kept = error.as_ref().is_some_and(UpstreamError::is_an_outage);
        if let Some(Authorization { token: Some(held), .. }) = used
            && !is_kept
        {
            self.authorizer.tokens.discard(held);
        }
        error.map_or(Ok(reply), Err)
    }

    /// Whether a registry is found at `/v2/`: it answers, or asks for a login.
    pub(super) async fn finds_registry(&self, scope: &TokenScope) -> bool {
        let Ok(ping) = self.ping(scope, None).await else { return false };
        ping.status.is_success() || (ping.is_refusal() && challenge::read(&ping.headers).is_some())
    }

    /// Finds out what the upstream asks for, unless that is known.
    async fn learn_challenge(&self, scope: &TokenScope) -> Result<(), UpstreamError> {
        let is_known = self.known.lock().is_some();
        if is_known || self.is_open() {
            return Ok(());
        }
        let ping = self.ping(scope, None).await?;
        if ping.status.is_server_error() {
            return Err(UpstreamError::unexpected(ping.host, ping.status, "for /v2/"));
        }
        if ping.is_refusal()
            && let Some(offered) = self.authorizer.read(&ping.headers, scope)?
        {
            self.remember(Some(offered));
        } else if ping.status.is_success() {
            self.note_open();
        }
        Ok(())
    }

    /// Gets the token for a change before its body is there, and finds out whether the client may
    /// make it, as far as its token server says so.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Denied`] if the client may not, and those of a login.
    pub(super) async fn prepare(&self, scope: &TokenScope) -> Result<(), UpstreamError> {
        self.learn_challenge(scope).await?;
        let login = self.authorize_in_advance(scope).await?;
        let token = login.and_then(|login| login.token);
        match (token, scope.repository()) {
            (Some(held), Some(repository)) if held.token.lacks(repository, "push") => {
                Err(self.denied(StatusCode::FORBIDDEN, true))
            }
            _ => Ok(()),
        }
    }

    /// Whether the upstream was found to want no login, not long ago.
    fn is_open(&self) -> bool {
        self.open.lock().is_some_and(|noted| noted.elapsed() < OPEN_BELIEVED)
    }

    fn note_open(&self) {
        *self.open.lock() = Some(Instant::now());
    }

    /// Meets the challenge that is remembered. If that leads nowhere, it is forgotten, so that
    /// the upstream can name another token server.
    async fn authorize_in_advance(
        &self,
        scope: &TokenScope,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let known = self.known.lock().clone();
        let Some(challenge) = known else { return Ok(None) };
        let authorization = self.authorizer.authorize(challenge, scope).await;
        match &authorization {
            Ok(_) | Err(UpstreamError::Denied { .. } | UpstreamError::Throttled { .. }) => {}
            // A client's credential that is refused says nothing about the token server.
            Err(UpstreamError::CredentialRefused { .. }) if scope.client.is_some() => {}
            Err(_) => self.remember(None),
        }
        authorization.map(Some)
    }

    /// The challenge to meet after a refusal of `used`, if a second try could end differently.
    async fn next_challenge(
        &self,
        refusal: &UpstreamReply,
        used: Option<&Authorization>,
        scope: &TokenScope,
    ) -> Result<Option<LoginChallenge>, UpstreamError> {
        let mut offered = self.authorizer.read(&refusal.headers, scope)?;
        let Some(used) = used else {
            if offered.is_none() && refusal.status == StatusCode::UNAUTHORIZED {
                let ping = self.ping(scope, None).await?;
                offered = if ping.is_refusal() {
                    self.authorizer.read(&ping.headers, scope)?
                } else {
                    None
                };
            }
            return Ok(offered);
        };
        match &used.token {
            Some(held) if !held.is_fresh && !held.token.may_become_valid() => {
                self.authorizer.tokens.discard(held);
                Ok(Some(offered.unwrap_or_else(|| used.challenge.clone())))
            }
            None if used.credential.as_ref().is_some_and(|it| self.authorizer.own.replace(it)) => {
                Ok(Some(offered.unwrap_or_else(|| used.challenge.clone())))
            }
            _ => Ok(offered.filter(|offered| *offered != used.challenge)),
        }
    }

    /// The answer of `/v2/`.
    async fn ping(
        &self,
        scope: &TokenScope,
        header: Option<&HeaderValue>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let request = UpstreamRequest::ping(&self.transport.base, scope);
        follow(&self.transport, &request, ChangePayload::Empty, header).await
    }

    fn remember(&self, challenge: Option<LoginChallenge>) {
        *self.known.lock() = challenge;
    }

    /// The error that it is when the upstream refused a read, with `used`, for good.
    ///
    /// A refusal is about the repository if it says so itself, or if `/v2/` takes what was shown.
    /// If `/v2/` refuses as well, it is about our credential, about a token that is not valid yet,
    /// or not the registry's at all.
    async fn verdict(
        &self,
        request: &UpstreamRequest,
        refusal: &UpstreamReply,
        used: Option<&Authorization>,
    ) -> UpstreamError {
        let (scope, status) = (&request.scope, refusal.status);
        let shown = Authorization::shown(used);
        if is_about_repository(refusal, shown) {
            return self.denied(status, true);
        }
        if request.is_ping() {
            return self.denied(status, false);
        }
        let ping = match self.ping(scope, used.map(|used| &used.header)).await {
            Err(error) => return error,
            Ok(ping) => ping,
        };
        if matches!(ping.class(), StatusClass::Gateway | StatusClass::Transient) {
            return UpstreamError::unexpected(ping.host, ping.status, "for /v2/");
        }
        let is_invalid = token_fault(&refusal.headers) == Some(TokenFault::InvalidToken);
        let reason = format!("/v2/ answered {}", ping.status.as_u16());
        let credential = used.and_then(|used| used.credential.as_ref()).map(|it| &it.credential);
        match shown {
            ShownCredential::Token if ping.is_refusal() && is_invalid => {
                self.authorizer.refusal.note_refused(scope, shown, &reason, credential);
                UpstreamError::TokenRefused { host: ping.host, status }
            }
            ShownCredential::Password if ping.is_refusal() => {
                self.authorizer.refusal.note_refused(scope, shown, &reason, credential);
                UpstreamError::CredentialRefused { host: ping.host, status: ping.status, reason }
            }
            _ => self.denied(status, ping.status.is_success()),
        }
    }

    fn denied(&self, status: StatusCode, is_proven: bool) -> UpstreamError {
        UpstreamError::Denied { host: self.transport.host.clone(), status, is_proven }
    }
}
