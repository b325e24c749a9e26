//! Opens connections, and only to addresses that may be dialled.
//!
//! The check stands here, between name lookup and dialling, and nowhere above: a check of the
//! URL would be blind to what a name resolves to, and a check of an earlier lookup to what it
//! resolves to now. The addresses that pass are the very ones that are dialled.
//!
//! Which hosts are exempt is told at construction and belongs to the host and port, so pooled
//! connections need no second check: a pool never serves one authority with another's connection.
//!
//! # What this does not do
//!
//! It speaks no TLS (that is wrapped around it), follows nothing, and does not bound the time of
//! a handshake; whoever sends a request does.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use http::Uri;
use hyper_util::client::legacy::connect;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service;
use url::{Host, Url};

use super::{Connection, HostPort, Network, is_public};

/// How long a name lookup may take. Resolvers ask a second server after 5 s; by then the client
/// behind us has lost patience.
const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// How long one address may take to accept.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How long an address is waited for before the next is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Opens connections for a client, by URL.
#[derive(Clone)]
pub struct Connector {
    network: Arc<dyn Network>,
    exempt: Arc<[HostPort]>,
}

impl Connector {
    /// A connector that dials `exempt` hosts at any address, and others at public ones only.
    pub fn new(network: Arc<dyn Network>, exempt: Vec<HostPort>) -> Self {
        Self { network, exempt: exempt.into() }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Connection>, ConnectError> {
        let url = Url::parse(&uri.to_string()).map_err(|_| ConnectError::NoHost)?;
        let target = HostPort::of(&url).ok_or(ConnectError::NoHost)?;
        let found = self.addresses(&target).await.map_err(ConnectError::Lookup)?;
        if found.is_empty() {
            return Err(ConnectError::Lookup(io::Error::other("the name has no address")));
        }
        let is_exempt = self.exempt.iter().any(|entry| entry.covers(&target));
        let allowed: Vec<_> =
            found.into_iter().filter(|address| is_exempt || is_public(address.ip())).collect();
        if allowed.is_empty() {
            return Err(ConnectError::NotPublic(target));
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
async fn dial(network: &Arc<dyn Network>, addresses: Vec<SocketAddr>) -> io::Result<Connection> {
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
    type Response = TokioIo<Connection>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl connect::Connection for Connection {
    fn connected(&self) -> connect::Connected {
        connect::Connected::new()
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
