//! One request to one host, and the head of its answer.
//!
//! Every request to the network passes here. It gets the headers that all have, waits for its head
//! for a bounded time, is not sent to a host that limits us or does not answer, and its faults get
//! their names. No redirect is followed here, no login made and nothing retried.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::advice::{ToldMistakes, UpstreamMistake};
use super::backoff::BackoffTable;
use super::base::RegistryBase;
use super::body::AnswerBody;
use super::breaker::{CircuitBreaker, OpenHook, OpenedHost, UrlScheme};
use super::budget::{BudgetRecord, RateBudget};
use super::call_log::log_call;
use super::call_span::{CallNames, CallSpan};
use super::coding::DocumentCoding;
use super::error::UpstreamError;
use super::guarded_call::GuardedCall;
use super::limit::{self, RateAllowance};
use super::meter::{CallOutcome, UpstreamMeter};
use super::payload::{ChangePayload, UploadStallTimer};
use super::reply::UpstreamReply;
use super::request::{CallPurpose, UpstreamRequest};
use super::request_room::RequestRoom;
use super::shown::host_of;
use crate::http::{ConnectionLane, HttpClient, InstanceId, ReplyBody, SendError};

/// How long a host may take to send a response's head, connecting included. Clients give up at
/// 30 s; this leaves time for a second try.
pub(super) const HEAD_WAIT: Duration = Duration::from_secs(15);

/// How long a host may take for the head of its answer to a change whose body is at hand.
/// Registries check every layer that a manifest names before they answer.
const CHANGE_WAIT: Duration = Duration::from_secs(60);

const AGENT: HeaderValue = HeaderValue::from_static(concat!("larder/", env!("CARGO_PKG_VERSION")));

/// Compressed on the way, bytes would not match their digest.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The way to one upstream, and to where it points.
pub(super) struct UpstreamTransport {
    /// The upstream.
    pub(super) base: RegistryBase,
    /// Its name in messages.
    pub(super) host: String,
    /// The name of this instance of Larder in `Via`.
    pub(super) instance: InstanceId,
    /// Counts what is sent and what comes.
    pub(super) meter: Arc<UpstreamMeter>,
    clients: TransportClients,
    pub(super) room: Arc<RequestRoom>,
    backoff: BackoffTable,
    storage_backoff: Arc<BackoffTable>,
    budget: BudgetRecord,
    breaker: Arc<CircuitBreaker>,
    /// Whether it has redirected when it was last asked for a blob.
    redirects_blobs: AtomicBool,
    told: Arc<ToldMistakes>,
}

/// Connections, apart by what they show: the certificate is for the upstream's own origin, and for
/// no token server or storage elsewhere.
#[derive(Clone)]
pub(super) struct TransportClients {
    /// To the upstream.
    pub(super) own: HttpClient,
    /// To wherever it points.
    pub(super) others: HttpClient,
    /// Whether the upstream is told of traces. Nothing else ever is.
    pub(super) tells_traces: bool,
}

impl UpstreamTransport {
    /// A way to the registry at `base` that has room for `connections_max` requests at once.
    /// `on_open` makes the hook for breakers that open.
    pub(super) fn new(
        base: RegistryBase,
        clients: TransportClients,
        instance: InstanceId,
        connections_max: usize,
        meter: Arc<UpstreamMeter>,
        on_open: fn(Weak<Self>) -> OpenHook,
    ) -> Arc<Self> {
        let (host, room) = (host_of(base.url()), Arc::new(RequestRoom::new(connections_max)));
        Arc::new_cyclic(|this| Self {
            base,
            host,
            instance,
            meter,
            clients,
            room,
            backoff: BackoffTable::default(),
            storage_backoff: Arc::new(BackoffTable::of_storage()),
            budget: BudgetRecord::default(),
            breaker: Arc::new(CircuitBreaker::new(on_open(Weak::clone(this)))),
            redirects_blobs: AtomicBool::new(false),
            told: Arc::default(),
        })
    }

    /// The same way for another login: connections, room, breaker and the limits of storage are
    /// shared, those of the registry are not.
    pub(super) fn for_another_login(&self) -> Arc<Self> {
        Arc::new(Self {
            base: self.base.clone(),
            host: self.host.clone(),
            instance: self.instance,
            meter: Arc::clone(&self.meter),
            clients: self.clients.clone(),
            room: Arc::clone(&self.room),
            backoff: BackoffTable::default(),
            storage_backoff: Arc::clone(&self.storage_backoff),
            budget: BudgetRecord::default(),
            breaker: Arc::clone(&self.breaker),
            redirects_blobs: AtomicBool::new(false),
            told: Arc::clone(&self.told),
        })
    }

    /// Sends `request` once, with this body and this `Authorization`.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Throttled`] if the answer limits us, unless it answers a change; and when
    /// no answer came, or none may be asked for.
    pub(super) async fn exchange(
        &self,
        request: &UpstreamRequest,
        payload: ChangePayload,
        authorization: Option<&HeaderValue>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let began = Instant::now();
        let exchanged = self.send(request, payload, authorization).await;
        log_call(request, began, exchanged.as_ref().map(|reply| reply.status));
        exchanged
    }

    async fn send(
        &self,
        request: &UpstreamRequest,
        payload: ChangePayload,
        authorization: Option<&HeaderValue>,
    ) -> Result<UpstreamReply, UpstreamError> {
        let host = host_of(&request.url);
        let (body, timer) = payload.into_body();
        let timer = timer.as_ref();
        let mut message = self.message(request, body, authorization)?;
        let call = self.begin(request, &host)?;
        let mut span = self.span(request, &mut message);
        let client = if self.is_own(request) { &self.clients.own } else { &self.clients.others };
        let sent = tokio::select! {
            biased;
            sent = client.send(message, self.lane(request, timer)) => sent,
            waited = too_slow(request, timer) => {
                let fault = format!("it sent nothing for {} s", waited.as_secs());
                call.failed(CallOutcome::Stalled, &fault);
                span.failed("stalled", &fault);
                return Err(UpstreamError::Stalled { host, waited });
            }
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                span.failed("unreachable", &error.to_string());
                return Err(self.fault(request, call, timer, error));
            }
        };
        span.answered(response.status());
        self.note_answer(request, &response, &host);
        match call.answered(&response) {
            Some(wait) if !request.is_change() => {
                let by_storage = request.purpose == CallPurpose::Redirect;
                return Err(UpstreamError::Throttled { host, wait: Some(wait), by_storage });
            }
            Some(_) => {}
            None => self.note_redirect(request, response.status()),
        }
        let is_body_sent = timer.is_none_or(UploadStallTimer::is_sent);
        timer.inspect(|timer| timer.stop());
        let (head, body) = response.into_parts();
        let coding = DocumentCoding::of(&head.headers).filter(|_| request.is_for_document());
        let body = AnswerBody::new(body, head.status, host, Arc::clone(&self.meter));
        let body = body.coded(coding).traced(span);
        Ok(UpstreamReply::new(request, head, body, is_body_sent))
    }

    /// The request as it is sent.
    fn message(
        &self,
        request: &UpstreamRequest,
        body: ReplyBody,
        authorization: Option<&HeaderValue>,
    ) -> Result<http::Request<ReplyBody>, UpstreamError> {
        // The fault would show the URL, whose query may be a secret.
        let uri = request.uri().ok_or_else(|| {
            self.unreachable(&request.url, "its URL cannot be written in a request".to_owned())
        })?;
        let mut message = http::Request::new(body);
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = uri;
        let headers = message.headers_mut();
        headers.clone_from(&request.headers);
        headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        headers.insert(USER_AGENT, AGENT);
        Ok(message)
    }

    /// Notes that `request` is under way to `host`, if it may be sent now.
    fn begin(
        &self,
        request: &UpstreamRequest,
        host: &str,
    ) -> Result<GuardedCall<'_>, UpstreamError> {
        Ok(GuardedCall {
            backoff: self.backoff_of(request).enter(host, request.class, request.client())?,
            breaker: match (request.purpose, UrlScheme::of(&request.url)) {
                (CallPurpose::Probe, scheme) => self.breaker.enter_idle(host, scheme),
                (_, scheme) => self.breaker.enter(host, scheme)?,
            },
            in_flight: self.meter.begin(request.class),
        })
    }

    /// The error that it is when no answer came to a request.
    fn fault(
        &self,
        request: &UpstreamRequest,
        call: GuardedCall<'_>,
        timer: Option<&UploadStallTimer>,
        error: SendError,
    ) -> UpstreamError {
        let purpose = request.purpose;
        match error {
            SendError::NotPublic(target) => {
                call.in_flight.failed(CallOutcome::Forbidden);
                let target = format!("{}://{target}", request.url.scheme());
                let reason = purpose.refusal().to_owned();
                UpstreamError::Forbidden { host: self.host.clone(), target, reason }
            }
            // The host has done nothing wrong.
            SendError::Failed { reason, .. } if timer.is_some_and(UploadStallTimer::is_broken) => {
                UpstreamError::Interrupted { host: host_of(&request.url), reason }
            }
            SendError::Malformed(reason) => {
                let mistake = UpstreamMistake::in_malformed(request, &reason);
                self.tell(mistake, &host_of(&request.url), &reason);
                call.in_flight.failed(CallOutcome::Unreachable);
                call.breaker.answered();
                self.unreachable(&request.url, reason)
            }
            SendError::Failed { reason, mismatch } => {
                let mistake = mismatch.map(UpstreamMistake::in_sending);
                self.tell(mistake, &host_of(&request.url), &reason);
                call.failed(CallOutcome::Unreachable, &reason);
                self.unreachable(&request.url, reason)
            }
        }
    }

    /// The span of `request`, of which `message` tells if the upstream may know.
    fn span<B>(&self, request: &UpstreamRequest, message: &mut http::Request<B>) -> CallSpan {
        let span = CallSpan::begin(|| CallNames {
            method: request.method.clone(),
            url: request.url.clone(),
            object: request.class.object(),
            purpose: request.purpose.as_str(),
        });
        if self.clients.tells_traces && self.is_own(request) {
            span.write_context(message.headers_mut());
        }
        span
    }

    fn is_own(&self, request: &UpstreamRequest) -> bool {
        request.url.origin() == self.base.url().origin()
    }

    /// Layers get a connection of their own, a new one most of the time, which costs two round
    /// trips; a registry that only says where its layers are is asked without. A body at its
    /// sender's pace shares no connection either.
    fn lane(&self, request: &UpstreamRequest, timer: Option<&UploadStallTimer>) -> ConnectionLane {
        let is_redirected = request.purpose == CallPurpose::Registry
            && self.redirects_blobs.load(Ordering::Relaxed);
        if timer.is_some() || (request.is_blob_get() && !is_redirected) {
            ConnectionLane::Own
        } else {
            ConnectionLane::Shared
        }
    }

    fn note_redirect(&self, request: &UpstreamRequest, status: StatusCode) {
        if request.purpose == CallPurpose::Registry && request.is_blob_get() {
            self.redirects_blobs.store(status.is_redirection(), Ordering::Relaxed);
        }
    }

    /// Whether `request` would be sent now: not to a host that limits us, nor to one that is down.
    pub(super) fn check(&self, request: &UpstreamRequest) -> Result<(), UpstreamError> {
        let host = host_of(&request.url);
        self.backoff_of(request).check(&host, request.class, request.client())?;
        self.breaker.check(&host)
    }

    /// Whether nothing is sent to this host because it did not answer.
    pub(super) fn is_open(&self, host: &str) -> bool {
        self.breaker.is_open(host)
    }

    /// Whether the breaker of a host is open as it was when it opened then.
    pub(super) fn is_open_since(&self, opened: &OpenedHost) -> bool {
        self.breaker.is_open_since(opened)
    }

    /// The hosts that did not answer, each with its last fault.
    pub(super) fn open_hosts(&self) -> Vec<(String, String)> {
        self.breaker.open_hosts()
    }

    fn backoff_of(&self, request: &UpstreamRequest) -> &BackoffTable {
        match request.purpose {
            CallPurpose::Redirect => &self.storage_backoff,
            CallPurpose::Probe | CallPurpose::Registry | CallPurpose::Token => &self.backoff,
        }
    }

    /// How many limits of this login are respected now.
    pub(super) fn limits_held(&self) -> usize {
        self.backoff.held()
    }

    /// How many limits of storage are respected now, whichever login leads there.
    pub(super) fn storage_limits_held(&self) -> usize {
        self.storage_backoff.held()
    }

    /// The allowance that the upstream stated last for this login.
    pub(super) fn allowance(&self) -> Option<RateAllowance> {
        self.budget.stated()
    }

    /// How much is left of the allowance that the upstream states.
    pub(super) fn budget(&self) -> RateBudget {
        self.budget.left()
    }

    /// Notes what an answer says of the allowance, and tells the operator of a mistake in it.
    fn note_answer<B>(&self, request: &UpstreamRequest, response: &Response<B>, host: &str) {
        let (status, headers) = (response.status(), response.headers());
        let is_larders = self.is_own(request) && request.client().is_none();
        if let Some(allowance) = limit::allowance(headers).filter(|_| is_larders) {
            self.budget.note(allowance, host);
        }
        self.tell(UpstreamMistake::in_answer(request, status, headers), host, status.as_str());
    }

    /// Tells the operator of a mistake that shows in dealing with `host`, once.
    pub(super) fn tell(&self, mistake: Option<UpstreamMistake>, host: &str, seen: &str) {
        if let Some(mistake) = mistake {
            self.told.tell(mistake, self.base.url(), host, seen);
        }
    }

    fn unreachable(&self, url: &Url, reason: String) -> UpstreamError {
        let host = if url == self.base.url() { self.host.clone() } else { host_of(url) };
        UpstreamError::Unreachable { host, reason }
    }
}

/// Ends when the head of the answer is overdue; tells after how long.
async fn too_slow(request: &UpstreamRequest, timer: Option<&UploadStallTimer>) -> Duration {
    if let Some(timer) = timer {
        return timer.stalled().await;
    }
    let wait = if request.is_change() { CHANGE_WAIT } else { HEAD_WAIT };
    tokio::time::sleep(wait).await;
    wait
}
