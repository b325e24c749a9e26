//! A body straight from an upstream, not stored and not verified.
//!
//! It includes the blob's last byte as a footer only, so no client can take it for the whole.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::cache::CacheError;
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::reader_credentials::FillReader;
use crate::cache::fill::progress::FillProgress;
use crate::http::{BodySource, NextBytes};

/// The next bytes of a download.
pub(crate) struct DownloadBody {
    download: BlobDownload,
    /// How many bytes are still to be sent.
    left: u64,
    fill: Option<FillBeside>,
    /// Its credential may be used for the download as long as this is held.
    _reader: Option<Arc<FillReader>>,
}

/// The fill of the same blob. If that finds the blob wrong, the body ends with its error.
struct FillBeside {
    progress: watch::Receiver<FillProgress>,
    _permit: OwnedSemaphorePermit,
}

impl DownloadBody {
    /// The next `len` bytes of the download.
    pub(super) fn new(download: BlobDownload, len: u64) -> Self {
        Self { download, left: len, fill: None, _reader: None }
    }

    /// Fetched on behalf of this reader.
    pub(super) fn read_by(self, reader: Option<Arc<FillReader>>) -> Self {
        Self { _reader: reader, ..self }
    }

    /// Fetched beside a fill, under this permit.
    pub(super) fn beside(
        self,
        progress: watch::Receiver<FillProgress>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { fill: Some(FillBeside { progress, _permit: permit }), ..self }
    }
}

/// Waits until the fill fails, for ever if it does not, or if there is none.
async fn failure(fill: &mut Option<FillBeside>) -> CacheError {
    let Some(FillBeside { progress, .. }) = fill else { return pending().await };
    let is_failed = |progress: &FillProgress| matches!(progress, FillProgress::Failed(_));
    let failed = progress.wait_for(is_failed).await.map(|progress| progress.clone());
    match failed {
        Ok(FillProgress::Failed(error)) => error,
        _ => pending().await,
    }
}

impl BodySource for DownloadBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        (self.left == 0).then_some(Ok(None))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async {
            let chunk = tokio::select! {
                biased;
                error = failure(&mut self.fill) => return Err(error.into()),
                chunk = self.download.chunk() => chunk?,
            };
            let mut chunk = chunk.ok_or("the range ended early")?;
            // The download of a fill goes on to the blob's end.
            chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= chunk.len() as u64;
            Ok(Some(chunk.into()))
        })
    }
}
