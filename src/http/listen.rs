//! Accepting connections, and stopping to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ClientSocket, ConnectionPermit, ConnectionQuota};

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

    /// Listens through a socket that is listening already, and does not block.
    pub(super) fn of(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::from_std(listener)? })
    }

    /// The address that it listens on, with the real port if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until `stop` is cancelled, and serves each connection in a task of `tasks`, once
    /// `admit` has given it a place. Those without one are closed, which costs least.
    pub async fn accept<F>(
        self,
        admission: &impl ConnectionAdmission,
        serve: impl Fn(ClientSocket, IpAddr, ConnectionPermit) -> F,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let place = tokio::select! {
                biased;
                // An accepted connection for which there is a place is not dropped by a stop.
                place = admitted(accepted, admission) => place,
                () = stop.cancelled() => return,
            };
            if let Some((stream, client, permit)) = place {
                tasks.spawn(serve(ClientSocket::new(stream), client, permit));
            }
        }
    }
}

/// Finds a place for a connection, if one was accepted.
async fn admitted(
    accepted: io::Result<(TcpStream, SocketAddr)>,
    admission: &impl ConnectionAdmission,
) -> Option<(TcpStream, IpAddr, ConnectionPermit)> {
    match accepted {
        Ok((stream, peer)) => {
            // Without it small answers wait for more that never comes.
            stream.set_nodelay(true).ok()?;
            let permit = admission.admit(peer.ip()).await?;
            Some((stream, peer.ip(), permit))
        }
        Err(error) => {
            // Out of descriptors, most likely: trying again at once would only burn a core.
            tracing::warn!(%error, "cannot accept a connection");
            admission.quota().make_room(None);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Gives places to the connections of an address.
pub trait ConnectionAdmission {
    /// The connections that there are.
    fn quota(&self) -> &ConnectionQuota;

    /// A place for a connection from `client`, if it may have one.
    fn admit(&self, client: IpAddr) -> impl Future<Output = Option<ConnectionPermit>> + Send;
}

/// Connections that wait to be accepted; the kernel has a bound of its own (`somaxconn`).
const BACKLOG: u32 = 1024;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
