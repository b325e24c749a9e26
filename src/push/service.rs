//! The push path as a whole: built once, shared by all requests.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::copies::UploadCopies;
use super::manifests::ManifestPushes;
use super::mount::{BlobMounts, MountCount};
use super::session::SessionSeal;
use super::sessions::UploadSessions;
use super::shares::PushShares;
use super::uploads::BlobUploads;
use super::{PushError, PushOptions};
use crate::cache::Cache;
use crate::clock::WallClock;
use crate::store::Store;

/// Sends pushes on to their registries. Clones share everything.
#[derive(Clone, Debug)]
pub struct PushService {
    parts: Arc<PushParts>,
}

#[derive(Debug)]
struct PushParts {
    manifests: ManifestPushes,
    mounts: BlobMounts,
    uploads: BlobUploads,
}

impl PushService {
    /// Builds the push path. Reads or writes the key of the cache directory, so it blocks.
    ///
    /// # Errors
    ///
    /// [`PushError::Internal`] if the machine gives no random numbers.
    pub fn new(
        store: Arc<Store>,
        cache: Cache,
        clock: Arc<dyn WallClock>,
        options: &PushOptions,
    ) -> Result<Self, PushError> {
        let sessions = Arc::new(UploadSessions::new(seal(&store, options)?, clock));
        let mounts = BlobMounts {
            cache: cache.clone(),
            sessions: Arc::clone(&sessions),
            count: MountCount::default(),
        };
        let shares = Arc::new(PushShares::new());
        let manifests = ManifestPushes { cache: cache.clone(), shares: Arc::clone(&shares) };
        let copies = UploadCopies::new(Arc::clone(&store));
        let uploads = BlobUploads { cache, copies, sessions, shares, store };
        Ok(Self { parts: Arc::new(PushParts { manifests, mounts, uploads }) })
    }

    /// Manifests, and deletions.
    pub fn manifests(&self) -> &ManifestPushes {
        &self.parts.manifests
    }

    /// Mounts of blobs.
    pub fn mounts(&self) -> &BlobMounts {
        &self.parts.mounts
    }

    /// Uploads of blobs.
    pub fn uploads(&self) -> &BlobUploads {
        &self.parts.uploads
    }

    /// The number of blobs that were mounted.
    pub fn mount_count(&self) -> &MountCount {
        &self.parts.mounts.count
    }

    /// Discards the copies of uploads that have paused for an hour.
    pub fn sweep(&self) {
        self.parts.uploads.copies.sweep();
    }

    /// Waits for copies that are being committed, for at most `grace`. A copy that is not done by
    /// then is lost; its blob is fetched when a client pulls it.
    pub async fn stop(&self, grace: Duration) {
        let tasks = &self.parts.uploads.copies.tasks;
        tasks.close();
        drop(timeout(grace, tasks.wait()).await);
    }
}

/// The seal of upload sessions: by the configured key, else by one that the store keeps.
fn seal(store: &Store, options: &PushOptions) -> Result<SessionSeal, PushError> {
    const NO_RANDOM: PushError = PushError::Internal("the machine gives no random numbers");
    let seal = if let Some(key) = &options.session_key {
        SessionSeal::new(key.expose_secret())
    } else {
        let fresh = SessionSeal::fresh_secret().ok_or(NO_RANDOM)?;
        let kept = store.session_key(fresh.clone()).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot store the session key: a restart will end all uploads");
            fresh
        });
        SessionSeal::new(&kept)
    };
    seal.ok_or(NO_RANDOM)
}
