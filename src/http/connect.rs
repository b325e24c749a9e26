//! Opens connections, and only to addresses that may be dialled.
//!
//! The check stands here, between name lookup and dialling, and nowhere above: a check of the
//! URL would be blind to what a name resolves to, and a check of an earlier lookup to what it
//! resolves to now. The addresses that pass are the very ones that are dialled.
//!
//! Which hosts are exempt is told at construction and belongs to the host and port, so pooled
//! connections need no second check: a pool never serves one authority with another's connection.
//!
//! A proxy on the way looks the name up itself, often one that is unknown in this network. Then
//! what can be seen of the URL is checked, and the proxy is trusted for the rest. To `https` it
//! gives a tunnel, in which it reads nothing; plain requests are sent to itself.
//!
//! # Out of scope
//!
//! It speaks no TLS and follows nothing. [`InTime`] is put around that which does.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service;
use url::{Host, Url};

use super::address::may_be_public;
use super::connection_limit::ConnectionLimit;
use super::egress::ProxyHop;
use super::{EgressRoute, HostPort, Network, NetworkConnection, ProxyTable, is_public, root_cause};

/// How long a name lookup may take. Resolvers ask a second server after 5 s; by then the client
/// behind us has lost patience.
const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// How long one address may take to accept.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How long an address is waited for before the next is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// How long all of it may take, waiting for room and the handshake of TLS included. The request
/// that waits for it gives up before.
const OPEN_WAIT: Duration = Duration::from_secs(60);

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Opens connections for a client, by URL.
#[derive(Clone)]
pub struct Connector {
    network: Arc<dyn Network>,
    proxies: ProxyTable,
    exempt: Arc<[HostPort]>,
    /// How many connections to a host may be open; `None` for one within another.
    room: Option<ConnectionLimit>,
}

impl Connector {
    /// A connector that dials `exempt` hosts at any address, and others at public ones only, each
    /// up to `connections_max` times at once.
    pub fn new(egress: &EgressRoute, exempt: Vec<HostPort>, connections_max: usize) -> Self {
        let (network, proxies) = (Arc::clone(&egress.network), egress.proxies.clone());
        Self {
            network,
            proxies,
            exempt: exempt.into(),
            room: Some(ConnectionLimit::new(connections_max)),
        }
    }

    async fn connect(self, uri: Uri) -> Result<OpenedConnection, ConnectError> {
        let url = Url::parse(&uri.to_string()).map_err(|_| ConnectError::NoHost)?;
        let target = HostPort::of(&url).ok_or(ConnectError::NoHost)?;
        let permit = match &self.room {
            Some(room) => Some(room.enter(&target).await.map_err(ConnectError::Connect)?),
            None => None,
        };
        let opened = self.open(uri, &target).await?;
        Ok(OpenedConnection { _permit: permit, ..opened })
    }

    async fn open(self, uri: Uri, target: &HostPort) -> Result<OpenedConnection, ConnectError> {
        let is_exempt = self.exempt.iter().any(|entry| entry.covers(target));
        let Some(proxy) = self.proxies.on_the_way_to(&uri) else {
            let io = self.dial(target, is_exempt).await?;
            return Ok(OpenedConnection { io, is_to_proxy: false, _permit: None });
        };
        if !is_exempt && !may_be_public(&target.host) {
            return Err(ConnectError::NotPublic(target.clone()));
        }
        if uri.scheme() == Some(&http::uri::Scheme::HTTPS) {
            return self.tunnel(uri, proxy).await;
        }
        let io = self.dial(&proxy.address, true).await;
        let io = io.map_err(|error| proxy_failed(&proxy, &error.to_string()))?;
        Ok(OpenedConnection { io, is_to_proxy: true, _permit: None })
    }

    /// Has the proxy connect us (`CONNECT`, RFC 9110, 9.3.6). Only it sees its credential.
    async fn tunnel(self, uri: Uri, proxy: ProxyHop) -> Result<OpenedConnection, ConnectError> {
        let exempt = [proxy.address.clone()].into();
        let to_proxy = Self { proxies: ProxyTable::default(), exempt, room: None, ..self };
        let mut tunnel = Tunnel::new(proxy.uri.clone(), to_proxy);
        if let Some(credential) = &proxy.credential {
            tunnel = tunnel.with_auth(credential.clone());
        }
        tunnel.call(uri).await.map_err(|error| {
            let reason = root_cause(&error);
            proxy_failed(&proxy, reason.strip_prefix("tunnel error: ").unwrap_or(&reason))
        })
    }

    async fn dial(
        &self,
        target: &HostPort,
        is_exempt: bool,
    ) -> Result<TokioIo<NetworkConnection>, ConnectError> {
        let found = self.addresses(target).await.map_err(ConnectError::Lookup)?;
        if found.is_empty() {
            return Err(ConnectError::Lookup(io::Error::other("the name has no address")));
        }
        let allowed: Vec<_> =
            found.into_iter().filter(|address| is_exempt || is_public(address.ip())).collect();
        if allowed.is_empty() {
            return Err(ConnectError::NotPublic(target.clone()));
        }
        let connection = dial(&self.network, alternate(allowed)).await;
        connection.map(TokioIo::new).map_err(ConnectError::Connect)
    }

    async fn addresses(&self, target: &HostPort) -> io::Result<Vec<SocketAddr>> {
        let port = target.port.unwrap_or_default();
        let literal = |ip: IpAddr| Ok(vec![SocketAddr::new(ip, port)]);
        match &target.host {
            Host::Ipv4(ip) => literal((*ip).into()),
            Host::Ipv6(ip) => literal((*ip).into()),
            Host::Domain(name) => timeout(LOOKUP_WAIT, self.network.resolve(name, port))
                .await
                .unwrap_or_else(|_| Err(slow("the name lookup took too long"))),
        }
    }
}

/// Tries the addresses in order, each with a head start before the next, until one accepts.
async fn dial(
    network: &Arc<dyn Network>,
    addresses: Vec<SocketAddr>,
) -> io::Result<NetworkConnection> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut fault = io::Error::other("there is no address to connect to");
    loop {
        if let Some(address) = waiting.next() {
            let network = Arc::clone(network);
            attempts.spawn(async move {
                timeout(CONNECT_WAIT, network.connect(address))
                    .await
                    .unwrap_or_else(|_| Err(slow("the connection was not accepted in time")))
            });
        } else if attempts.is_empty() {
            return Err(fault);
        }
        let patience = if waiting.len() == 0 { CONNECT_WAIT } else { HEAD_START };
        match timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok(Ok(connection)))) => return Ok(connection),
            Ok(Some(Ok(Err(error)))) => fault = error,
            Ok(Some(Err(broken))) => fault = io::Error::other(broken),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Address families in turn, beginning with the resolver's favourite: where one family leads
/// nowhere, the other is second and not last.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let favourite_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (favourite, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == favourite_is_v6);
    let rounds = favourite.len().max(other.len());
    (0..rounds)
        .flat_map(|round| [favourite.get(round), other.get(round)])
        .flatten()
        .copied()
        .take(ADDRESSES_MAX)
        .collect()
}

fn slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl Service<Uri> for Connector {
    type Response = OpenedConnection;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Connects in time, handshakes and all, or not at all. The pool lets a dial go on that its request
/// turned out not to need, and nothing else would end it.
#[derive(Clone)]
pub(super) struct InTime<S>(pub(super) S);

impl<S> Service<Uri> for InTime<S>
where
    S: Service<Uri>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let connected = timeout(OPEN_WAIT, connecting).await;
            connected.map_err(|_| slow("the handshake took too long"))?.map_err(Into::into)
        })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn proxy_failed(proxy: &ProxyHop, reason: &str) -> ConnectError {
    ConnectError::Proxy { proxy: proxy.address.clone(), reason: reason.to_owned() }
}

/// An open connection, and whether it is a proxy that reads the requests on it.
pub struct OpenedConnection {
    io: TokioIo<NetworkConnection>,
    is_to_proxy: bool,
    /// Its room, given back with it.
    _permit: Option<OwnedSemaphorePermit>,
}

impl connect::Connection for OpenedConnection {
    fn connected(&self) -> connect::Connected {
        connect::Connected::new().proxy(self.is_to_proxy)
    }
}

impl Read for OpenedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for OpenedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}

impl fmt::Debug for OpenedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedConnection")
            .field("is_to_proxy", &self.is_to_proxy)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("exempt", &self.exempt).finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address accepted; the last one's fault.
    #[error(transparent)]
    Connect(io::Error),
    /// The name could not be resolved.
    #[error(transparent)]
    Lookup(io::Error),
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// The host is not exempt, and none of its addresses is public. Nothing was dialled.
    #[error("{0} has no public address")]
    NotPublic(HostPort),
    /// The proxy on the way cannot be reached, or does not help.
    #[error("the egress proxy {proxy} does not lead there: {reason}")]
    Proxy {
        /// The proxy.
        proxy: HostPort,
        /// The fault.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let read = |text: &str| text.split(' ').map(|a| a.parse().unwrap()).collect::<Vec<_>>();
        let mixed = read("[2a00::1]:1 [2a00::2]:1 [2a00::3]:1 1.1.1.1:1");
        assert_eq!(alternate(mixed), read("[2a00::1]:1 1.1.1.1:1 [2a00::2]:1 [2a00::3]:1"));
        let many: Vec<_> = (0..50).map(|i| SocketAddr::from(([1, 1, 1, i], 1))).collect();
        assert_eq!(alternate(many.clone()), many[..ADDRESSES_MAX]);
        assert_eq!(alternate(Vec::new()), Vec::new());
    }
}
