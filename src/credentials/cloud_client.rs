//! Calls to the services that issue credentials.
//!
//! They go the way of all requests (certificates, egress proxy, address rules, time-outs), except
//! for the services of this machine: a metadata service has a link-local address, which no proxy
//! leads to. A service that the operator or the cloud's own naming names may have a private address
//! (VPC endpoints do), any other host only a public one. Without TLS nothing but these is called.
//! No redirect is followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;
use url::{Host, Url};

use super::error::CredentialError;
use crate::clock::WallClock;
use crate::http::{
    ConnectionLane, EgressRoute, HostPort, HttpClient, ProxyTable, ReplyBody, TrustError,
    client_config,
};

/// How long one call may take. A source makes up to four, and has 20 s for all of them.
const CALL_WAIT: Duration = Duration::from_secs(8);

/// The longest answer, in bytes. A token has up to 16 KiB.
const ANSWER_LEN_MAX: usize = 256 * 1024;

/// The most connections to one service: sources share no client.
const CONNECTIONS_MAX: usize = 4;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("larder/", env!("CARGO_PKG_VERSION")));

/// The way of a source to its services, as its upstream's options describe it.
#[derive(Clone, Copy)]
pub struct CredentialRoute<'a> {
    /// The network, the proxies and the clock.
    pub egress: &'a EgressRoute,
    /// PEM certificates to trust beside the platform's.
    pub ca_pem: Option<&'a [u8]>,
    /// The URL of the upstream.
    pub registry: &'a Url,
    /// Whether the upstream's address, too, has to be public.
    pub must_be_public: bool,
}

impl CredentialRoute<'_> {
    /// The upstream, if it may have any address.
    pub(super) fn exempt_registry(&self) -> Option<HostPort> {
        HostPort::of(self.registry).filter(|_| !self.must_be_public)
    }
}

/// The hosts that may be called though their address is not public.
#[derive(Default)]
pub(super) struct ServiceHosts {
    /// Those of this machine, which are called without a proxy, and without TLS.
    pub(super) local: Vec<HostPort>,
    /// Those of the cloud, or of the configuration.
    pub(super) remote: Vec<HostPort>,
}

/// Calls the services of one source.
pub(super) struct CloudClient {
    hosts: ServiceHosts,
    local: HttpClient,
    remote: HttpClient,
    /// The time of day, by which credentials end.
    pub(super) clock: Arc<dyn WallClock>,
}

impl CloudClient {
    /// A client for `hosts`.
    ///
    /// # Errors
    ///
    /// If the certificates of `route` are unusable.
    pub(super) fn new(route: CredentialRoute<'_>, hosts: ServiceHosts) -> Result<Self, TrustError> {
        let tls = client_config(route.ca_pem, None, false)?;
        let direct = EgressRoute { proxies: ProxyTable::default(), ..route.egress.clone() };
        Ok(Self {
            local: HttpClient::new(&direct, &hosts.local, &tls, CONNECTIONS_MAX),
            remote: HttpClient::new(route.egress, &hosts.remote, &tls, CONNECTIONS_MAX),
            hosts,
            clock: Arc::clone(&route.egress.clock),
        })
    }

    /// Sends a request and waits for the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// If the host may not be called, or gives no answer of a bounded length in time. The text
    /// names the host, and nothing else of the request.
    pub(super) async fn send(
        &self,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, CredentialError> {
        let target = Url::parse(&request.uri().to_string()).ok();
        let target = target.as_ref().and_then(HostPort::of);
        let target = target.ok_or_else(|| CredentialError::new("its service has no URL"))?;
        let client = self.client_for(&target, request.uri().scheme_str() == Some("https"))?;
        for (_, value) in request.headers_mut().iter_mut() {
            value.set_sensitive(true);
        }
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        request.headers_mut().insert(USER_AGENT, AGENT);
        let failed = |reason: &str| CredentialError::new(format!("{target}: {reason}"));
        let answered = timeout(CALL_WAIT, async {
            let request = request.map(ReplyBody::full);
            // Some services mind a `Host` beside HTTP/2's authority, and it may be signed.
            let response = client.send(request, ConnectionLane::Own).await;
            let (head, body) = response.map_err(|error| failed(&error.to_string()))?.into_parts();
            let body = Limited::new(body, ANSWER_LEN_MAX).collect().await;
            let body = body.map_err(|_| failed("its answer broke off, or is too long"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        });
        let in_vain = format!("it did not answer within {} s", CALL_WAIT.as_secs());
        answered.await.unwrap_or_else(|_| Err(failed(&in_vain)))
    }

    /// The client that may call `target`.
    fn client_for(
        &self,
        target: &HostPort,
        is_secure: bool,
    ) -> Result<&HttpClient, CredentialError> {
        let covers = |hosts: &[HostPort]| hosts.iter().any(|host| host.covers(target));
        if covers(&self.hosts.local) {
            Ok(&self.local)
        } else if is_secure || covers(&self.hosts.remote) {
            Ok(&self.remote)
        } else {
            Err(CredentialError::new(format!("{target} may not be called without TLS")))
        }
    }
}

/// Whether `host` is this machine by its very name.
pub(super) fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}
