//! A pooled HTTP/1.1 client over the checked connector.
//!
//! One request, one response: it follows nothing, retries nothing but a pooled connection that
//! turned out to be closed, and bounds no time. HTTP/1.1 only: blobs over HTTP/2 would share
//! one connection's flow-control window.

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, iter};

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::uri::Scheme;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::{ConnectError, Connector, Egress, HostPort, Proxies};

/// The largest read from a connection, which is also the most that an answer's head may take.
/// hyper starts at 8 KiB and doubles while reads fill the buffer, so only busy downloads hold it.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// The most header lines in an answer; hyper's default, written down.
const HEADERS_MAX: usize = 100;

/// How long an idle connection is kept: shorter than the 60 s after which common servers and
/// load balancers close one, so that a reused connection is rarely one just closed.
const IDLE_WAIT: Duration = Duration::from_secs(20);

/// Sends requests without a body, and pools the connections.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<HttpsConnector<Connector>, Empty<Bytes>>,
    proxies: Proxies,
}

impl Client {
    /// A client that dials `exempt` hosts at any address, and others at public ones only.
    pub fn new(egress: &Egress, exempt: Vec<HostPort>, tls: ClientConfig, idle_max: usize) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector::new(egress, exempt));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_WAIT)
            .pool_max_idle_per_host(idle_max)
            .retry_canceled_requests(true)
            .http1_max_buf_size(READ_BUFFER_BYTES)
            .http1_max_headers(HEADERS_MAX)
            .build(connector);
        Self { inner, proxies: egress.proxies.clone() }
    }

    /// Sends `request` and waits for the head of the final response.
    pub async fn send(&self, request: Request<()>) -> Result<Response<Incoming>, SendError> {
        let mut request = request.map(|()| Empty::new());
        // In a tunnel the upstream would read what is for the proxy.
        let is_plain = request.uri().scheme() == Some(&Scheme::HTTP);
        let reader = self.proxies.on_the_way_to(request.uri()).filter(|_| is_plain);
        if let Some(credential) = reader.as_ref().and_then(|proxy| proxy.credential.clone()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credential);
        }
        let sent = self.inner.request(request).await;
        let response = sent.map_err(|error| SendError::of(&error))?;
        match reader {
            Some(proxy) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let reason = format!("the proxy {} wants a login, or another one", proxy.address);
                Err(SendError::Failed(reason))
            }
            _ => Ok(response),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Connecting, the handshake or the exchange failed.
    #[error("{0}")]
    Failed(String),
    /// The host has no address that may be dialled. Nothing was sent.
    #[error("{0} has no public address")]
    NotPublic(HostPort),
}

impl SendError {
    /// The connector's error comes boxed, below the errors of TLS and pool.
    fn of(error: &legacy::Error) -> Self {
        let refused = chain(error).find_map(|cause| match cause.downcast_ref() {
            Some(ConnectError::NotPublic(target)) => Some(target.clone()),
            _ => None,
        });
        refused.map_or_else(|| Self::Failed(root_cause(error)), Self::NotPublic)
    }
}

/// The message of the innermost cause: the ones around it only say who passed it on.
pub(crate) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&cause| cause.source())
}
