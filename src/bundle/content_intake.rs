//! Contents of an archive on their way into the store.
//!
//! They go the way of a push: a reservation, a file under `uploads/`, its hash while it is written,
//! and a name only when the hash is right. A process that is killed leaves nothing but what it had
//! stored, so the import that is repeated finds it there.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::BundleError;
use crate::oci::{Algorithm, Digest, DigestHasher};
use crate::store::{AppendError, CommitError, DigestMismatch, HashedFile, Store};

/// Counts of an import that goes on.
#[derive(Debug, Default)]
pub(super) struct ImportCounters {
    /// Bytes of contents that were read.
    pub(super) read_bytes: AtomicU64,
    /// Contents that were not stored before.
    pub(super) new: AtomicU64,
    /// Their bytes.
    pub(super) new_bytes: AtomicU64,
    /// Contents that were stored before.
    pub(super) known: AtomicU64,
}

/// Puts contents into a store. Its methods block, and not on a thread of the runtime.
#[derive(Debug)]
pub(super) struct ContentIntake {
    pub(super) store: Arc<Store>,
    pub(super) runtime: Handle,
    pub(super) counters: Arc<ImportCounters>,
}

/// A file of the archive that is to be stored.
pub(super) struct IncomingFile<'a> {
    pub(super) name: &'a str,
    /// Its length in bytes, as the archive states it.
    pub(super) len: u64,
    pub(super) bytes: &'a mut dyn Read,
}

impl ContentIntake {
    /// Stores a file as the content of this digest, if it is that.
    pub(super) fn put(&self, file: IncomingFile<'_>, digest: &Digest) -> Result<(), BundleError> {
        if self.runtime.block_on(self.store.content().has_verified(digest)) {
            self.counters.known.fetch_add(1, Ordering::Relaxed);
            return self.compare(file, digest);
        }
        let name = file.name.to_owned();
        let len = file.len;
        let written = self.write(file, digest.algorithm())?;
        self.commit(written, &name, len, digest)
    }

    /// Stores a file, and tells its digest.
    pub(super) fn put_unnamed(&self, file: IncomingFile<'_>) -> Result<Digest, BundleError> {
        let name = file.name.to_owned();
        let len = file.len;
        let written = self.write(file, Algorithm::Sha256)?;
        let hasher = written.hasher().cloned().ok_or_else(|| BundleError::Cut(name.clone()))?;
        let digest = hasher.into_hasher().finish();
        if self.runtime.block_on(self.store.content().has_verified(&digest)) {
            self.counters.known.fetch_add(1, Ordering::Relaxed);
        } else {
            self.commit(written, &name, len, &digest)?;
        }
        Ok(digest)
    }

    /// Reads a file that is stored already. One that is damaged is a damaged archive all the same.
    fn compare(&self, file: IncomingFile<'_>, digest: &Digest) -> Result<(), BundleError> {
        let mut hasher = DigestHasher::new(digest.algorithm());
        let name = file.name.to_owned();
        self.pieces(file, &mut |piece| {
            hasher.update(&piece);
            true
        })?;
        let got = hasher.finish();
        if got == *digest {
            return Ok(());
        }
        let want = digest.clone();
        Err(BundleError::Damaged { name, mismatch: DigestMismatch { want, got } })
    }

    fn write(
        &self,
        file: IncomingFile<'_>,
        algorithm: Algorithm,
    ) -> Result<HashedFile, BundleError> {
        let (name, len) = (file.name.to_owned(), file.len);
        let has_room = self.runtime.block_on(self.store.has_room(len));
        if !has_room.map_err(BundleError::Store)? {
            return Err(BundleError::TooLarge { name, bytes: len });
        }
        let opened = self.runtime.block_on(self.store.open_upload(algorithm));
        let opened = opened.map_err(BundleError::Store)?;
        let (sender, queue) = mpsc::channel(QUEUE_PIECES);
        let append = async move { opened.append(Some(len), queue, |_| {}).await };
        let writing = self.runtime.spawn(append);
        let read = self.pieces(file, &mut |piece| sender.blocking_send(piece).is_ok());
        drop(sender);
        let written = self
            .runtime
            .block_on(writing)
            .map_err(|lost| BundleError::Store(std::io::Error::other(lost)))?;
        let written = written.map_err(|error| match error {
            AppendError::NoSpace { error, .. } => BundleError::NoSpace { name, error },
            AppendError::Refused { error, .. } => BundleError::Store(error),
            AppendError::Stuck => BundleError::Store(std::io::ErrorKind::TimedOut.into()),
        })?;
        // The file of an archive that is cut goes here, when it is dropped.
        read.map(|()| written)
    }

    fn commit(
        &self,
        file: HashedFile,
        name: &str,
        len: u64,
        digest: &Digest,
    ) -> Result<(), BundleError> {
        let committed = self.runtime.block_on(file.commit(digest, |_| {}));
        let committed = committed.map_err(|error| match error {
            CommitError::Mismatch(mismatch) => {
                BundleError::Damaged { name: name.to_owned(), mismatch }
            }
            CommitError::Disk(error) => BundleError::Store(error),
        })?;
        committed.kept.map_err(BundleError::Store)?;
        self.counters.new.fetch_add(1, Ordering::Relaxed);
        self.counters.new_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }

    /// Reads a file to its end, piece by piece, until `take` returns false.
    fn pieces(
        &self,
        file: IncomingFile<'_>,
        take: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), BundleError> {
        let IncomingFile { name, len, bytes } = file;
        let mut left = len;
        while left > 0 {
            let mut piece = Vec::new();
            let max = left.min(PIECE_BYTES);
            bytes.take(max).read_to_end(&mut piece).map_err(BundleError::Unreadable)?;
            if piece.is_empty() {
                return Err(BundleError::Cut(name.to_owned()));
            }
            let count = piece.len() as u64;
            left -= count;
            self.counters.read_bytes.fetch_add(count, Ordering::Relaxed);
            if !take(piece) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Bytes that go to the store's writer at once.
const PIECE_BYTES: u64 = 256 << 10;

/// Pieces that wait for the writer: 2 MiB, so that reading and writing overlap.
const QUEUE_PIECES: usize = 8;
