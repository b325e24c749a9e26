//! The copy of a blob that is being pushed, on its way into the store.
//!
//! It lies under `uploads/` by a number and means nothing to a later process: which upload it was
//! of is known to this one alone. So it goes with whoever holds it, and what a killed process left
//! goes at the next start.

use std::fs;
use std::io;

use bytes::Bytes;

use super::append_file::{AppendFile, CommittedBlob};
use super::layout::StoreLayout;
use super::{DigestMismatch, Store, SumHasher};
use crate::oci::{Algorithm, Digest};

/// A copy, open for writing. Dropped, its file is removed.
///
/// All methods block and belong on the blocking pool, dropping it included.
#[derive(Debug)]
pub struct StagedFile {
    /// `None` when it has become a blob.
    growing: Option<AppendFile>,
    layout: StoreLayout,
}

impl Store {
    /// An empty copy. Blocks.
    pub fn stage(&self) -> io::Result<StagedFile> {
        let path = self.layout.upload(self.drafts.next_number());
        let growing = AppendFile::open(path, self.space.clone(), self.blobs.clone())?;
        if growing.len() > 0 {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        Ok(StagedFile { growing: Some(growing), layout: self.layout.clone() })
    }

    /// Removes what a killed process left.
    pub(super) fn clear_uploads(layout: &StoreLayout) {
        let Ok(entries) = fs::read_dir(layout.uploads()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot clear a copy of an upload");
            }
        }
    }
}

impl StagedFile {
    /// Writes at the end.
    pub fn append(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        self.growing.as_mut().map_or(Ok(()), |growing| growing.append(chunks))
    }

    /// What has the disk take all that is written so far. It can be done while more is.
    pub fn flush(&self) -> impl FnOnce() -> io::Result<()> + Send + use<> {
        let file = self.growing.as_ref().map(AppendFile::file);
        move || file.map_or(Ok(()), |file| file.sync_data())
    }

    /// Hashes all of it anew.
    pub fn hash(&self, algorithm: Algorithm) -> io::Result<SumHasher> {
        let hash = |growing: &AppendFile| growing.hash(algorithm);
        self.growing.as_ref().map_or_else(|| Ok(SumHasher::new(algorithm)), hash)
    }

    /// Checks `hasher`, which has seen every byte, and makes the copy the blob of `digest`; `None`
    /// when it has become one before.
    ///
    /// # Errors
    ///
    /// [`DigestMismatch`]: the bytes are wrong, and gone.
    pub fn commit(
        mut self,
        digest: &Digest,
        hasher: SumHasher,
    ) -> Result<Option<CommittedBlob>, DigestMismatch> {
        let target = self.layout.blob(digest);
        let growing = self.growing.take();
        growing.map(|growing| growing.commit(digest, &target, hasher, |_| {})).transpose()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.growing.take().map(AppendFile::discard) {
            tracing::warn!(%error, "cannot remove a copy of an upload");
        }
    }
}
