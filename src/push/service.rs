//! What all pushes share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::copies::UploadCopies;
use super::session::SessionSeal;
use super::{PushError, PushOptions};
use crate::cache::Cache;
use crate::clock::WallClock;
use crate::store::Store;

/// Blobs that were not sent because the registry had them, since the start.
#[derive(Debug, Default)]
pub struct MountCount {
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl MountCount {
    pub(super) fn count(&self, bytes: u64) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    /// Their bytes, as far as their lengths are known.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Passes pushes on. Clones are the same.
#[derive(Clone, Debug)]
pub struct PushService {
    pub(super) shared: Arc<PushState>,
}

#[derive(Debug)]
pub(super) struct PushState {
    pub(super) cache: Cache,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) copies: UploadCopies,
    pub(super) mounts: MountCount,
    pub(super) seal: SessionSeal,
    pub(super) store: Arc<Store>,
}

impl PushService {
    /// Passes pushes on from now on. Blocks for the key.
    ///
    /// # Errors
    ///
    /// When the machine gives no random numbers.
    pub fn new(
        store: Arc<Store>,
        cache: Cache,
        clock: Arc<dyn WallClock>,
        options: &PushOptions,
    ) -> Result<Self, PushError> {
        const NO_RANDOM: PushError = PushError::Internal("the machine gives no random numbers");
        let seal = if let Some(key) = &options.session_key {
            SessionSeal::new(key.expose_secret())
        } else {
            let fresh = SessionSeal::fresh_secret().ok_or(NO_RANDOM)?;
            let kept = store.session_key(fresh.clone()).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot keep a key; a restart ends all uploads");
                fresh
            });
            SessionSeal::new(&kept)
        };
        let seal = seal.ok_or(NO_RANDOM)?;
        let copies = UploadCopies::new(Arc::clone(&store));
        Ok(Self {
            shared: Arc::new(PushState {
                cache,
                clock,
                copies,
                mounts: MountCount::default(),
                seal,
                store,
            }),
        })
    }

    /// What has been mounted.
    pub fn mounts(&self) -> &MountCount {
        &self.shared.mounts
    }

    /// Gives up copies of uploads that nobody has gone on with for long.
    pub fn sweep(&self) {
        self.shared.copies.sweep();
    }

    /// Waits for copies that are on their way into the store, at most this long.
    pub async fn stop(&self, grace: Duration) {
        self.shared.copies.tasks.close();
        // What is not done by then is fetched when somebody wants it.
        drop(timeout(grace, self.shared.copies.tasks.wait()).await);
    }
}
