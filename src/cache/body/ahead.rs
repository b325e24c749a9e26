//! A body from a range that lies far ahead of the fill.
//!
//! It is fetched separately, if the fill does not reach it soon and the budget for such ranges
//! allows it, and no longer than its reader stays; otherwise it follows the fill. It is as the
//! upstream gave it, and includes the blob's last byte as a footer only. When the fill finds the
//! blob wrong, the answer is cut.

use std::ops::Range;

use tokio::time::timeout;

use super::download::DownloadBody;
use super::growing::GrowingFileBody;
use super::late::LateBody;
use super::span::BodySpan;
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fill::progress::FillProgress;
use crate::cache::fill::table::FillHandle;
use crate::http::{BodySource, FileDelivery};

/// A reader of this range. Which way its bytes come is decided when the first are wanted.
pub(crate) fn ahead_range(
    fill: &FillHandle,
    delivery: &FileDelivery,
    range: Range<u64>,
) -> LateBody {
    let span = BodySpan { at: range.start, end: Some(range.end), reaches_end: false };
    let (fill, following) = (fill.clone(), GrowingFileBody::new(fill, delivery, span));
    LateBody::new(async move {
        let (written, total) = match *fill.progress.borrow() {
            FillProgress::Filling { written, total, .. } => (Some(written), total),
            _ => (None, None),
        };
        let Some(written) = written else { return Ok(Box::new(following) as _) };
        let patience = fill.ranges.patience(&range, written).await;
        if timeout(patience, fill.reached(range.start)).await.is_err()
            && let Some(permit) = fill.ranges.reserve(&range)
            && let Some(download) = fetch(&fill, &range, total).await
        {
            let body = DownloadBody::new(download, range.end - range.start).read_by(fill.reader);
            return Ok(Box::new(body.beside(fill.progress, permit)) as Box<dyn BodySource>);
        }
        Ok(Box::new(following) as _)
    })
}

/// The range straight from the upstream. One that cannot be fetched separately, or that the fill
/// reaches before the upstream answers, comes with the fill, of a blob of `total` bytes.
async fn fetch(fill: &FillHandle, range: &Range<u64>, total: Option<u64>) -> Option<BlobDownload> {
    let origin = fill.ranges.origin().clone();
    let download = tokio::select! {
        download = BlobDownload::part(origin, range.clone()) => download.ok()?,
        () = fill.reached(range.start) => return None,
    };
    if download.is_cut_out() {
        fill.ranges.close();
    }
    let is_of_another = download.total().is_some_and(|now| total.is_some_and(|total| now != total));
    (!download.is_cut_out() && !is_of_another).then_some(download)
}
