//! The room for requests to one upstream at once, whichever login they are by.
//!
//! Clients have shares of the room, and so do pushes, of which clients decide how long they take.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::client_shares::ClientShares;
use super::error::UpstreamError;
use super::request::{CallPurpose, UpstreamRequest};

/// How long a push waits for its turn: as long as everything before an answer's head.
const PERMIT_WAIT: Duration = Duration::from_secs(25);

/// One in so many requests at once may be a push, rounded up.
const PUSH_SHARE: usize = 2;

/// One in so many requests at once, rounded up, is left to other clients by one that asks a lot.
const OTHERS_SHARE: usize = 4;

/// The room for requests to one upstream.
pub(super) struct RequestRoom {
    permits: Arc<Semaphore>,
    /// Fewer than `permits`: clients decide how long a push takes.
    pushes: Arc<Semaphore>,
    push_places: usize,
    shares: ClientShares<IpAddr>,
    client_share: usize,
}

impl RequestRoom {
    /// Room for `connections_max` requests at once.
    pub(super) fn new(connections_max: usize) -> Self {
        let places = connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let push_places = places.div_ceil(PUSH_SHARE);
        Self {
            permits: Arc::new(Semaphore::new(places)),
            pushes: Arc::new(Semaphore::new(push_places)),
            push_places,
            shares: ClientShares::default(),
            client_share: (places - places.div_ceil(OTHERS_SHARE)).max(1),
        }
    }

    /// How many pushes it is for at once.
    pub(super) fn push_places(&self) -> usize {
        self.push_places
    }

    /// Waits, first come first served, until the upstream at `host` has room for `request`, and its
    /// client a share of that. Fewer changes go on at once than requests, and none waits for longer
    /// than [`PERMIT_WAIT`]. Requests for tokens have a limit of their own.
    pub(super) async fn permits(
        &self,
        request: &UpstreamRequest,
        host: &str,
    ) -> Result<Vec<OwnedSemaphorePermit>, UpstreamError> {
        if request.purpose == CallPurpose::Token {
            return Ok(Vec::new());
        }
        if !request.is_change() {
            let mut held = Vec::with_capacity(2);
            if let Some(client) = request.scope.asker {
                held.push(acquire(&self.shares.of(client, self.client_share), host).await?);
            }
            held.push(acquire(&self.permits, host).await?);
            return Ok(held);
        }
        let both = async {
            let push = acquire(&self.pushes, host).await?;
            Ok(vec![push, acquire(&self.permits, host).await?])
        };
        let stalled = UpstreamError::Stalled { host: host.to_owned(), waited: PERMIT_WAIT };
        timeout(PERMIT_WAIT, both).await.unwrap_or(Err(stalled))
    }
}

async fn acquire(
    permits: &Arc<Semaphore>,
    host: &str,
) -> Result<OwnedSemaphorePermit, UpstreamError> {
    let permit = Arc::clone(permits).acquire_owned().await;
    let host = host.to_owned();
    permit.map_err(|closed| UpstreamError::Unreachable { host, reason: closed.to_string() })
}
