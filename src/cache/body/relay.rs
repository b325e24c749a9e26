//! A body that goes on from the upstream when the disk takes no more, and verifies what it sends.
//!
//! An answer that includes the blob's last byte ends only after all bytes were hashed and compared.
//! So each such reader hashes what it relays, from where the fill's hash ended, and holds back the
//! tail.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::span::{BodySpan, TAIL_BYTES};
use crate::cache::CacheError;
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fill::handover::RelayPoint;
use crate::http::{BodySource, NextBytes};
use crate::oci::DigestHasher;
use crate::store::blocking;

/// One reader that carries on, up to the blob's end.
pub(super) struct RelayBody {
    point: Arc<RelayPoint>,
    span: BodySpan,
    state: RelayState,
    /// Received and not sent: the bytes from `span.at` on.
    held: VecDeque<Bytes>,
    held_bytes: u64,
}

const UNREADABLE: CacheError = CacheError::Internal("cannot read a partial file");

enum RelayState {
    NotStarted,
    Running(Box<(BlobDownload, DigestHasher)>),
    /// All bytes are received, and right.
    Verified,
    Failed,
}

impl RelayBody {
    pub(super) fn new(point: Arc<RelayPoint>, span: BodySpan) -> Self {
        let state = RelayState::NotStarted;
        Self { point, span, state, held: VecDeque::new(), held_bytes: 0 }
    }

    async fn start(&mut self) -> Result<Box<(BlobDownload, DigestHasher)>, CacheError> {
        if self.span.at < self.point.prefix_len() {
            let bytes = self.read_prefix().await;
            self.hold(bytes.map_err(|_| UNREADABLE)?);
        }
        let hasher = self.point.hasher(self.span.at).await;
        let (from, hasher) = hasher.map_err(|_| UNREADABLE)?;
        Ok(Box::new((self.point.download(from, None).await?, hasher)))
    }

    /// The bytes on disk that were held back: a tail at most.
    async fn read_prefix(&self) -> io::Result<Bytes> {
        let Some(file) = self.point.file().cloned() else { return Ok(Bytes::new()) };
        let (at, len) = (self.span.at, self.point.prefix_len());
        blocking(move || {
            let mut bytes = vec![0; usize::try_from(len - at).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, at)?;
            Ok(Bytes::from(bytes))
        })
        .await
    }

    fn hold(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.held_bytes += bytes.len() as u64;
            self.held.push_back(bytes);
        }
    }

    /// The next of the held bytes that may be sent.
    fn release(&mut self) -> Option<Bytes> {
        let kept = if matches!(self.state, RelayState::Verified) { 0 } else { TAIL_BYTES };
        let free = self.held_bytes.saturating_sub(kept);
        let front = self.held.front_mut().filter(|_| free > 0)?;
        let bytes = front.split_to(usize::try_from(free).unwrap_or(usize::MAX).min(front.len()));
        if front.is_empty() {
            self.held.pop_front();
        }
        self.held_bytes -= bytes.len() as u64;
        self.span.at += bytes.len() as u64;
        Some(bytes)
    }

    /// Receives one chunk, or the end, which is where the hash must be right.
    async fn receive(&mut self) -> Result<(), CacheError> {
        let state = std::mem::replace(&mut self.state, RelayState::Failed);
        let mut running = match state {
            RelayState::NotStarted => self.start().await?,
            RelayState::Running(running) => running,
            RelayState::Verified | RelayState::Failed => {
                return Err(CacheError::Internal("a relay was read on after its end"));
            }
        };
        let (download, hasher) = &mut *running;
        let offset = download.at();
        let Some(mut chunk) = download.chunk().await? else {
            if hasher.clone().finish() != *download.origin().digest() {
                return Err(download.corrupt("digest mismatch"));
            }
            self.state = RelayState::Verified;
            return Ok(());
        };
        hasher.update(&chunk);
        let wanted = self.span.at + self.held_bytes;
        let before = usize::try_from(wanted.saturating_sub(offset)).unwrap_or(usize::MAX);
        chunk.advance(before.min(chunk.len()));
        self.hold(chunk);
        self.state = RelayState::Running(running);
        Ok(())
    }
}

impl BodySource for RelayBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        if self.span.is_over() {
            return Some(Ok(None));
        }
        self.release().map(|bytes| Ok(Some(bytes.into())))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            loop {
                if let Some(next) = self.next_now() {
                    return next;
                }
                if matches!(self.state, RelayState::Verified) {
                    return Ok(None);
                }
                self.receive().await?;
            }
        })
    }
}
