//! Content by digest: one half of the store's seam; the other half is records (`record_store.rs`).
//!
//! A caller can open content and read it at any offset, and commit the bytes that were appended to
//! a [`HashedFile`]. Nothing else puts content here, and the store itself deletes corrupt content.
//!
//! [`HashedFile`]: super::HashedFile

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::blob_store::BlobStore;
use super::recheck::StaleBlob;
use super::stamps::FileId;
use super::verify::{StoredBlob, VerifiedContent};
use crate::oci::Digest;

/// A blob that is stored.
#[derive(Debug)]
pub enum StoredState {
    /// To be verified again before its bytes leave.
    Due(Arc<StaleBlob>),
    /// To be served as it is.
    Verified(StoredBlob),
}

/// A handle to the content of a store. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct ContentStore {
    blobs: Arc<BlobStore>,
}

impl ContentStore {
    pub(super) fn new(blobs: Arc<BlobStore>) -> Self {
        Self { blobs }
    }

    /// Opens a blob; `None` when it is not stored. Costs the same whether it is to be verified
    /// again or not. One that has not the `size` that a manifest states, in bytes, is due, unless
    /// its checksums say that it was as long when it was stored.
    ///
    /// # Errors
    ///
    /// The disk cannot say.
    pub async fn open(
        &self,
        digest: &Digest,
        size: Option<u64>,
    ) -> io::Result<Option<StoredState>> {
        let (blobs, digest) = (Arc::clone(&self.blobs), digest.clone());
        let gates = Arc::clone(blobs.gates());
        gates.reads.run(move || find(&blobs, digest, size)).await
    }

    /// Opens a blob to be verified from the disk, whether it is due or not; `None` when it is not
    /// stored. To a reader nothing changes, and it does not count as a use.
    ///
    /// # Errors
    ///
    /// The disk cannot say.
    pub(super) async fn open_on_disk(&self, digest: &Digest) -> io::Result<Option<Arc<StaleBlob>>> {
        let (blobs, digest) = (Arc::clone(&self.blobs), digest.clone());
        let gates = Arc::clone(blobs.gates());
        let open = move || {
            let Some((file, metadata)) = blobs.open_untouched(&digest)? else { return Ok(None) };
            let sums = blobs.sums(&digest, metadata.len());
            let blob = StaleBlob::new(Arc::clone(&blobs), digest, file, &metadata, sums);
            Ok(Some(Arc::new(blob.of_disk())))
        };
        gates.reads.run(open).await
    }

    /// Whether a blob is stored and needs no verification. A disk that cannot say has none.
    pub async fn has_verified(&self, digest: &Digest) -> bool {
        let (blobs, digest) = (Arc::clone(&self.blobs), digest.clone());
        let gates = Arc::clone(blobs.gates());
        gates.reads.run(move || Ok(blobs.has_fresh(&digest))).await.unwrap_or_default()
    }

    /// Has a blob that is stored in this file count as missing, for it cannot be read: `why` says
    /// how.
    pub async fn set_aside(&self, digest: &Digest, file: &Arc<File>, why: &io::Error) {
        let (blobs, digest, file) = (Arc::clone(&self.blobs), digest.clone(), Arc::clone(file));
        let why = why.to_string();
        let set_aside = move || {
            blobs.set_aside(&digest, FileId::of(&file.metadata()?), &why);
            Ok(())
        };
        if let Err(error) = self.blobs.gates().reads.run(set_aside).await {
            tracing::warn!(%error, "cannot set a stored blob aside");
        }
    }

    /// Has a blob that was set aside count as stored again. Does not block.
    pub fn take_back(&self, digest: &Digest) {
        self.blobs.take_back(digest);
    }

    /// Reads a blob of at most `max` bytes whole, and verifies it; `None` when it is not stored or
    /// longer. One that is wrong is deleted, so that it is fetched anew.
    ///
    /// # Errors
    ///
    /// The file cannot be read now.
    pub async fn small(
        &self,
        digest: &Digest,
        max: u64,
    ) -> io::Result<Option<VerifiedContent<Bytes>>> {
        let (blobs, digest) = (Arc::clone(&self.blobs), digest.clone());
        let gates = Arc::clone(blobs.gates());
        let _turn = gates.whole.acquire().await;
        gates.reads.run(move || blobs.small(&digest, max)).await
    }
}

fn find(
    blobs: &Arc<BlobStore>,
    digest: Digest,
    size: Option<u64>,
) -> io::Result<Option<StoredState>> {
    let Some((file, metadata)) = blobs.open(&digest)? else { return Ok(None) };
    let (len, is_fresh) = (metadata.len(), blobs.is_fresh(&metadata));
    let is_as_stated = size.is_none_or(|size| size == len);
    let sums = if is_fresh && is_as_stated { None } else { blobs.sums(&digest, len) };
    if is_fresh && (is_as_stated || sums.is_some()) {
        let blob = StoredBlob::found(digest, Arc::new(file), len);
        return Ok(Some(StoredState::Verified(blob)));
    }
    let due = StaleBlob::new(Arc::clone(blobs), digest, file, &metadata, sums);
    Ok(Some(StoredState::Due(Arc::new(due))))
}
