//! The way to other machines, injected so that tests stay on this one.
//!
//! Looking a name up and connecting to an address are two steps on purpose: the address that was
//! checked is the address that is dialled, so a name that resolves differently the second time
//! gains nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use super::outgoing::OutgoingSocket;

/// Resolves names and opens connections.
pub trait Network: fmt::Debug + Send + Sync {
    /// The addresses of `host`, which is a name or an address literal without brackets.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>>;

    /// Opens a connection to exactly this address.
    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, NetworkConnection>;
}

/// An operation of a [`Network`] under way.
pub type NetworkFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// An open connection.
pub type NetworkConnection = Box<dyn DuplexStream>;

/// Bytes in both directions.
pub trait DuplexStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> DuplexStream for T {}

/// The machine's resolver and TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
        Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, NetworkConnection> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(OutgoingSocket::new(stream)) as NetworkConnection)
        })
    }
}
