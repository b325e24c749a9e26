//! The life of a question: log in, send, follow, try again, give up in time.

use std::fmt;
use std::sync::Arc;

use http::{Method, StatusCode};
use tokio::time::{Instant, sleep, timeout_at};

use super::change::ChangeRequest;
use super::login::UpstreamLogin;
use super::request::ReadRequest;
use super::scope::TokenScope;
use super::transport::{TransportClients, UpstreamTransport, host_of};
use super::{
    Answer, ChangeCall, ChangeResponse, ClientCredential, Question, SetupError, TroubleKind,
    UploadLocation, UpstreamError, UpstreamMeter, UpstreamOptions, UpstreamTrouble, retry,
};
use crate::http::{ClientIdentity, EgressRoute, HostPort, HttpClient, client_config};
use crate::oci::Resource;

/// A registry at one URL, with the login and the connections that belong to it.
pub struct Upstream {
    transport: Arc<UpstreamTransport>,
    login: UpstreamLogin,
}

impl Upstream {
    /// The upstream that `options` describe. Nothing is sent yet; what will be is counted in `meter`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when no upstream can be reached with these options.
    pub fn new(
        options: &UpstreamOptions,
        egress: &EgressRoute,
        meter: &Arc<UpstreamMeter>,
    ) -> Result<Self, SetupError> {
        let url = &options.url;
        let is_bare = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let own = HostPort::of(url).filter(|_| is_bare).ok_or(SetupError::Url)?;
        let host = host_of(url);
        let identity = ClientCredential::of(&options.credential)
            .map_err(|_| SetupError::Username { host: host.clone() })?;
        let mut exempt = vec![own];
        exempt.extend_from_slice(&options.token_hosts);
        exempt.extend_from_slice(&options.redirect_hosts);
        let client = |identity: Option<&ClientIdentity>| {
            let tls = client_config(options.ca_pem.as_deref(), identity, url.scheme() == "https")?;
            Ok(HttpClient::new(egress, &exempt, &tls, options.max_connections))
        };
        let others = client(None).map_err(|fault| SetupError::Ca { host: host.clone(), fault })?;
        let own = match options.client_identity.as_ref() {
            None => others.clone(),
            some => client(some).map_err(|fault| SetupError::ClientCert { host, fault })?,
        };
        let clients = TransportClients { own, others };
        let (room, meter) = (options.max_connections, Arc::clone(meter));
        let transport = UpstreamTransport::new(url.clone(), clients, egress.instance, room, meter);
        let transport = Arc::new(transport);
        let login =
            UpstreamLogin::new(Arc::clone(&transport), options.token_hosts.clone(), identity);
        Ok(Self { transport, login })
    }

    /// Its host, and its port if the URL has one: what messages call it.
    pub fn host(&self) -> &str {
        &self.transport.host
    }

    /// Whether it is not asked for a while, because it did not answer.
    pub fn is_open(&self) -> bool {
        self.transport.is_open(self.host())
    }

    /// What is wrong with it, or with the hosts to which it points.
    pub fn troubles(&self) -> Vec<UpstreamTrouble> {
        let kind = TroubleKind::Breaker;
        let hosts = self.transport.open_hosts().into_iter();
        let mut troubles: Vec<_> =
            hosts.map(|(host, reason)| UpstreamTrouble { kind, host, reason }).collect();
        troubles.extend(self.login.refusal().map(|reason| {
            let host = self.host().to_owned();
            UpstreamTrouble { kind: TroubleKind::Credential, host, reason }
        }));
        troubles
    }

    /// How many of its limits are respected now.
    pub fn limits_held(&self) -> usize {
        self.transport.limits_held()
    }

    /// Asks, logs in as needed, follows redirects, tries again. All before the head of the final
    /// answer ends by `deadline`; the body then takes as long as it takes.
    ///
    /// # Errors
    ///
    /// Everything but a 200, or the 206 that was asked for, is an [`UpstreamError`].
    pub async fn ask(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let start = Instant::now();
        let mut tries = 0;
        loop {
            let error = match timeout_at(deadline, Box::pin(self.attempt(question))).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.stalled(start)),
            };
            tries += 1;
            match retry::pause(&error, tries) {
                Some(pause)
                    if Instant::now() + pause < deadline
                        && !self.transport.is_open(error.host()) =>
                {
                    tracing::debug!(%error, tries, ?pause, "asking the upstream again");
                    sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Whether a client's credential is one that this upstream knows: the token server and `/v2/` take
    /// it. That is no right to anything.
    pub(super) async fn check(
        &self,
        client: &ClientCredential,
        deadline: Instant,
    ) -> Result<(), UpstreamError> {
        let start = Instant::now();
        let request = ReadRequest::ping(&self.transport.url, client.tag());
        let scope = TokenScope::entry().of(Some(client.clone()));
        match timeout_at(deadline, Box::pin(self.login.send(&request, &scope))).await {
            Ok(Ok(reply)) if reply.status.is_success() => Ok(()),
            Ok(Ok(reply)) => {
                let reason = "for /v2/".to_owned();
                Err(UpstreamError::Unexpected { host: reply.host, status: reply.status, reason })
            }
            // What is refused to who asks for nothing is the credential.
            Ok(Err(UpstreamError::Denied { host, status })) => {
                let reason = format!("/v2/ answered {}", status.as_u16());
                Err(UpstreamError::CredentialRefused { host, status, reason })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.stalled(start)),
        }
    }

    /// Like [`Upstream::ask`], but tries nothing twice.
    pub(super) async fn ask_once(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let start = Instant::now();
        let attempt = timeout_at(deadline, Box::pin(self.attempt(question))).await;
        attempt.unwrap_or_else(|_| Err(self.stalled(start)))
    }

    /// Sends a change, and gives what was said to it, whatever that is.
    ///
    /// # Errors
    ///
    /// When nothing was said, or by nobody who should have been asked.
    pub async fn change(&self, change: ChangeCall) -> Result<ChangeResponse, UpstreamError> {
        let (errand, payload) = ChangeRequest::of(&self.transport.url, change);
        let again = payload.again().filter(|_| errand.is_repeatable());
        match (Box::pin(self.login.change(&errand, payload)).await, again) {
            // Most often a connection that was closed as it was taken up again.
            (Err(UpstreamError::Unreachable { .. }), Some(payload)) => {
                Box::pin(self.login.change(&errand, payload)).await
            }
            (said, _) => said,
        }
    }

    /// Where an upload goes on, as an answer says.
    pub fn location_in(&self, said: &ChangeResponse) -> Result<UploadLocation, UpstreamError> {
        said.location(&self.transport.url)
    }

    /// Where an upload goes on, as it was sealed; `None` if it may not go there today.
    pub fn location_of(&self, sealed: &str) -> Option<UploadLocation> {
        UploadLocation::open(&self.transport.url, sealed)
    }

    fn stalled(&self, start: Instant) -> UpstreamError {
        UpstreamError::Stalled { host: self.transport.host.clone(), waited: start.elapsed() }
    }

    /// To be awaited in a box, as whatever goes upstream from a request: hits never come here, and would
    /// carry room for it in futures of their own.
    async fn attempt(&self, question: &Question) -> Result<Answer, UpstreamError> {
        let request = ReadRequest::of(&self.transport.url, question);
        let scope = TokenScope::pull(&question.repository).of(question.client.clone());
        let scope = scope.since(question.token_since);
        let reply = self.login.send(&request, &scope).await?;
        let is_blob_head =
            request.method == Method::HEAD && matches!(question.resource, Resource::Blob(_));
        if is_blob_head && reply.is_signed_for_get_only() {
            drop(reply);
            let request = ReadRequest::first_byte(&self.transport.url, question);
            return self.login.send(&request, &scope).await?.into_head();
        }
        let is_list = matches!(question.resource, Resource::Referrers(_) | Resource::Tags);
        if is_list && reply.status == StatusCode::NOT_FOUND {
            return Err(reply.into_absence().await);
        }
        reply.into_answer(&request.method, request.span)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("host", &self.host()).finish_non_exhaustive()
    }
}
