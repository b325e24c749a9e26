//! Accepting connections, and stopping to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ClientSocket;

/// A bound address.
#[derive(Debug)]
pub struct BoundListener {
    listener: TcpListener,
}

impl BoundListener {
    /// Binds. `[::]` takes connections over IPv4 as well, whatever the machine's default is.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        }
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(BACKLOG)? })
    }

    /// The address that it listens on, with the real port if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until `stop` is cancelled, and serves each connection in a task of `tasks`.
    pub async fn accept<F>(
        self,
        serve: impl Fn(ClientSocket, IpAddr) -> F,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.next(&places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let serving = serve(ClientSocket::new(stream), peer.ip());
            tasks.spawn(async move {
                serving.await;
                drop(place);
            });
        }
    }

    async fn next(
        &self,
        places: &Arc<Semaphore>,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, peer)) => {
                // Without it small answers wait for more that never comes.
                stream.set_nodelay(true).ok()?;
                Some((stream, peer, place))
            }
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only burn a core.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Connections at once on one address; more wait to be accepted. Each costs two descriptors at
/// most while it reads a blob.
const CONNECTIONS_MAX: usize = 16_384;

/// Connections that wait to be accepted; the kernel has a bound of its own (`somaxconn`).
const BACKLOG: u32 = 1024;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
