//! A pooled HTTP client over the checked connector.
//!
//! One request, one response: it follows nothing, retries nothing but a pooled connection that
//! turned out to be closed, and bounds no time.
//!
//! There are two lanes. Small things share a connection where the host speaks HTTP/2, and need no
//! new one each; bodies that may be long have one for themselves, over HTTP/1.1, so that none
//! shares another's window (docs/decisions/0008). A host that speaks HTTP/2 alone gets it for both.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use http::header::PROXY_AUTHORIZATION;
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage};

use super::cause::{chain, root_cause};
use super::connect::InTime;
use super::connection_limit::dialling;
use super::{ConnectError, Connector, EgressRoute, HostPort, ProxyTable, ReplyBody};

/// The largest read from a connection, which is also the most that an answer's head may take.
/// hyper starts at 8 KiB and doubles while reads fill the buffer, so only busy downloads hold it.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The most header lines in an answer. Gateways that trace requests send hundreds, and Go's clients
/// take as many as fit into [`READ_BUFFER_BYTES`] several times.
const HEADERS_MAX: usize = 1000;

/// The most bytes of header lines in an answer over HTTP/2, where each counts 32 more.
const HEADERS_BYTES_MAX: u32 = 64 * 1024;

/// The largest window that there can be (RFC 9113, 6.9.1).
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// How long an idle connection is kept: shorter than the 60 s after which common servers and
/// load balancers close one, so that a reused connection is rarely one just closed.
const IDLE_WAIT: Duration = Duration::from_secs(20);

/// The window of one HTTP/2 stream, in bytes: 100 MB/s at 20 ms.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// When a silent HTTP/2 connection is asked for a sign of life, and how long that may take.
/// Together less than any request waits for a head: a dead connection would be taken for every
/// further request.
const SIGN_OF_LIFE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(5)];

/// How many hosts are remembered to speak HTTP/2: an upstream and where it points are two or three.
const HTTP2_HOSTS_MAX: usize = 16;

/// Sends requests, and pools the connections.
#[derive(Clone)]
pub struct HttpClient {
    own: PooledClient,
    shared: PooledClient,
    proxies: ProxyTable,
    /// Hosts that speak HTTP/2 if they are asked to, those heard of last.
    http2: HostClients,
    /// Those of them that say that they speak nothing else.
    only_http2: HostClients,
}

type PooledClient = legacy::Client<InTime<HttpsConnector<Connector>>, ReplyBody>;

type HostClients = Arc<Mutex<VecDeque<Authority>>>;

/// Whether a request shares its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLane {
    /// It has one for itself as long as its response lasts: HTTP/1.1, unless the host speaks HTTP/2
    /// alone.
    Own,
    /// It shares one with others, if the host speaks HTTP/2.
    Shared,
}

impl HttpClient {
    /// A client that dials `exempt` hosts at any address, and others at public ones only. In either
    /// lane up to `connections_max` connections to a host are open, at work or kept for later.
    pub fn new(
        egress: &EgressRoute,
        exempt: &[HostPort],
        tls: &ClientConfig,
        connections_max: usize,
    ) -> Self {
        // No stream may use up what another needs, also if its reader has stopped reading.
        let streams = u32::try_from(connections_max).unwrap_or(u32::MAX);
        let window = streams.saturating_mul(STREAM_WINDOW_BYTES);
        let inner = |protocols: &[&[u8]]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            let [interval, patience] = SIGN_OF_LIFE;
            // Each lane has room of its own: what is idle in one is of no use to the other.
            let connector = Connector::new(egress, exempt.to_vec(), connections_max);
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_WAIT)
                .pool_max_idle_per_host(connections_max)
                .retry_canceled_requests(true)
                .http1_max_buf_size(READ_BUFFER_BYTES)
                .http1_max_headers(HEADERS_MAX)
                // A line that goes on in the next (RFC 9112, 5.2), which Go's clients read.
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .http2_max_header_list_size(HEADERS_BYTES_MAX)
                .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
                .http2_initial_connection_window_size(window.min(WINDOW_BYTES_MAX))
                .http2_keep_alive_interval(interval)
                .http2_keep_alive_timeout(patience)
                .build(InTime(HttpsConnector::from((connector, tls))))
        };
        let (own, shared) = (inner(&[b"http/1.1"]), inner(&[b"h2", b"http/1.1"]));
        let (http2, only_http2) = (HostClients::default(), HostClients::default());
        Self { own, shared, proxies: egress.proxies.clone(), http2, only_http2 }
    }

    /// Sends `request` and waits for the head of the final response, which may come before all of
    /// the body is sent. The body is not touched before there is a connection.
    pub async fn send(
        &self,
        mut request: Request<ReplyBody>,
        lane: ConnectionLane,
    ) -> Result<Response<Incoming>, SendError> {
        // In a tunnel the upstream would read what is for the proxy.
        let is_plain = request.uri().scheme() == Some(&Scheme::HTTP);
        let reader = self.proxies.on_the_way_to(request.uri()).filter(|_| is_plain);
        if let Some(credential) = reader.as_ref().and_then(|proxy| proxy.credential.clone()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credential);
        }
        let sent = match lane {
            ConnectionLane::Own if !is_among(&self.only_http2, request.uri()) => {
                let (uri, again) = (request.uri().clone(), once_more(&request));
                match dialling(self.own.request(request)).await {
                    Err(error) if self.is_without_http1(&uri, &error) => match again {
                        Some(request) => self.share(request).await,
                        None => Err(error),
                    },
                    sent => sent,
                }
            }
            ConnectionLane::Own | ConnectionLane::Shared => self.share(request).await,
        };
        let response = sent.map_err(|error| SendError::of(&error))?;
        match reader {
            Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let reason = format!("the proxy {} wants a login, or another one", proxy.address);
                Err(SendError::Failed { reason, mismatch: None })
            }
            _ => Ok(response),
        }
    }

    async fn share(
        &self,
        request: Request<ReplyBody>,
    ) -> Result<Response<Incoming>, legacy::Error> {
        let host = request.uri().authority().cloned();
        let response = dialling(self.shared.request(request)).await?;
        if response.version() == Version::HTTP_2 {
            remember(&self.http2, host.as_ref());
        }
        Ok(response)
    }

    /// Whether a host may speak HTTP/2 alone. It should say so in the handshake (RFC 7301, 3.2).
    /// Many do not mind what was offered, and then find fault with what is not a frame.
    fn is_without_http1(&self, uri: &Uri, error: &legacy::Error) -> bool {
        let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
        if chain(error).filter_map(tls_error).any(|error| *error == alert) {
            // A body that can be sent only once has failed now; the next try of its sender will
            // not.
            remember(&self.only_http2, uri.authority());
            return true;
        }
        !error.is_connect() && is_among(&self.http2, uri)
    }
}

fn is_among(hosts: &HostClients, uri: &Uri) -> bool {
    let hosts = hosts.lock();
    uri.authority().is_some_and(|host| hosts.contains(host))
}

fn remember(hosts: &HostClients, host: Option<&Authority>) {
    let mut hosts = hosts.lock();
    if let Some(host) = host.filter(|host| !hosts.contains(host)) {
        hosts.truncate(HTTP2_HOSTS_MAX - 1);
        hosts.push_front(host.clone());
    }
}

/// The same request, unless its body is one that comes but once.
fn once_more(request: &Request<ReplyBody>) -> Option<Request<ReplyBody>> {
    let mut again = Request::new(request.body().again()?);
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    Some(again)
}

/// An I/O error has what it was made of beside its sources, not among them, and so has the one that
/// is made of it.
fn tls_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
    inner.downcast_ref().or_else(|| tls_error(inner))
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Connecting, the handshake or the exchange failed.
    #[error("{reason}")]
    Failed {
        /// The innermost cause.
        reason: String,
        /// Why no other try will end differently, if that is known.
        mismatch: Option<SendMismatch>,
    },
    /// The head of the response is no HTTP, or is too long. The host is there.
    #[error("{0}")]
    Malformed(String),
    /// The host has no address that may be dialled. Nothing was sent.
    #[error("{0} has no public address")]
    NotPublic(HostPort),
}

/// The two ends do not understand or trust each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMismatch {
    /// The answer to the beginning of a TLS handshake was none.
    NoTls,
    /// The certificate is of a CA that is not trusted.
    UnknownCa,
}

impl SendMismatch {
    fn of(error: &legacy::Error) -> Option<Self> {
        chain(error).find_map(|cause| match tls_error(cause)? {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(Self::NoTls),
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => Some(Self::UnknownCa),
            _ => None,
        })
    }
}

impl SendError {
    /// The connector's error comes boxed, below the errors of TLS and pool.
    fn of(error: &legacy::Error) -> Self {
        let refused = chain(error).find_map(|cause| match cause.downcast_ref() {
            Some(ConnectError::NotPublic(target)) => Some(target.clone()),
            _ => None,
        });
        let is_malformed = chain(error)
            .filter_map(|cause| cause.downcast_ref())
            .any(|cause: &hyper::Error| cause.is_parse());
        let reason = root_cause(error);
        match refused {
            Some(target) => Self::NotPublic(target),
            None if is_malformed => Self::Malformed(reason),
            None => Self::Failed { reason, mismatch: SendMismatch::of(error) },
        }
    }
}
