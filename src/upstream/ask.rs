//! The life of a request to an upstream: log in, send, follow, retry, give up in time.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, StatusCode};
use tokio::time::{Instant, sleep, timeout_at};

use super::advice::UpstreamMistake;
use super::base::RegistryBase;
use super::change::ChangeCall;
use super::error::{SetupError, UpstreamError};
use super::location::UploadLocation;
use super::login::UpstreamLogin;
use super::meter::UpstreamMeter;
use super::options::UpstreamOptions;
use super::own_credential::OwnCredential;
use super::payload::ChangePayload;
use super::probe;
use super::question::{Answer, Question};
use super::reply::UpstreamReply;
use super::request::UpstreamRequest;
use super::retry;
use super::scope::TokenScope;
use super::shown::host_of;
use super::transport::{TransportClients, UpstreamTransport};
use super::trouble::{TroubleKind, UpstreamTrouble};
use crate::credentials::CredentialRoute;
use crate::http::{ClientIdentity, EgressRoute, HostPort, HttpClient, client_config};
use crate::oci::Resource;
use crate::traces::on_try;

/// A registry at one URL, with the login and the connections that belong to it.
pub struct Upstream {
    pub(super) transport: Arc<UpstreamTransport>,
    /// The first of its logins, and the only one that changes anything there.
    pub(super) login: UpstreamLogin,
    /// Those that take turns with it.
    pub(super) further_logins: Vec<UpstreamLogin>,
}

impl Upstream {
    /// The upstream that `options` describe. Nothing is sent yet; requests are counted in `meter`.
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
        let base = RegistryBase::new(url).ok_or(SetupError::Url)?;
        let own = HostPort::of(url).ok_or(SetupError::Url)?;
        let host = host_of(url);
        let route = CredentialRoute {
            egress,
            ca_pem: options.ca_pem.as_deref(),
            registry: url,
            must_be_public: options.must_be_public,
        };
        let credential = OwnCredential::new(&options.credential, &host, route)?;
        let further = options.further_logins.iter();
        let further = further.map(|login| OwnCredential::new(&login.credential, &host, route));
        let further: Vec<_> = further.collect::<Result<_, _>>()?;
        let clients = transport_clients(options, egress, own)?;
        let (room, meter) = (options.max_connections, Arc::clone(meter));
        let transport =
            UpstreamTransport::new(base, clients, egress.instance, room, meter, probe::hook);
        let login = |transport, credential| {
            UpstreamLogin::new(transport, options.token_hosts.clone(), credential)
        };
        let further = further.into_iter();
        Ok(Self {
            further_logins: further.map(|it| login(transport.for_another_login(), it)).collect(),
            login: login(Arc::clone(&transport), credential),
            transport,
        })
    }

    /// Its host, and its port if the URL has one: what messages call it.
    pub fn host(&self) -> &str {
        &self.transport.host
    }

    /// Whether it is not asked for a while, because it did not answer.
    pub fn is_open(&self) -> bool {
        self.transport.is_open(self.host())
    }

    /// How many pushes it may be sent at once.
    pub fn push_places(&self) -> usize {
        self.transport.room.push_places()
    }

    /// Its troubles, and those of the hosts to which it points.
    pub fn troubles(&self) -> Vec<UpstreamTrouble> {
        let kind = TroubleKind::Breaker;
        let hosts = self.transport.open_hosts().into_iter();
        let mut troubles: Vec<_> =
            hosts.map(|(host, reason)| UpstreamTrouble { kind, host, reason }).collect();
        troubles.extend(self.logins().flat_map(UpstreamLogin::troubles));
        troubles
    }

    /// When the first of the credentials ends that sources have issued for it.
    pub fn credential_end(&self) -> Option<SystemTime> {
        self.logins().filter_map(|login| login.credential_state()?.ends).min()
    }

    /// How many of its limits are respected now.
    pub fn limits_held(&self) -> usize {
        let of_logins = self.logins().map(|login| login.transport.limits_held());
        of_logins.sum::<usize>() + self.transport.storage_limits_held()
    }

    /// Asks, logs in as needed, follows redirects, retries. All before the head of the final answer
    /// ends by `deadline`; the body then takes as long as it takes.
    ///
    /// # Errors
    ///
    /// Everything but a 200, or the 206 that was asked for, is an [`UpstreamError`].
    pub async fn ask(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let limits_until = question.limit_deadline(Instant::now(), deadline);
        self.retry(deadline, limits_until, || Box::pin(self.attempt(question))).await
    }

    /// Makes attempts until one succeeds, or `deadline`, or another one would not help. Rate limits
    /// that are over by `limits_until` are waited out.
    async fn retry<T, F: Future<Output = Result<T, UpstreamError>>>(
        &self,
        deadline: Instant,
        limits_until: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<T, UpstreamError> {
        let start = Instant::now();
        let mut tries = 0;
        loop {
            let error = match timeout_at(deadline, on_try(tries, attempt())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.stalled(start)),
            };
            // A request that was limited costs its host nothing: the others wait here for its turn.
            let is_limit = matches!(error, UpstreamError::Throttled { .. });
            tries += u32::from(!is_limit);
            let until = if is_limit { limits_until } else { deadline };
            let pause = retry::pause(&error, tries)
                .filter(|pause| Instant::now() + *pause < until)
                .filter(|_| !self.transport.is_open(error.host()));
            let Some(pause) = pause else { return Err(error) };
            let pause_seconds = pause.as_secs_f64();
            tracing::debug!(%error, tries, pause_seconds, "retrying an upstream request");
            sleep(pause).await;
        }
    }

    /// Whether this upstream knows the credential of `scope`, a client's or Larder's own: the token
    /// server and `/v2/` accept it. It is no right to anything.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::CredentialRefused`] if not.
    pub(super) async fn check(
        &self,
        login: &UpstreamLogin,
        scope: TokenScope,
        deadline: Instant,
    ) -> Result<(), UpstreamError> {
        let request = UpstreamRequest::ping(&self.transport.base, &scope);
        let ping = || Box::pin(login.send(&request, ChangePayload::Empty));
        match self.retry(deadline, deadline, ping).await {
            Ok(reply) if reply.status.is_success() => Ok(()),
            Ok(UpstreamReply { host, status, .. }) => {
                Err(UpstreamError::unexpected(host, status, "for /v2/"))
            }
            // The request asks for nothing, so that it is the credential that was refused.
            Err(UpstreamError::Denied { host, status, .. }) => {
                let reason = format!("/v2/ answered {}", status.as_u16());
                Err(UpstreamError::CredentialRefused { host, status, reason })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it answers `/v2/` before `deadline`, with whatever status but a gateway's.
    pub(super) async fn answers(&self, deadline: Instant) -> bool {
        timeout_at(deadline, probe::answers(&self.transport)).await.unwrap_or(false)
    }

    /// Asks like [`Upstream::ask`], without a retry.
    pub(super) async fn ask_once(
        &self,
        question: &Question,
        deadline: Instant,
    ) -> Result<Answer, UpstreamError> {
        let start = Instant::now();
        let attempt = timeout_at(deadline, Box::pin(self.attempt(question))).await;
        attempt.unwrap_or_else(|_| Err(self.stalled(start)))
    }

    /// Sends a change, and gives the answer to it, whatever that is. A streamed body is sent once;
    /// before its first byte is asked for, there is a token and a connection, because a refusal
    /// after it cannot be met.
    ///
    /// # Errors
    ///
    /// When no answer came, or one that is not the upstream's.
    pub async fn change(&self, mut change: ChangeCall) -> Result<UpstreamReply, UpstreamError> {
        let request = UpstreamRequest::of_change(&self.transport.base, &change);
        let payload = std::mem::take(&mut change.payload);
        let again = payload.again().filter(|_| change.is_repeatable());
        match (Box::pin(self.login.send(&request, payload)).await, again) {
            // Most often a connection that was closed as it was taken up again.
            (Err(UpstreamError::Unreachable { .. }), Some(payload)) => {
                Box::pin(self.login.send(&request, payload)).await
            }
            (Ok(reply), Some(payload)) if is_unprocessed(reply.status) => {
                Box::pin(self.login.send(&request, payload)).await
            }
            (answer, _) => answer,
        }
    }

    /// Logs in for a change whose body is still to come.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Denied`] if the client is known not to have the right, and those of a
    /// login.
    pub async fn prepare(&self, change: ChangeCall) -> Result<(), UpstreamError> {
        let request = UpstreamRequest::of_change(&self.transport.base, &change);
        drop(change);
        Box::pin(self.login.prepare(&request.scope)).await
    }

    /// The location at which an upload goes on, as an answer says.
    ///
    /// # Errors
    ///
    /// As for redirects: [`UpstreamError::Forbidden`] and [`UpstreamError::Unexpected`].
    pub fn location_in(&self, reply: &UpstreamReply) -> Result<UploadLocation, UpstreamError> {
        UploadLocation::read(self.transport.base.url(), &reply.url, reply.status, &reply.headers)
    }

    /// The location that was sealed; `None` if an upload may not go on there today.
    pub fn location_of(&self, sealed: &str) -> Option<UploadLocation> {
        UploadLocation::open(self.transport.base.url(), sealed)
    }

    /// Tells the operator that a login may be missing, if a request without one was refused.
    fn tell_of_login(&self, question: &Question, error: &UpstreamError) {
        let is_anonymous =
            question.client.is_none() && !self.logins().any(UpstreamLogin::has_credential);
        if let UpstreamError::Denied { host, status, .. } = error {
            let mistake = is_anonymous.then_some(UpstreamMistake::LoginMissing);
            self.transport.tell(mistake, host, status.as_str());
        }
    }

    pub(super) fn stalled(&self, start: Instant) -> UpstreamError {
        UpstreamError::Stalled { host: self.transport.host.clone(), waited: start.elapsed() }
    }

    /// Asks once. A 404 about something of which a record is kept is not believed before it is
    /// known that the registry itself has said so.
    pub(super) async fn attempt_by(
        &self,
        login: &UpstreamLogin,
        question: &Question,
    ) -> Result<Answer, UpstreamError> {
        let request = UpstreamRequest::of_question(&self.transport.base, question);
        match self.answer(login, question, &request).await {
            Err(UpstreamError::NotFound { host, said, is_proven: false })
                if question.is_mutable() =>
            {
                let is_proven = login.finds_registry(&request.scope).await;
                Err(UpstreamError::NotFound { host, said, is_proven })
            }
            answer => answer,
        }
    }

    async fn answer(
        &self,
        login: &UpstreamLogin,
        question: &Question,
        request: &UpstreamRequest,
    ) -> Result<Answer, UpstreamError> {
        let sent = login.send(request, ChangePayload::Empty).await;
        let reply = sent.inspect_err(|error| self.tell_of_login(question, error))?;
        let is_head = request.method == Method::HEAD;
        match &question.resource {
            Resource::Blob(_) if is_head && reply.is_signed_for_get_only() => {
                drop(reply);
                let request = UpstreamRequest::of_first_byte(&self.transport.base, question);
                login.send(&request, ChangePayload::Empty).await?.into_head()
            }
            // The reason is in the body of a GET, or the registry takes nothing but GET.
            Resource::Manifest(_) if is_head && reply.is_unexplained() => {
                drop(reply);
                let get = UpstreamRequest { method: Method::GET, ..request.clone() };
                let reply = login.send(&get, ChangePayload::Empty).await?;
                reply.conclude(request, question).await
            }
            _ => reply.conclude(request, question).await,
        }
    }
}

/// The connections of the upstream that `options` describe, which is at `own`.
fn transport_clients(
    options: &UpstreamOptions,
    egress: &EgressRoute,
    own: HostPort,
) -> Result<TransportClients, SetupError> {
    let (url, host) = (&options.url, host_of(&options.url));
    let mut exempt: Vec<_> = Some(own).filter(|_| !options.must_be_public).into_iter().collect();
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
    Ok(TransportClients { own, others, tells_traces: options.trace_context })
}

/// Whether a host says that it has not processed the request: it closed an idle connection (408),
/// or the connection was not for it (421) or too young (425).
fn is_unprocessed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 421 | 425)
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("host", &self.host()).finish_non_exhaustive()
    }
}
