//! The point at which readers of a fill go on by themselves, once the disk takes no more bytes.
//!
//! Each reader drains what is on disk and continues from the upstream by itself
//! (`body/relay.rs`). The first one takes over the fill's own connection; the others open theirs.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::{BypassReason, CacheError};
use crate::oci::{Digest, DigestHasher};
use crate::store::{HashedFile, SumHasher, blocking};

/// The bytes that a fill had on disk, with their hash, when the disk failed.
#[derive(Debug)]
pub(crate) struct HashedPrefix {
    file: Option<Arc<File>>,
    len: u64,
    hasher: DigestHasher,
    /// The file that readers have read so far, if the disk may have lost any of it.
    doubtful: Option<Arc<File>>,
}

impl HashedPrefix {
    /// No bytes.
    pub(crate) fn none(digest: &Digest) -> Self {
        let hasher = DigestHasher::new(digest.algorithm());
        Self { file: None, len: 0, hasher, doubtful: None }
    }

    /// Bytes that are not to be read any more: the disk may have lost any of them.
    pub(crate) fn doubtful(file: Arc<File>, digest: &Digest) -> Self {
        Self { doubtful: Some(file), ..Self::none(digest) }
    }

    /// The bytes in `file`, which are the first of the blob of `digest`.
    pub(crate) fn of(file: &HashedFile, digest: &Digest) -> Self {
        let Some(hasher) = file.hasher() else { return Self::none(digest) };
        let hasher = hasher.clone().into_hasher();
        Self { file: Some(file.file()), len: file.len(), hasher, doubtful: None }
    }
}

/// The point from which readers carry on.
#[derive(Debug)]
pub(crate) struct RelayPoint {
    prefix: HashedPrefix,
    origin: BlobOrigin,
    total: Option<u64>,
    bypass: BypassReason,
    /// The fill's own download, for the first reader.
    download: Mutex<Option<BlobDownload>>,
}

impl RelayPoint {
    pub(crate) fn new(prefix: HashedPrefix, download: BlobDownload, bypass: BypassReason) -> Self {
        let (origin, total) = (download.origin().clone(), download.total());
        let fits = download.at() == prefix.len;
        let download = Mutex::new(fits.then_some(download));
        Self { prefix, origin, total, bypass, download }
    }

    /// The file that has the first bytes, if one has.
    pub(crate) fn file(&self) -> Option<&Arc<File>> {
        self.prefix.file.as_ref()
    }

    /// How many bytes are on disk.
    pub(crate) fn prefix_len(&self) -> u64 {
        self.prefix.len
    }

    /// A hasher that has seen the bytes before the offset to go on from, which is at least the
    /// offset `at` of a reader, or that of the end of the bytes on disk.
    ///
    /// Bytes in doubt are read once more for it. Those that the disk has lost stay lost, so if they
    /// are right now, so are those that the reader got.
    pub(crate) async fn hasher(&self, at: u64) -> io::Result<(u64, DigestHasher)> {
        let Some(file) = self.prefix.doubtful.clone() else {
            return Ok((self.prefix.len, self.prefix.hasher.clone()));
        };
        let algorithm = self.origin.digest().algorithm();
        let seen = blocking(move || SumHasher::of_file(&file, at, algorithm, |_| {})).await?;
        Ok((at, seen.into_hasher()))
    }

    /// The length of the whole blob, if it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    pub(crate) fn bypass(&self) -> BypassReason {
        self.bypass
    }

    /// A download from offset `from`, up to `end` or beyond it.
    pub(crate) async fn download(
        &self,
        from: u64,
        end: Option<u64>,
    ) -> Result<BlobDownload, CacheError> {
        if from == self.prefix.len
            && let Some(download) = self.download.lock().take()
        {
            return Ok(download);
        }
        let origin = self.origin.clone();
        match end {
            Some(end) => BlobDownload::part(origin, from..end).await,
            None => BlobDownload::open(origin, from, self.total).await,
        }
    }
}
