//! One request to one host, and its response's head.
//!
//! Everything that leaves for the network passes here: it adds what every request carries,
//! bounds the wait for the head, leaves alone whoever limits us or does not answer, and gives
//! faults their names. It follows nothing, logs in nowhere and tries nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use url::Url;

use super::backoff::{BackoffTable, LimitClass};
use super::breaker::CircuitBreaker;
use super::limit;
use super::meter::{CallOutcome, UpstreamMeter};
use super::outgoing::UploadStallTimer;
use super::{CredentialId, UpstreamError};
use crate::http::{ConnectionLane, HttpClient, Incoming, InstanceId, ReplyBody, SendError};

/// How long a host may take to send a response's head, connecting included. Clients give up at
/// 30 s; this leaves time for a second try.
pub(super) const HEAD_WAIT: Duration = Duration::from_secs(15);

/// The same for a change whose body is at hand. Registries check every layer that a manifest names
/// before they answer.
const CHANGE_WAIT: Duration = Duration::from_secs(60);

/// How long a push waits for its turn: as long as everything before an answer's head.
const PERMIT_WAIT: Duration = Duration::from_secs(25);

/// One in so many requests at once may be a push, rounded up.
const PUSH_SHARE: usize = 2;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("larder/", env!("CARGO_PKG_VERSION")));

/// Compressed on the way, bytes would not match their digest.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The way to one upstream, and to where it points.
pub(super) struct UpstreamTransport {
    /// The upstream.
    pub(super) url: Url,
    /// What messages call it.
    pub(super) host: String,
    /// Who we are.
    pub(super) instance: InstanceId,
    /// Where it is counted what is sent and what comes.
    pub(super) meter: Arc<UpstreamMeter>,
    clients: TransportClients,
    permits: Arc<Semaphore>,
    /// Fewer than `permits`: clients decide how long a push takes.
    pushes: Arc<Semaphore>,
    backoff: BackoffTable,
    breaker: CircuitBreaker,
    /// Whether it has redirected when it was last asked for a blob.
    redirects_blobs: AtomicBool,
}

/// Connections, apart by what they show: the certificate is for the upstream's own origin, and for
/// no token server or storage elsewhere.
pub(super) struct TransportClients {
    /// To the upstream.
    pub(super) own: HttpClient,
    /// To wherever it points.
    pub(super) others: HttpClient,
}

/// A response, and whether it limits us.
pub(super) struct ExchangedResponse {
    pub(super) response: Response<Incoming>,
    /// For how long nothing of its kind will be sent.
    pub(super) limit: Option<Duration>,
}

/// Why a host is called, and so which key of the configuration would exempt it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallPurpose {
    /// A redirect pointed there.
    Redirect,
    /// It is the upstream.
    Registry,
    /// It issues tokens.
    Token,
}

/// Why a host is called, as what registries count it, and for which client; `None` for Larder itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallKind {
    pub(super) purpose: CallPurpose,
    pub(super) class: LimitClass,
    pub(super) who: Option<CredentialId>,
}

impl UpstreamTransport {
    /// A way to `url` that has room for `connections_max` requests at once.
    pub(super) fn new(
        url: Url,
        clients: TransportClients,
        instance: InstanceId,
        connections_max: usize,
        meter: Arc<UpstreamMeter>,
    ) -> Self {
        let permits = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let host = host_of(&url);
        let pushes = Arc::new(Semaphore::new(permits.div_ceil(PUSH_SHARE)));
        let permits = Arc::new(Semaphore::new(permits));
        let (backoff, breaker) = (BackoffTable::default(), CircuitBreaker::default());
        let redirects_blobs = AtomicBool::new(false);
        Self {
            url,
            host,
            instance,
            meter,
            clients,
            permits,
            pushes,
            backoff,
            breaker,
            redirects_blobs,
        }
    }

    /// Waits, first come first served, until the upstream has room for one more request.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, UpstreamError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(|closed| self.unreachable(&self.url, closed.to_string()))
    }

    /// The same for a push, of which fewer go on at once.
    pub(super) async fn push_permits(&self) -> Result<[OwnedSemaphorePermit; 2], UpstreamError> {
        let waited = timeout(PERMIT_WAIT, async {
            let push = Arc::clone(&self.pushes).acquire_owned().await;
            let push = push.map_err(|closed| self.unreachable(&self.url, closed.to_string()))?;
            Ok([push, self.permit().await?])
        });
        let host = self.host.clone();
        waited.await.unwrap_or(Err(UpstreamError::Stalled { host, waited: PERMIT_WAIT }))
    }

    /// Sends one request without a body.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        reason: CallKind,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let request = (method, url, headers, ReplyBody::empty());
        let exchanged = self.exchange(request, reason, None).await?;
        match exchanged.limit {
            Some(wait) => Err(UpstreamError::Throttled { host: host_of(url), wait: Some(wait) }),
            None => Ok(exchanged.response),
        }
    }

    fn uri_of(&self, url: &Url) -> Result<Uri, UpstreamError> {
        // The fault would show the URL, whose query may be a secret.
        url.as_str()
            .parse()
            .map_err(|_| self.unreachable(url, "its URL cannot be written in a request".to_owned()))
    }

    /// Sends one request. With a body that comes as a stream, `watch` decides what takes too long.
    pub(super) async fn exchange(
        &self,
        (method, url, mut headers, body): (&Method, &Url, HeaderMap, ReplyBody),
        CallKind { purpose, class, who }: CallKind,
        watch: Option<&UploadStallTimer>,
    ) -> Result<ExchangedResponse, UpstreamError> {
        let host = host_of(url);
        let turn = self.backoff.enter(&host, class, who)?;
        let pass = self.breaker.enter(&host)?;
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        headers.insert(USER_AGENT, AGENT);
        let is_own = url.origin() == self.url.origin();
        let client = if is_own { &self.clients.own } else { &self.clients.others };
        let uri = self.uri_of(url)?;
        let mut request = http::Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        // A body that its sender decides the pace of shares no connection either.
        let lane =
            if watch.is_some() { ConnectionLane::Own } else { self.lane(method, (purpose, class)) };
        let patience = if class == LimitClass::Push { CHANGE_WAIT } else { HEAD_WAIT };
        let too_slow = async {
            if let Some(watch) = watch {
                watch.stalled().await
            } else {
                tokio::time::sleep(patience).await;
                patience
            }
        };
        let asking = self.meter.begin(class, is_own);
        let sent = tokio::select! {
            biased;
            sent = client.send(request, lane) => sent,
            waited = too_slow => {
                asking.failed(CallOutcome::Stalled);
                pass.failed(&format!("it sent nothing for {} s", waited.as_secs()));
                return Err(UpstreamError::Stalled { host, waited });
            }
        };
        match sent {
            Ok(response) if limit::is_limit(response.status(), response.headers()) => {
                asking.limited(response.headers());
                pass.answered();
                let limit = Some(turn.refused(limit::retry_after(response.headers())));
                Ok(ExchangedResponse { response, limit })
            }
            Ok(response) => {
                asking.answered(response.status(), response.headers());
                turn.answered();
                if purpose == CallPurpose::Registry && is_blob(method, class) {
                    let is_redirect = response.status().is_redirection();
                    self.redirects_blobs.store(is_redirect, Ordering::Relaxed);
                }
                match response.status() {
                    status if is_of_a_gateway(status) => pass.failed(status.as_str()),
                    _ => pass.answered(),
                }
                Ok(ExchangedResponse { response, limit: None })
            }
            Err(SendError::NotPublic(target)) => {
                asking.failed(CallOutcome::Forbidden);
                let (host, target) = (self.host.clone(), format!("{}://{target}", url.scheme()));
                Err(UpstreamError::Forbidden { host, target, reason: purpose.refusal().to_owned() })
            }
            // The host has done nothing wrong.
            Err(SendError::Failed(reason)) if watch.is_some_and(UploadStallTimer::is_broken) => {
                Err(UpstreamError::Interrupted { host, reason })
            }
            Err(SendError::Failed(reason)) => {
                asking.failed(CallOutcome::Unreachable);
                pass.failed(&reason);
                Err(self.unreachable(url, reason))
            }
        }
    }

    /// Layers want a connection of their own. That is a new one, most of the time, which costs two
    /// round trips; a registry that only says where its layers are is asked without.
    fn lane(&self, method: &Method, (purpose, class): (CallPurpose, LimitClass)) -> ConnectionLane {
        let is_pointed =
            purpose == CallPurpose::Registry && self.redirects_blobs.load(Ordering::Relaxed);
        if is_blob(method, class) && !is_pointed {
            ConnectionLane::Own
        } else {
            ConnectionLane::Shared
        }
    }

    /// Whether a request would be sent now: not to one who limits us, nor to one who is down.
    pub(super) fn check(
        &self,
        url: &Url,
        class: LimitClass,
        who: Option<CredentialId>,
    ) -> Result<(), UpstreamError> {
        let host = host_of(url);
        self.backoff.check(&host, class, who)?;
        self.breaker.check(&host)
    }

    /// Whether nothing is sent to this host because it did not answer.
    pub(super) fn is_open(&self, host: &str) -> bool {
        self.breaker.is_open(host)
    }

    /// The hosts that did not answer, each with its last fault.
    pub(super) fn open_hosts(&self) -> Vec<(String, String)> {
        self.breaker.open_hosts()
    }

    /// How many limits are respected now.
    pub(super) fn limits_held(&self) -> usize {
        self.backoff.held()
    }

    fn unreachable(&self, url: &Url, reason: String) -> UpstreamError {
        let host = if *url == self.url { self.host.clone() } else { host_of(url) };
        UpstreamError::Unreachable { host, reason }
    }
}

fn is_blob(method: &Method, class: LimitClass) -> bool {
    *method == Method::GET && class == LimitClass::Blob
}

/// Whether this is what a gateway says whose registry is down.
fn is_of_a_gateway(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

impl CallPurpose {
    fn refusal(self) -> &'static str {
        match self {
            Self::Redirect => "its address is not public; `redirect_hosts` would allow it",
            Self::Registry => "its address is not public",
            Self::Token => "its address is not public; `token_hosts` would allow it",
        }
    }
}

/// Host, and port if the URL writes one: what messages call the place.
pub(super) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

/// Scheme, host and port: all of a URL that may be shown.
pub(super) fn origin_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), host_of(url))
}
