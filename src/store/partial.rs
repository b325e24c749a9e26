//! A download on its way into the store.
//!
//! A partial file lies under `fills/` by registry and digest, so that a later process finds it
//! and goes on from its length. The file is never truncated while readers may follow it: a start
//! from zero is a new file under the same name.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::append_file::{AppendFile, CommittedBlob};
use super::blob_store::BlobStore;
use super::space::FreeSpace;
use super::{DigestMismatch, StoredBlob, SumHasher};
use crate::oci::Digest;

/// A partial file, open for writing by one fill and for reading by those who follow it.
///
/// All methods block and belong on the blocking pool.
#[derive(Debug)]
pub struct PartialBlob {
    growing: AppendFile,
    digest: Digest,
}

impl PartialBlob {
    pub(super) fn open(
        path: PathBuf,
        digest: Digest,
        space: FreeSpace,
        blobs: Arc<BlobStore>,
    ) -> io::Result<Self> {
        Ok(Self { growing: AppendFile::open(path, space, blobs)?, digest })
    }

    /// The bytes written so far, also by an earlier process.
    pub fn len(&self) -> u64 {
        self.growing.len()
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file, for those who follow it.
    pub fn file(&self) -> Arc<File> {
        self.growing.file()
    }

    /// Sets space aside for the file to become `total` bytes long.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] when that would leave less than the floor free.
    pub fn reserve(&mut self, total: u64) -> io::Result<()> {
        self.growing.reserve(total)
    }

    /// Writes at the end, reserving in steps where the total was not known.
    pub fn append(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        chunks.iter().try_for_each(|chunk| self.growing.append(chunk))
    }

    /// Hashes what an earlier process, or an earlier try, has written.
    pub fn hash(&self) -> io::Result<SumHasher> {
        self.growing.hash(self.digest.algorithm(), |_| {})
    }

    /// Removes the file: its bytes are wrong, or of no more use.
    pub fn discard(self) -> io::Result<()> {
        self.growing.discard()
    }

    /// Leaves the file to be gone on with, unless there is nothing in it.
    pub fn leave(self) -> io::Result<()> {
        if self.is_empty() { self.discard() } else { Ok(()) }
    }

    /// Checks `hasher`, which has seen every byte, and makes the file a blob. `proven` is told when
    /// the bytes are known to be right, before the disk is waited for.
    ///
    /// # Errors
    ///
    /// [`DigestMismatch`]: the bytes are wrong, and gone.
    pub fn commit(
        self,
        hasher: SumHasher,
        proven: impl FnOnce(&StoredBlob),
    ) -> Result<CommittedBlob, DigestMismatch> {
        self.growing.commit(&self.digest, hasher, proven)
    }
}
