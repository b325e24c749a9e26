//! The point at which readers of a fill go on by themselves, once the disk takes no more bytes.
//!
//! Each reader drains what is on disk and continues from the upstream by itself
//! (`body/relay.rs`). The first one takes over the fill's own connection; the others open theirs.

use std::fs::File;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::{BypassReason, CacheError};
use crate::oci::{Digest, DigestHasher};
use crate::store::HashedFile;

/// The bytes that a fill had on disk, with their hash, when the disk failed.
#[derive(Debug)]
pub(crate) struct HashedPrefix {
    file: Option<Arc<File>>,
    len: u64,
    hasher: DigestHasher,
}

impl HashedPrefix {
    /// No bytes.
    pub(crate) fn none(digest: &Digest) -> Self {
        Self { file: None, len: 0, hasher: DigestHasher::new(digest.algorithm()) }
    }

    /// The bytes in `file`, which are the first of the blob of `digest`.
    pub(crate) fn of(file: &HashedFile, digest: &Digest) -> Self {
        let Some(hasher) = file.hasher() else { return Self::none(digest) };
        Self { file: Some(file.file()), len: file.len(), hasher: hasher.clone().into_hasher() }
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

    /// A hasher that has seen the bytes on disk.
    pub(crate) fn hasher(&self) -> DigestHasher {
        self.prefix.hasher.clone()
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
