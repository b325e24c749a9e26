//! The address for operators.
//!
//! It is open before Larder serves and until its process ends, so that probes are told that it
//! starts, or stops. Its connections are not among those that a stop waits for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use super::accepting::AcceptLoop;
use crate::admin::AdminService;
use crate::config::ADMIN_LISTEN;
use crate::http::{
    BoundListener, ClientSocket, ConnectionAdmission, ConnectionLoad, ConnectionPermit,
    ConnectionQuota, IdleGuard, serve_connection,
};

/// The address, if one is listened on.
#[derive(Debug)]
pub(super) struct AdminPort {
    pub(super) admin: Arc<AdminService>,
    /// As configured; port 0 stays 0.
    open: Option<(SocketAddr, AcceptLoop)>,
    connections: TaskTracker,
    /// An address that is done without if it is taken.
    optional: SocketAddr,
}

impl Default for AdminPort {
    /// Closed. The default address is optional: a second Larder on a machine is no mistake.
    fn default() -> Self {
        let (admin, connections) = (Arc::default(), TaskTracker::new());
        Self { admin, open: None, connections, optional: ADMIN_LISTEN }
    }
}

/// The change of the admin port that new settings ask for.
#[derive(Debug)]
pub(super) enum PreparedAdminPort {
    Close,
    Keep,
    Open(SocketAddr, BoundListener),
}

impl AdminPort {
    /// Binds what is not bound yet. Does all that can fail.
    pub(super) fn prepare(
        &self,
        wanted: Option<SocketAddr>,
    ) -> Result<PreparedAdminPort, StartError> {
        let Some(address) = wanted else { return Ok(PreparedAdminPort::Close) };
        if self.open.as_ref().is_some_and(|(open, _)| *open == address && address.port() != 0) {
            return Ok(PreparedAdminPort::Keep);
        }
        match BoundListener::bind(address) {
            Ok(listener) => Ok(PreparedAdminPort::Open(address, listener)),
            Err(error) if address == self.optional && error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(
                    %address,
                    "no health and metrics: the address is in use; set `admin_listen` to another"
                );
                Ok(PreparedAdminPort::Close)
            }
            Err(source) => Err(StartError::Bind { address, source }),
        }
    }

    /// Listens there and nowhere else.
    pub(super) async fn commit(&mut self, prepared: PreparedAdminPort) {
        let opened = match prepared {
            PreparedAdminPort::Keep => return,
            PreparedAdminPort::Close => None,
            PreparedAdminPort::Open(address, listener) => Some((address, self.accept(listener))),
        };
        if let Some((_, closed)) = std::mem::replace(&mut self.open, opened) {
            closed.close().await;
        }
    }

    fn accept(&self, listener: BoundListener) -> AcceptLoop {
        if let Ok(address) = listener.address() {
            tracing::info!(%address, "health checks and metrics are served");
        }
        let stop = CancellationToken::new();
        let (admin, connections) = (Arc::clone(&self.admin), self.connections.clone());
        let admission = OperatorAdmission(ConnectionQuota::for_operators(stop.clone()));
        AcceptLoop::start(stop.clone(), async move {
            let serve = |socket, _client, permit: ConnectionPermit| {
                let admin = Arc::clone(&admin);
                async move { serve(admin, socket, &permit).await }
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
async fn serve(admin: Arc<AdminService>, socket: ClientSocket, load: &Arc<ConnectionLoad>) {
    let answer = move |request| {
        let admin = Arc::clone(&admin);
        async move { admin.answer(request).await }
    };
    let io = IdleGuard::new(Box::new(socket), STALL_MAX).watching(Arc::clone(load));
    serve_connection(Box::new(io), None, answer, Arc::clone(load)).await;
}

/// Answers here are small and made at once; Prometheus keeps its connection for its next scrape.
const STALL_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_done_without_only_if_it_is_optional() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let port = AdminPort { optional: address, ..AdminPort::default() };
        assert!(matches!(port.prepare(Some(address)), Ok(PreparedAdminPort::Close)));
        let refused = AdminPort::default().prepare(Some(address));
        assert!(matches!(refused, Err(StartError::Bind { .. })));
    }

    /// An operator who reloads must not lose a scrape.
    #[tokio::test]
    async fn an_address_that_stays_is_kept_open() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut port = AdminPort::default();
        let prepared = port.prepare(Some(free)).unwrap();
        port.commit(prepared).await;
        assert!(matches!(port.prepare(Some(free)), Ok(PreparedAdminPort::Keep)));
        assert!(matches!(port.prepare(None), Ok(PreparedAdminPort::Close)));
    }
}
