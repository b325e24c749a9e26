//! When the disk takes no more: each reader goes on from the upstream by itself.
//!
//! The promise stays: an answer that includes the blob's last byte ends only after all bytes were
//! hashed and compared, so such a reader hashes what it relays, from where the fill's hash ended,
//! and holds back the tail. The first reader carries the fill's own connection on; others open
//! theirs.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use crate::cache::body::growing::{BodySpan, TAIL_BYTES};
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::{BypassReason, CacheError};
use crate::http::{self, NextBytes};
use crate::oci::{Digest, DigestHasher};

/// What a fill had on disk, hashed, when the disk gave up.
#[derive(Debug)]
pub(crate) struct HashedPrefix {
    file: Option<Arc<File>>,
    len: u64,
    hasher: DigestHasher,
}

impl HashedPrefix {
    /// Nothing.
    pub(crate) fn none(digest: &Digest) -> Self {
        Self { file: None, len: 0, hasher: DigestHasher::new(digest.algorithm()) }
    }

    /// The first `len` bytes of `file`, all seen by `hasher`.
    pub(crate) fn of(file: Arc<File>, len: u64, hasher: DigestHasher) -> Self {
        Self { file: Some(file), len, hasher }
    }
}

/// From where on readers have to carry on.
#[derive(Debug)]
pub(crate) struct RelayPoint {
    prefix: HashedPrefix,
    source: BlobOrigin,
    total: Option<u64>,
    bypass: BypassReason,
    /// The fill's own, for the first who comes.
    download: Mutex<Option<BlobDownload>>,
}

impl RelayPoint {
    pub(crate) fn new(prefix: HashedPrefix, download: BlobDownload, bypass: BypassReason) -> Self {
        let (source, total) = (download.source().clone(), download.total());
        let fits = download.at() == prefix.len;
        let download = Mutex::new(fits.then_some(download));
        Self { prefix, source, total, bypass, download }
    }

    /// The file that has the first bytes, and how many.
    pub(crate) fn on_disk(&self) -> Option<(&Arc<File>, u64)> {
        self.prefix.file.as_ref().map(|file| (file, self.prefix.len))
    }

    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    pub(crate) fn bypass(&self) -> BypassReason {
        self.bypass
    }

    async fn download(&self, from: u64, end: Option<u64>) -> Result<BlobDownload, CacheError> {
        let own = if from == self.prefix.len { self.download.lock().take() } else { None };
        match (own, end) {
            (Some(download), _) => Ok(download),
            (None, Some(end)) => BlobDownload::part(self.source.clone(), from..end).await,
            (None, None) => BlobDownload::open(self.source.clone(), from, self.total).await,
        }
    }
}

/// One reader that carries on.
pub(crate) struct RelayBody {
    point: Arc<RelayPoint>,
    span: BodySpan,
    running: Option<RelayState>,
    /// Received, not sent: the bytes from `span.at` on.
    held: VecDeque<Bytes>,
    held_bytes: u64,
}

struct RelayState {
    download: BlobDownload,
    /// `None` where the answer ends before the blob does.
    hasher: Option<DigestHasher>,
    is_over: bool,
}

impl RelayBody {
    pub(crate) fn new(point: Arc<RelayPoint>, span: BodySpan) -> Self {
        Self { point, span, running: None, held: VecDeque::new(), held_bytes: 0 }
    }

    async fn start(&mut self) -> Result<RelayState, CacheError> {
        if !self.span.reaches_end {
            let download = self.point.download(self.span.at, self.span.end).await?;
            return Ok(RelayState { download, hasher: None, is_over: false });
        }
        let prefix = &self.point.prefix;
        if self.span.at < prefix.len {
            let bytes = self.read_prefix().await;
            self.hold(bytes.map_err(|_| CacheError::Internal("cannot read what is on disk"))?);
        }
        let download = self.point.download(self.point.prefix.len, None).await?;
        let hasher = Some(self.point.prefix.hasher.clone());
        Ok(RelayState { download, hasher, is_over: false })
    }

    /// What is on disk and was held back: a tail at most.
    async fn read_prefix(&self) -> io::Result<Bytes> {
        let Some((file, len)) = self.point.on_disk() else { return Ok(Bytes::new()) };
        let (file, at) = (Arc::clone(file), self.span.at);
        let read = move || {
            let mut bytes = vec![0; usize::try_from(len - at).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, at)?;
            Ok(Bytes::from(bytes))
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn hold(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.held_bytes += bytes.len() as u64;
            self.held.push_back(bytes);
        }
    }

    /// What may be sent of what is held.
    fn release(&mut self) -> Option<Bytes> {
        let is_over = self.running.as_ref().is_some_and(|running| running.is_over);
        let kept = if is_over || !self.span.reaches_end { 0 } else { TAIL_BYTES };
        let free = self.held_bytes.saturating_sub(kept);
        let front = self.held.front_mut().filter(|_| free > 0)?;
        let count = usize::try_from(free).unwrap_or(usize::MAX).min(front.len());
        let bytes = front.split_to(count);
        if front.is_empty() {
            self.held.pop_front();
        }
        self.held_bytes -= bytes.len() as u64;
        self.span.at += bytes.len() as u64;
        Some(bytes)
    }

    /// Receives one chunk, or the end, which is where the hash must be right.
    async fn receive(&mut self) -> Result<(), CacheError> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start().await?,
        };
        let offset = running.download.at();
        if let Some(mut chunk) = running.download.chunk().await? {
            if let Some(hasher) = &mut running.hasher {
                hasher.update(&chunk);
            }
            let wanted = self.span.at + self.held_bytes;
            let before = usize::try_from(wanted.saturating_sub(offset)).unwrap_or(usize::MAX);
            chunk.advance(before.min(chunk.len()));
            let room = self.span.end.map_or(u64::MAX, |end| end - wanted);
            chunk.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            self.hold(chunk);
        } else {
            running.is_over = true;
            if let Some(hasher) = running.hasher.take() {
                let got = hasher.finish();
                if got != *running.download.source().digest() {
                    return Err(running.download.corrupt(format!("they are {got}")));
                }
            }
        }
        self.running = Some(running);
        Ok(())
    }
}

impl http::BodySource for RelayBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        if self.span.is_over() {
            return Some(Ok(None));
        }
        self.release().map(|bytes| Ok(Some(bytes.into())))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            loop {
                if let Some(next) = http::BodySource::next_now(self) {
                    return next;
                }
                if self.running.as_ref().is_some_and(|running| running.is_over) {
                    return Ok(None);
                }
                self.receive().await?;
            }
        })
    }
}
