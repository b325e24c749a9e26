//! The addresses for operators: health and metrics, and the page.
//!
//! They are open before Larder serves and until its process ends, so that probes are told that it
//! starts, or stops. Their connections are not among those that a stop waits for.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use super::accepting::AcceptLoop;
use crate::http::{
    BoundListener, ClientSocket, ConnectionAdmission, ConnectionLoad, ConnectionPermit,
    ConnectionQuota, IdleGuard, Incoming, InheritedListeners, ReplyBody, serve_connection,
};

/// The answer to a request of the operator at an address.
pub(super) type OperatorAnswer =
    Arc<dyn Fn(Request<Incoming>, IpAddr) -> OperatorResponse + Send + Sync>;

/// An answer that is being made.
pub(super) type OperatorResponse = Pin<Box<dyn Future<Output = Response<ReplyBody>> + Send>>;

/// The words of an address, and its default.
#[derive(Debug)]
pub(super) struct PortRole {
    /// Said when it is listened on.
    pub(super) served: &'static str,
    /// Said when the default address is in use.
    pub(super) missing: &'static str,
    /// An address that is done without if it is taken: a second Larder on a machine is no mistake.
    pub(super) optional: SocketAddr,
}

/// An address, if one is listened on.
pub(super) struct OperatorPort {
    inherited: Arc<InheritedListeners>,
    role: PortRole,
    answer: OperatorAnswer,
    /// As configured; port 0 stays 0.
    open: Option<(SocketAddr, AcceptLoop)>,
    connections: TaskTracker,
}

impl fmt::Debug for OperatorPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorPort").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The change of an address that new settings ask for.
#[derive(Debug)]
pub(super) enum PreparedOperatorPort {
    Close,
    Keep,
    Open(SocketAddr, BoundListener),
}

impl OperatorPort {
    /// Closed.
    pub(super) fn new(
        inherited: Arc<InheritedListeners>,
        role: PortRole,
        answer: OperatorAnswer,
    ) -> Self {
        Self { inherited, role, answer, open: None, connections: TaskTracker::new() }
    }

    /// Binds what is not bound yet. Does all that can fail.
    pub(super) fn prepare(
        &self,
        wanted: Option<SocketAddr>,
    ) -> Result<PreparedOperatorPort, StartError> {
        let Some(address) = wanted else { return Ok(PreparedOperatorPort::Close) };
        if self.open.as_ref().is_some_and(|(open, _)| *open == address && address.port() != 0) {
            return Ok(PreparedOperatorPort::Keep);
        }
        match self.inherited.bind(address) {
            Ok(listener) => Ok(PreparedOperatorPort::Open(address, listener)),
            Err(error)
                if address == self.role.optional && error.kind() == io::ErrorKind::AddrInUse =>
            {
                tracing::warn!(%address, "{}", self.role.missing);
                Ok(PreparedOperatorPort::Close)
            }
            Err(source) => Err(StartError::Bind { address, source }),
        }
    }

    /// Listens there and nowhere else.
    pub(super) async fn commit(&mut self, prepared: PreparedOperatorPort) {
        let opened = match prepared {
            PreparedOperatorPort::Keep => return,
            PreparedOperatorPort::Close => None,
            PreparedOperatorPort::Open(address, listener) => Some((address, self.accept(listener))),
        };
        if let Some((_, closed)) = std::mem::replace(&mut self.open, opened) {
            closed.close().await;
        }
    }

    fn accept(&self, listener: BoundListener) -> AcceptLoop {
        if let Ok(address) = listener.address() {
            tracing::info!(%address, "{}", self.role.served);
        }
        let stop = CancellationToken::new();
        let (answer, connections) = (Arc::clone(&self.answer), self.connections.clone());
        let admission = OperatorAdmission(ConnectionQuota::for_operators(stop.clone()));
        AcceptLoop::start(stop.clone(), async move {
            let serve = |socket, client, permit: ConnectionPermit| {
                let answer = Arc::clone(&answer);
                async move { serve(answer, socket, client, &permit).await }
            };
            listener.accept(&admission, serve, &connections, stop.clone()).await;
        })
    }
}

/// Gives a place to each operator; where there is none, another's idle connection makes room.
struct OperatorAdmission(ConnectionQuota);

impl ConnectionAdmission for OperatorAdmission {
    fn quota(&self) -> &ConnectionQuota {
        &self.0
    }

    async fn admit(&self, client: IpAddr) -> Option<ConnectionPermit> {
        self.0.enter(client, usize::MAX).await.ok()
    }
}

/// Serves one operator's connection until it ends.
async fn serve(
    answer: OperatorAnswer,
    socket: ClientSocket,
    client: IpAddr,
    load: &Arc<ConnectionLoad>,
) {
    let answer = move |request| answer(request, client);
    let io = IdleGuard::new(Box::new(socket), STALL_MAX).watching(Arc::clone(load));
    serve_connection(Box::new(io), None, answer, Arc::clone(load)).await;
}

/// Answers here are small and made at once, and the page's events come more often than that;
/// Prometheus keeps its connection for its next scrape.
const STALL_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn port(optional: SocketAddr) -> OperatorPort {
        let role = PortRole { served: "served", missing: "missing", optional };
        let empty = || Response::new(ReplyBody::empty());
        OperatorPort::new(
            Arc::default(),
            role,
            Arc::new(move |_, _| Box::pin(async move { empty() })),
        )
    }

    #[tokio::test]
    async fn a_taken_address_is_done_without_only_if_it_is_optional() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let (port, other) = (port(address), port(([127, 0, 0, 1], 9).into()));
        assert!(matches!(port.prepare(Some(address)), Ok(PreparedOperatorPort::Close)));
        let refused = other.prepare(Some(address));
        assert!(matches!(refused, Err(StartError::Bind { .. })));
    }

    /// An operator who reloads must not lose a scrape.
    #[tokio::test]
    async fn an_address_that_stays_is_kept_open() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut port = port(free);
        let prepared = port.prepare(Some(free)).unwrap();
        port.commit(prepared).await;
        assert!(matches!(port.prepare(Some(free)), Ok(PreparedOperatorPort::Keep)));
        assert!(matches!(port.prepare(None), Ok(PreparedOperatorPort::Close)));
    }
}
