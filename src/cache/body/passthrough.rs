//! Ranges of a blob that nobody is fetching, where the operator does not want them to begin a fetch.
//!
//! A lazy puller (SOCI, zstd:chunked) reads a few per cent of a layer, and a fill would fetch all of
//! it. So each range is one question to the upstream, nothing is stored, and a reader that leaves
//! ends it. A range that includes the blob's last byte is not passed: it may leave only when the
//! whole is verified, which takes a fill.

use parking_lot::Mutex;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use crate::access::Grant;
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fetch::reader_credentials::{FillReader, FillReaders};
use crate::cache::presence::Presence;
use crate::cache::{CacheError, Shared};
use crate::http::{self, NextBytes, RangeSelection};
use crate::oci::Digest;

/// Whether no byte of these is the last of a blob of `total` bytes, or there are none.
fn can_pass(selection: &RangeSelection, total: u64) -> bool {
    match selection {
        RangeSelection::Whole => false,
        RangeSelection::Part(part) => part.end < total,
        RangeSelection::Parts(parts) => parts.iter().all(|part| part.end < total),
        RangeSelection::TooMuch | RangeSelection::Unsatisfiable => true,
    }
}

impl Shared {
    /// The blob, if this range of it is to be passed on; `None` if it takes a fill.
    pub(crate) async fn passing(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        member: Option<Presence>,
        range: &str,
    ) -> Result<Option<Passthrough>, CacheError> {
        if grant.registry().fills_on_range() || self.is_filling(grant, digest) {
            return Ok(None);
        }
        CacheError::if_offline(grant)?;
        // What a manifest states, or was once answered; the rest is for the upstream to say.
        let total = match member.and_then(|member| member.size) {
            None => self.lookup.look_up(grant, digest).await?,
            known => known,
        };
        let Some(total) = total else { return Ok(None) };
        let selection = RangeSelection::of(range, total);
        if !can_pass(&selection, total) {
            return Ok(None);
        }
        let readers = grant.uses_client_credential().then(FillReaders::default);
        let reader = readers.as_ref().map(|readers| readers.enter(grant));
        let source = BlobOrigin::new(grant, digest, readers);
        Passthrough::begin(source, reader, total, &selection).await.map(Some)
    }
}

/// A blob to be passed on in parts.
#[derive(Clone, Debug)]
pub(crate) struct Passthrough {
    source: BlobOrigin,
    /// With whose credential it is asked for, if that is the client's own.
    _reader: Option<Arc<FillReader>>,
    total: u64,
    /// The first part, asked for before the answer's head was sent.
    begun: Arc<Mutex<Option<PartBody>>>,
}

/// A part, and where its bytes come from.
type PartBody = (Range<u64>, BlobDownload);

impl Passthrough {
    /// Asks for the first part of what is wanted, so that a refusal can still be told.
    async fn begin(
        source: BlobOrigin,
        reader: Option<Arc<FillReader>>,
        total: u64,
        selection: &RangeSelection,
    ) -> Result<Self, CacheError> {
        let first = match selection {
            RangeSelection::Part(part) => Some(part.clone()),
            RangeSelection::Parts(parts) => parts.first().cloned(),
            RangeSelection::TooMuch | RangeSelection::Unsatisfiable | RangeSelection::Whole => None,
        };
        let begun = match first {
            Some(part) => Some((part.clone(), open(&source, total, part).await?)),
            None => None,
        };
        Ok(Self { source, _reader: reader, total, begun: Arc::new(Mutex::new(begun)) })
    }

    /// The length of the whole blob.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The bytes of a part.
    pub(crate) fn part(&self, part: Range<u64>) -> PassthroughBody {
        let begun = self.begun.lock().take_if(|(begun, _)| *begun == part);
        PassthroughBody {
            passing: self.clone(),
            part,
            download: begun.map(|(_, download)| download),
        }
    }
}

async fn open(
    source: &BlobOrigin,
    total: u64,
    part: Range<u64>,
) -> Result<BlobDownload, CacheError> {
    let download = BlobDownload::part(source.clone(), part).await?;
    if download.total().is_some_and(|told| told != total) {
        return Err(download.corrupt("it is not as long as was said before"));
    }
    Ok(download)
}

/// One part on its way.
pub(crate) struct PassthroughBody {
    passing: Passthrough,
    part: Range<u64>,
    download: Option<BlobDownload>,
}

impl http::BodySource for PassthroughBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            let download = match &mut self.download {
                Some(download) => download,
                none => {
                    let Passthrough { source, total, .. } = &self.passing;
                    none.insert(open(source, *total, self.part.clone()).await?)
                }
            };
            Ok(download.chunk().await?.map(Into::into))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_last_byte_is_not_passed() {
        for (range, want) in [
            ("bytes=0-0", true),
            ("bytes=0-98", true),
            ("bytes=0-99", false),
            ("bytes=0-", false),
            ("bytes=-1", false),
            ("bytes=0-1,50-60", true),
            ("bytes=0-1,90-", false),
            ("bytes=100-", true),
            ("garbage", false),
        ] {
            assert_eq!(can_pass(&RangeSelection::of(range, 100), 100), want, "{range}");
        }
    }
}
