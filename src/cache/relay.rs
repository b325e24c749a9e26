//! When the disk takes no more: each reader goes on from the upstream by itself.
//!
//! The promise stays: an answer that includes the blob's last byte ends only after all bytes were
//! hashed and compared, so such a reader hashes what it relays, from where the fill's hash ended,
//! and holds back the tail. The first reader carries the fill's own connection on; others open
//! theirs.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::{Buf as _, Bytes};

use super::download::Download;
use super::follow::{Span, TAIL_BYTES};
use super::hot::lock;
use super::source::Source;
use super::{Bypass, Error};
use crate::http::{self, Next};
use crate::oci::{Digest, Hasher};

/// What a fill had on disk, hashed, when the disk gave up.
#[derive(Debug)]
pub(super) struct Prefix {
    file: Option<Arc<File>>,
    len: u64,
    hasher: Hasher,
}

impl Prefix {
    /// Nothing.
    pub(super) fn none(digest: &Digest) -> Self {
        Self { file: None, len: 0, hasher: Hasher::new(digest.algorithm()) }
    }

    /// The first `len` bytes of `file`, all seen by `hasher`.
    pub(super) fn of(file: Arc<File>, len: u64, hasher: Hasher) -> Self {
        Self { file: Some(file), len, hasher }
    }
}

/// From where on readers have to carry on.
#[derive(Debug)]
pub(super) struct RelayPoint {
    prefix: Prefix,
    source: Source,
    total: Option<u64>,
    bypass: Bypass,
    /// The fill's own, for the first who comes.
    download: Mutex<Option<Download>>,
}

impl RelayPoint {
    pub(super) fn new(prefix: Prefix, download: Download, bypass: Bypass) -> Self {
        let (source, total) = (download.source().clone(), download.total());
        let fits = download.at() == prefix.len;
        let download = Mutex::new(fits.then_some(download));
        Self { prefix, source, total, bypass, download }
    }

    /// The file that has the first bytes, and how many.
    pub(super) fn on_disk(&self) -> Option<(&Arc<File>, u64)> {
        self.prefix.file.as_ref().map(|file| (file, self.prefix.len))
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    pub(super) fn bypass(&self) -> Bypass {
        self.bypass
    }

    async fn download(&self, from: u64, end: Option<u64>) -> Result<Download, Error> {
        let own = if from == self.prefix.len { lock(&self.download).take() } else { None };
        match (own, end) {
            (Some(download), _) => Ok(download),
            (None, Some(end)) => Download::part(self.source.clone(), from..end).await,
            (None, None) => Download::open(self.source.clone(), from, self.total).await,
        }
    }
}

/// One reader that carries on.
pub(super) struct Relay {
    point: Arc<RelayPoint>,
    span: Span,
    running: Option<Running>,
    /// Received, not sent: the bytes from `span.at` on.
    held: VecDeque<Bytes>,
    held_bytes: u64,
}

struct Running {
    download: Download,
    /// `None` where the answer ends before the blob does.
    hasher: Option<Hasher>,
    is_over: bool,
}

impl Relay {
    pub(super) fn new(point: Arc<RelayPoint>, span: Span) -> Self {
        Self { point, span, running: None, held: VecDeque::new(), held_bytes: 0 }
    }

    async fn start(&mut self) -> Result<Running, Error> {
        if !self.span.reaches_end {
            let download = self.point.download(self.span.at, self.span.end).await?;
            return Ok(Running { download, hasher: None, is_over: false });
        }
        let prefix = &self.point.prefix;
        if self.span.at < prefix.len {
            let bytes = self.read_prefix().await;
            self.hold(bytes.map_err(|_| Error::Internal("cannot read what is on disk"))?);
        }
        let download = self.point.download(self.point.prefix.len, None).await?;
        let hasher = Some(self.point.prefix.hasher.clone());
        Ok(Running { download, hasher, is_over: false })
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
    async fn receive(&mut self) -> Result<(), Error> {
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

impl http::Source for Relay {
    fn next_now(&mut self) -> Option<Next> {
        if self.span.is_over() {
            return Some(Ok(None));
        }
        self.release().map(|bytes| Ok(Some(bytes.into())))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = Next> + Send + '_>> {
        Box::pin(async move {
            loop {
                if let Some(next) = http::Source::next_now(self) {
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
