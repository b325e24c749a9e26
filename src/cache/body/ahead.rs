//! A range that lies far ahead of the fill, fetched on its own.
//!
//! A lazy puller asks for a few chunks anywhere in a layer and cannot wait until a fill has come
//! by. Such ranges are fetched beside the fill: few at a time for each blob, only so many bytes
//! altogether (what every client reads that way is read twice from the upstream), and no longer
//! than their reader stays. What exceeds that, and what has no end, follows the fill.
//!
//! The bytes are passed on as the upstream gives them. They never include the blob's last byte,
//! and when the fill finds the blob wrong the answer is cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::cache::CacheError;
use crate::cache::body::growing::{BodySpan, GrowingFileBody};
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fetch::reader_credentials::FillReader;
use crate::cache::fill::table::FillProgress;
use crate::http::{self, NextBytes};

/// What may be fetched beside one fill.
#[derive(Clone, Debug)]
pub(crate) struct SideFetches {
    source: BlobOrigin,
    places: Arc<Semaphore>,
    bytes_left: Arc<AtomicU64>,
}

impl SideFetches {
    pub(crate) fn new(source: BlobOrigin) -> Self {
        let places = Arc::new(Semaphore::new(FETCHES_MAX));
        Self { source, places, bytes_left: Arc::new(AtomicU64::new(BYTES_MAX)) }
    }

    /// A place for a range, if it is far ahead of what is `written` and there is room.
    fn place(&self, span: &BodySpan, written: u64) -> Option<OwnedSemaphorePermit> {
        let end = span.end.filter(|_| !span.reaches_end)?;
        if span.at < written.saturating_add(NEAR_BYTES) {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let take = |left: u64| left.checked_sub(end - span.at);
        self.bytes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(place)
    }
}

/// At once for each blob. A lazy puller's own parallelism is 3 to 20.
const FETCHES_MAX: usize = 4;

/// Altogether for each fill.
const BYTES_MAX: u64 = 64 << 20;

/// What the fill will reach sooner than a request of its own would be answered.
const NEAR_BYTES: u64 = 8 << 20;

/// One reader of a range that ends before the blob does.
pub(crate) struct AheadRange {
    state: AheadState,
    fetches: SideFetches,
    progress: watch::Receiver<FillProgress>,
    span: BodySpan,
    /// That it is there, while it is.
    _presence: Option<Arc<FillReader>>,
}

enum AheadState {
    /// On its own.
    Fetching { download: BlobDownload, _place: OwnedSemaphorePermit },
    /// Behind the fill.
    Following(GrowingFileBody),
    /// Nothing is asked for yet.
    Idle(GrowingFileBody),
    /// Broken off.
    Over,
}

impl AheadRange {
    /// A reader of `span`, which `follow` reads, too. Which way it takes is decided when its
    /// first bytes are wanted.
    pub(crate) fn new(
        follow: GrowingFileBody,
        fetches: SideFetches,
        progress: watch::Receiver<FillProgress>,
        span: BodySpan,
    ) -> Self {
        Self { state: AheadState::Idle(follow), fetches, progress, span, _presence: None }
    }

    /// The same for a reader with a credential of its own.
    pub(crate) fn of(self, reader: Option<Arc<FillReader>>) -> Self {
        Self { _presence: reader, ..self }
    }

    async fn begin(&mut self, follow: GrowingFileBody) -> AheadState {
        let place = match &*self.progress.borrow() {
            FillProgress::Filling { written, .. } => self.fetches.place(&self.span, *written),
            _ => None,
        };
        let Some(place) = place else { return AheadState::Following(follow) };
        // What cannot be had on its own may still come by with the fill.
        let part = self.span.at..self.span.end.unwrap_or(u64::MAX);
        match BlobDownload::part(self.fetches.source.clone(), part).await {
            Ok(download) => AheadState::Fetching { download, _place: place },
            Err(_) => AheadState::Following(follow),
        }
    }

    async fn fetch(&mut self, download: &mut BlobDownload) -> NextBytes {
        let chunk = tokio::select! {
            biased;
            error = failure(&mut self.progress) => return Err(error.into()),
            chunk = download.chunk() => chunk?,
        };
        let chunk = chunk.ok_or("the range ended before its end")?;
        self.span.at += chunk.len() as u64;
        Ok(Some(chunk.into()))
    }
}

/// Waits until the fill fails, for ever if it does not.
async fn failure(progress: &mut watch::Receiver<FillProgress>) -> CacheError {
    loop {
        if let FillProgress::Failed(error) = &*progress.borrow_and_update() {
            return error.clone();
        }
        if progress.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl http::BodySource for AheadRange {
    fn next_now(&mut self) -> Option<NextBytes> {
        match &mut self.state {
            AheadState::Fetching { .. } => self.span.is_over().then_some(Ok(None)),
            AheadState::Following(follow) => follow.next_now(),
            AheadState::Idle(_) => None,
            AheadState::Over => Some(Ok(None)),
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            let mut state = match std::mem::replace(&mut self.state, AheadState::Over) {
                AheadState::Idle(follow) => self.begin(follow).await,
                state => state,
            };
            let next = match &mut state {
                AheadState::Fetching { download, .. } => self.fetch(download).await,
                AheadState::Following(follow) => follow.next().await,
                AheadState::Idle(_) | AheadState::Over => Ok(None),
            };
            if next.is_ok() {
                self.state = state;
            }
            next
        })
    }
}
