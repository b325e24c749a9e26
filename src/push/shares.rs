//! How much of what pushes take one client may hold.
//!
//! Two things are scarce: the places for pushes at an upstream, of which each body that streams
//! holds one, and the memory of manifests, which are held whole. A client waits for its own earlier
//! requests first, and so stands in the queue of all with no more than its share. How many places
//! an upstream has is decided in `upstream/transport.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{PushCaller, PushError};
use crate::http::RequestBody;
use crate::oci::{MANIFEST_BYTES_MAX, RegistryName};
use crate::upstream::ClientShares;

/// A client that pushes: its address and its principal, since clients behind one address may be
/// different users.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PushClient {
    address: IpAddr,
    principal: String,
}

/// The shares of all clients.
#[derive(Debug)]
pub(super) struct PushShares {
    uploads: ClientShares<(RegistryName, PushClient)>,
    manifests: ClientShares<PushClient>,
    manifest_bytes: Arc<Semaphore>,
}

/// Room that a push holds until this is dropped.
#[derive(Debug)]
pub(super) struct SharePermits {
    _held: Vec<OwnedSemaphorePermit>,
}

impl PushShares {
    /// Nothing is held yet.
    pub(super) fn new() -> Self {
        let manifest_bytes = Arc::new(Semaphore::new(MANIFESTS_BYTES_MAX));
        Self {
            uploads: ClientShares::default(),
            manifests: ClientShares::default(),
            manifest_bytes,
        }
    }

    /// A place for a body that streams upstream; none is needed without a body. A client may hold
    /// half of the places for pushes to a registry.
    ///
    /// # Errors
    ///
    /// [`PushError::Busy`] after 25 s.
    pub(super) async fn for_upload(
        &self,
        caller: PushCaller<'_>,
        body: &RequestBody,
    ) -> Result<Option<SharePermits>, PushError> {
        if body.length() == Some(0) {
            return Ok(None);
        }
        let registry = caller.grant.registry();
        let share = registry.upstream().authoritative().push_places().div_ceil(PLACES_SHARE);
        let client = (registry.name().clone(), PushClient::of(caller));
        let of_client = self.uploads.of(client, share);
        in_time(async { Some(vec![of_client.acquire_owned().await.ok()?]) }).await.map(Some)
    }

    /// Room for a manifest that is held whole.
    ///
    /// # Errors
    ///
    /// [`PushError::Busy`] after 25 s.
    pub(super) async fn for_manifest(
        &self,
        caller: PushCaller<'_>,
        body: &RequestBody,
    ) -> Result<SharePermits, PushError> {
        let bytes = body.length().unwrap_or(u64::MAX).min(MANIFEST_BYTES_MAX as u64);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let of_client = self.manifests.of(PushClient::of(caller), CLIENT_MANIFESTS_BYTES_MAX);
        let of_all = Arc::clone(&self.manifest_bytes);
        in_time(async {
            let own = of_client.acquire_many_owned(bytes).await.ok()?;
            Some(vec![own, of_all.acquire_many_owned(bytes).await.ok()?])
        })
        .await
    }
}

impl PushClient {
    fn of(caller: PushCaller<'_>) -> Self {
        Self { address: caller.address, principal: caller.principal.to_owned() }
    }
}

async fn in_time(
    held: impl Future<Output = Option<Vec<OwnedSemaphorePermit>>>,
) -> Result<SharePermits, PushError> {
    let held = timeout(SHARE_WAIT, held).await.ok().flatten().ok_or(PushError::Busy)?;
    Ok(SharePermits { _held: held })
}

/// The memory of all manifests that are being put, in bytes: sixteen of the largest.
const MANIFESTS_BYTES_MAX: usize = 64 << 20;

/// Those of one client, in bytes: four of the largest, and thousands of the usual ones.
const CLIENT_MANIFESTS_BYTES_MAX: usize = 16 << 20;

/// One client may hold one in so many of the places for pushes, rounded up.
const PLACES_SHARE: usize = 2;

/// How long a push waits for its client's earlier ones: as long as for its turn at the upstream.
const SHARE_WAIT: Duration = Duration::from_secs(25);
