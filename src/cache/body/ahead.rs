//! A body from a range that lies far ahead of the fill.
//!
//! It is fetched separately, if the fill's budget for such ranges allows it, and no longer than its
//! reader stays; otherwise it follows the fill. It never includes the blob's last byte, and when
//! the fill finds the blob wrong, the answer is cut.

use super::download::DownloadBody;
use super::growing::GrowingFileBody;
use super::late::LateBody;
use super::span::BodySpan;
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fill::progress::FillProgress;
use crate::cache::fill::table::FillHandle;
use crate::http::{BodySource, FileDelivery};

/// A reader of the bytes from `at` to `end`, which is not the blob's. Which way they come is
/// decided when the first are wanted.
pub(crate) fn ahead_range(
    fill: &FillHandle,
    delivery: &FileDelivery,
    at: u64,
    end: u64,
) -> LateBody {
    let span = BodySpan { at, end: Some(end), reaches_end: false };
    let (fill, following) = (fill.clone(), GrowingFileBody::new(fill, delivery, span));
    LateBody::new(async move {
        let written = match *fill.progress.borrow() {
            FillProgress::Filling { written, .. } => Some(written),
            _ => None,
        };
        let permit = written.and_then(|written| fill.ranges.reserve(&(at..end), written));
        if let Some(permit) = permit
            // A range that cannot be fetched separately may still come with the fill.
            && let Ok(download) = BlobDownload::part(fill.ranges.origin().clone(), at..end).await
        {
            let body = DownloadBody::new(download, end - at).read_by(fill.reader);
            return Ok(Box::new(body.beside(fill.progress, permit)) as Box<dyn BodySource>);
        }
        Ok(Box::new(following) as _)
    })
}
