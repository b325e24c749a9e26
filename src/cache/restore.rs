//! Content whose stored bytes proved wrong while no client read it: fetched again from the
//! registries that had it.
//!
//! It comes in through the fetches that clients' pulls begin, verified as those are. Where clients'
//! own credentials are needed, and from a registry that is offline, nothing is fetched.

use std::sync::Arc;

use super::disk::{records_of, warn_of};
use super::fill::join::BlobFills;
use super::fill::progress::FillProgress;
use super::key::RecordKey;
use super::manifest::by_digest::ManifestPulls;
use super::{CacheError, Decision, ManifestContent, Pulled};
use crate::access::Grant;
use crate::oci::{Digest, RegistryName};
use crate::registry::Registry;
use crate::store::{ContentHolder, RepositoryRecords, holders_of};

/// The registries as they are configured now, by name.
pub type KnownRegistries = Arc<dyn Fn(&RegistryName) -> Option<Arc<Registry>> + Send + Sync>;

/// Fetches content again.
#[derive(Clone, Debug)]
pub(super) struct ContentRestore {
    pub(super) manifests: Arc<ManifestPulls>,
    pub(super) fills: Arc<BlobFills>,
}

impl ContentRestore {
    /// Fetches a content again that was removed from the store. Returns whether it is stored.
    pub(super) async fn restore(&self, digest: &Digest, known: &KnownRegistries) -> bool {
        let store = &self.fills.tools().store;
        let holders = match holders_of(store, digest).await {
            Ok(holders) => holders,
            Err(error) => {
                tracing::warn!(%digest, %error, "cannot find out which repositories had a content");
                return false;
            }
        };
        for holder in &holders {
            let Some(registry) = known(&holder.registry) else { continue };
            let Some(grant) = Grant::to_restore(&registry, &holder.repository) else { continue };
            match self.fetch(&grant, digest, holder).await {
                Ok(()) if store.content().has_verified(digest).await => return true,
                Ok(()) => {}
                Err(error) => {
                    let ContentHolder { registry, repository, .. } = holder;
                    tracing::warn!(%digest, %registry, %repository, %error, "cannot fetch a corrupt content again");
                }
            }
        }
        false
    }

    async fn fetch(
        &self,
        grant: &Grant,
        digest: &Digest,
        holder: &ContentHolder,
    ) -> Result<(), CacheError> {
        if holder.is_manifest {
            return self.fetch_manifest(grant, digest).await;
        }
        self.fetch_blob(grant, digest).await
    }

    /// Fetches a blob, and waits until it is stored or cannot be.
    pub(super) async fn fetch_blob(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<(), CacheError> {
        let member = self.fills.tools().presence.find(grant, digest).await;
        let mut progress = self.fills.join(grant, digest, member).progress;
        // Until its task is gone, which readers do not wait for: then it is stored, or never is.
        while progress.changed().await.is_ok() {}
        match &*progress.borrow() {
            FillProgress::Failed(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    async fn fetch_manifest(&self, grant: &Grant, digest: &Digest) -> Result<(), CacheError> {
        let epochs = Arc::clone(&self.fills.tools().epochs);
        let since = epochs.now();
        let Pulled { what, decision, .. } = self.manifests.pull(grant, digest).await?;
        if decision != Decision::Hit {
            return Ok(());
        }
        // It was in memory, and is not stored by that.
        let key = RecordKey::digest(grant, digest);
        let put = move |records: &RepositoryRecords| {
            epochs.if_current(&key, since, || {
                if let ManifestContent::Verified(content) = &what.content {
                    let written = records.put_manifest(&what.media_type, content);
                    warn_of(records, written, "cannot store a manifest");
                }
            });
            Ok(())
        };
        records_of(&self.fills.tools().store, grant).behind(put).await;
        Ok(())
    }
}
