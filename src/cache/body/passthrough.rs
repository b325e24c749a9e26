//! Ranges of a blob that is neither stored nor being filled, where ranges start no fill
//! (`fill_on_range = false`).
//!
//! A lazy puller (SOCI, zstd:chunked) reads a few per cent of a layer, and a fill would fetch all
//! of it. So each range is one request upstream, nothing is stored, and the request ends with its
//! reader. A range that includes the blob's last byte takes a fill, unless it is a footer: it may
//! leave only when the whole is verified.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::download::DownloadBody;
use super::late::LateBody;
use crate::access::Grant;
use crate::cache::CacheError;
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fetch::reader_credentials::{FillReader, FillReaders};
use crate::http::RangeSelection;
use crate::oci::Digest;

/// Whether the selected bytes of a blob of `total` bytes may leave before the whole is verified, or
/// none is selected.
pub(crate) fn can_pass(selection: &RangeSelection, total: u64) -> bool {
    match selection {
        RangeSelection::Whole => false,
        RangeSelection::Part(part) => part.end < total,
        RangeSelection::Parts(parts) => parts.iter().all(|part| part.end < total),
        RangeSelection::Footer(_) | RangeSelection::TooMuch | RangeSelection::Unsatisfiable => true,
    }
}

/// A blob to be passed through in parts.
#[derive(Clone, Debug)]
pub(crate) struct Passthrough {
    origin: BlobOrigin,
    /// The client, where its own credential is used.
    reader: Option<Arc<FillReader>>,
    total: u64,
    /// The first part, which was asked for before the headers were sent.
    first: Arc<Mutex<Option<FirstPart>>>,
}

#[derive(Debug)]
struct FirstPart {
    range: Range<u64>,
    download: BlobDownload,
}

impl Passthrough {
    /// Asks for the first of the selected parts, so that the status can still tell of a refusal.
    /// `total` is the blob's length in bytes. `None` if the upstream ignores `Range`: a fill brings
    /// all parts for the price of one.
    pub(crate) async fn open(
        grant: &Grant,
        digest: &Digest,
        total: u64,
        selection: &RangeSelection,
    ) -> Result<Option<Self>, CacheError> {
        let readers = grant.uses_client_credential().then(FillReaders::default);
        let reader = readers.as_ref().map(|readers| readers.enter(grant));
        let origin = BlobOrigin::new(grant, digest, readers);
        let this = Self { origin, reader, total, first: Arc::default() };
        let range = match selection {
            RangeSelection::Footer(part) | RangeSelection::Part(part) => Some(part),
            RangeSelection::Parts(parts) => parts.first(),
            RangeSelection::TooMuch | RangeSelection::Unsatisfiable | RangeSelection::Whole => None,
        };
        if let Some(range) = range.cloned() {
            let download = this.download(range.clone()).await?;
            if download.is_cut_out() {
                return Ok(None);
            }
            *this.first.lock() = Some(FirstPart { range, download });
        }
        Ok(Some(this))
    }

    /// The length of the whole blob in bytes.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The bytes of a part.
    pub(crate) fn part(&self, range: Range<u64>) -> LateBody {
        let first = self.first.lock().take_if(|first| first.range == range);
        let this = self.clone();
        LateBody::new(async move {
            let len = range.end - range.start;
            let download = match first {
                Some(first) => first.download,
                None => this.download(range).await?,
            };
            Ok(Box::new(DownloadBody::new(download, len).read_by(this.reader)) as _)
        })
    }

    async fn download(&self, range: Range<u64>) -> Result<BlobDownload, CacheError> {
        let download = BlobDownload::part(self.origin.clone(), range).await?;
        if download.total().is_some_and(|total| total != self.total) {
            return Err(download.corrupt("length differs from the one announced before"));
        }
        Ok(download)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_with_the_last_byte_is_not_passed_through_unless_it_is_a_footer() {
        for (range, want) in [
            ("bytes=0-0", true),
            ("bytes=0-98", true),
            ("bytes=0-99", false),
            ("bytes=0-", false),
            ("bytes=-1", true),
            ("bytes=60-99", true),
            ("bytes=60-", false),
            ("bytes=-100", false),
            ("bytes=0-1,50-60", true),
            ("bytes=0-1,90-", false),
            ("bytes=100-", true),
            ("garbage", false),
        ] {
            assert_eq!(can_pass(&RangeSelection::of(range, 100), 100), want, "{range}");
        }
    }
}
