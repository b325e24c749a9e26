//! Ranges of a blob that nobody is fetching, where the operator does not want them to begin a fetch.
//!
//! A lazy puller (SOCI, zstd:chunked) reads a few per cent of a layer, and a fill would fetch all of
//! it. So each range is one question to the upstream, nothing is stored, and a reader that leaves
//! ends it. A range that includes the blob's last byte is not passed: it may leave only when the
//! whole is verified, which takes a fill.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use super::download::Download;
use super::hot::lock;
use super::members::Membership;
use super::readers::{Reader, Readers};
use super::source::Source;
use super::{Error, Shared};
use crate::access::Grant;
use crate::http::{self, Next, Selection};
use crate::oci::Digest;

/// Whether no byte of these is the last of a blob of `total` bytes, or there are none.
fn can_pass(selection: &Selection, total: u64) -> bool {
    match selection {
        Selection::Whole => false,
        Selection::Part(part) => part.end < total,
        Selection::Parts(parts) => parts.iter().all(|part| part.end < total),
        Selection::TooMuch | Selection::Unsatisfiable => true,
    }
}

impl Shared {
    /// The blob, if this range of it is to be passed on; `None` if it takes a fill.
    pub(super) async fn passing(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        member: Option<Membership>,
        range: &str,
    ) -> Result<Option<Passing>, Error> {
        if grant.registry().fills_on_range() || self.is_filling(grant, digest) {
            return Ok(None);
        }
        Error::if_offline(grant)?;
        // What a manifest states, or was once answered; the rest is for the upstream to say.
        let total = match member.and_then(|member| member.size) {
            None => self.look_up(grant, digest).await?,
            known => known,
        };
        let Some(total) = total else { return Ok(None) };
        let selection = Selection::of(range, total);
        if !can_pass(&selection, total) {
            return Ok(None);
        }
        let readers = grant.is_of_client().then(Readers::default);
        let reader = readers.as_ref().map(|readers| readers.enter(grant));
        let source = Source::new(grant, digest, readers);
        Passing::begin(source, reader, total, &selection).await.map(Some)
    }
}

/// A blob to be passed on in parts.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    source: Source,
    /// With whose credential it is asked for, if that is the client's own.
    _reader: Option<Arc<Reader>>,
    total: u64,
    /// The first part, asked for before the answer's head was sent.
    begun: Arc<Mutex<Option<Begun>>>,
}

/// A part, and where its bytes come from.
type Begun = (Range<u64>, Download);

impl Passing {
    /// Asks for the first part of what is wanted, so that a refusal can still be told.
    async fn begin(
        source: Source,
        reader: Option<Arc<Reader>>,
        total: u64,
        selection: &Selection,
    ) -> Result<Self, Error> {
        let first = match selection {
            Selection::Part(part) => Some(part.clone()),
            Selection::Parts(parts) => parts.first().cloned(),
            Selection::TooMuch | Selection::Unsatisfiable | Selection::Whole => None,
        };
        let begun = match first {
            Some(part) => Some((part.clone(), open(&source, total, part).await?)),
            None => None,
        };
        Ok(Self { source, _reader: reader, total, begun: Arc::new(Mutex::new(begun)) })
    }

    /// The length of the whole blob.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The bytes of a part.
    pub(super) fn part(&self, part: Range<u64>) -> Passed {
        let begun = lock(&self.begun).take_if(|(begun, _)| *begun == part);
        Passed { passing: self.clone(), part, download: begun.map(|(_, download)| download) }
    }
}

async fn open(source: &Source, total: u64, part: Range<u64>) -> Result<Download, Error> {
    let download = Download::part(source.clone(), part).await?;
    if download.total().is_some_and(|told| told != total) {
        return Err(download.corrupt("it is not as long as was said before"));
    }
    Ok(download)
}

/// One part on its way.
pub(super) struct Passed {
    passing: Passing,
    part: Range<u64>,
    download: Option<Download>,
}

impl http::Source for Passed {
    fn next_now(&mut self) -> Option<Next> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = Next> + Send + '_>> {
        Box::pin(async move {
            let download = match &mut self.download {
                Some(download) => download,
                none => {
                    let Passing { source, total, .. } = &self.passing;
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
            assert_eq!(can_pass(&Selection::of(range, 100), 100), want, "{range}");
        }
    }
}
