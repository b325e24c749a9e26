//! The life of a pull of a blob: from the store, from a fill in flight, or by starting one.
//!
//! A blob is served in a repository only when the repository is known to have it. If the bytes are
//! stored but that is not known, the upstream is asked for existence alone. If they are not stored,
//! the upstream's 200 to the fetch is the proof.

use std::ops::Range;
use std::sync::Arc;

use super::body::ahead::ahead_range;
use super::body::fallback::BlobFallback;
use super::body::growing::GrowingFileBody;
use super::body::passthrough::{Passthrough, can_pass};
use super::body::rechecked::RecheckBody;
use super::body::span::BodySpan;
use super::body::stored::FileBody;
use super::fill::join::BlobFills;
use super::fill::progress::FillProgress;
use super::fill::table::FillHandle;
use super::presence::{BlobLookup, Presence, PresenceTable};
use super::question::{deadline, timed_out};
use super::recheck::{BlobRecheck, RecheckQueue, StoredContent};
use super::{BypassReason, CacheError, Decision, MissReason, Pulled};
use crate::access::Grant;
use crate::http::{
    BodySource, ClientPresence, FileDelivery, FramePool, RangeSelection, ReplyBody, SendfileQueue,
};
use crate::oci::Digest;
use crate::store::{ContentStore, StoredBlob};

/// The knowledge of a blob that its headers need before they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobNeed<'r> {
    /// Nothing: bytes may be sent without an announced length.
    Bytes,
    /// Its length: the connection cannot show where a body ends.
    Length,
    /// The length, to take this range of it.
    Range(&'r str),
}

/// The answer to a client that asks whether a blob exists.
#[derive(Clone, Copy, Debug)]
pub struct BlobHead {
    /// Its length in bytes, if the upstream stated it.
    pub total: Option<u64>,
}

/// A blob that can be read.
#[derive(Debug)]
pub struct Blob {
    total: Option<u64>,
    source: BlobSource,
    delivery: FileDelivery,
}

#[derive(Debug)]
enum BlobSource {
    Filling(FillHandle),
    Passing(Passthrough),
    /// Stored, and being verified again.
    Rechecking(Arc<BlobRecheck>, BlobFallback),
    Stored(StoredBlob, BlobFallback),
}

impl Blob {
    /// Sends files through `outlet`, if the client's connection has one.
    #[must_use]
    pub fn through(mut self, outlet: Option<SendfileQueue>) -> Self {
        self.delivery = self.delivery.through(outlet);
        self
    }

    /// Has the client's own credential used only while the client is there.
    #[must_use]
    pub fn read_while(self, presence: Option<&ClientPresence>) -> Self {
        if let (BlobSource::Filling(FillHandle { reader: Some(reader), .. }), Some(presence)) =
            (&self.source, presence)
        {
            reader.read_while(presence);
        }
        self
    }

    /// The length of the whole blob in bytes, if it is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Whether only verified bytes leave. If not, an answer that ends before the blob does is
    /// passed on as the upstream gave it.
    pub fn is_verified(&self) -> bool {
        match &self.source {
            BlobSource::Filling(fill) => {
                matches!(*fill.progress.borrow(), FillProgress::Done { .. })
            }
            BlobSource::Passing(_) => false,
            BlobSource::Rechecking(..) | BlobSource::Stored(..) => true,
        }
    }

    /// The body of an answer with the whole blob.
    pub fn whole(&self) -> ReplyBody {
        let span = BodySpan { at: 0, end: self.total, reaches_end: true };
        ReplyBody::of(self.source_of(span), self.total)
    }

    /// The bytes of `part`, which must lie within the blob.
    pub fn part(&self, part: Range<u64>) -> Box<dyn BodySource> {
        let reaches_end = self.total.is_none_or(|total| part.end == total);
        self.source_of(BodySpan { at: part.start, end: Some(part.end), reaches_end })
    }

    /// The bytes of `part`, which is [`RangeSelection::Footer`]: as the upstream gives them, if the
    /// blob is not verified.
    pub fn footer(&self, part: Range<u64>) -> Box<dyn BodySource> {
        self.source_of(BodySpan { at: part.start, end: Some(part.end), reaches_end: false })
    }

    fn source_of(&self, span: BodySpan) -> Box<dyn BodySource> {
        let BodySpan { at, end, reaches_end } = span;
        let delivery = &self.delivery;
        match &self.source {
            BlobSource::Filling(fill) => {
                if let Some(end) = end.filter(|_| !reaches_end) {
                    return Box::new(ahead_range(fill, delivery, at..end));
                }
                Box::new(GrowingFileBody::new(fill, delivery, span))
            }
            // It is only ever asked for in parts.
            BlobSource::Passing(passing) => {
                Box::new(passing.part(at..end.unwrap_or(passing.total())))
            }
            BlobSource::Rechecking(recheck, fallback) => {
                let (recheck, fallback) = (Arc::clone(recheck), fallback.clone());
                let end = end.unwrap_or(recheck.blob().len());
                Box::new(RecheckBody::new(recheck, fallback, delivery.clone(), at, end))
            }
            BlobSource::Stored(blob, fallback) => {
                let end = end.unwrap_or(blob.content().len());
                Box::new(FileBody::new(blob.content().file(), delivery, fallback, at, end))
            }
        }
    }
}

/// Pulls blobs.
#[derive(Debug)]
pub(super) struct BlobPulls {
    pub(super) presence: Arc<PresenceTable>,
    pub(super) lookup: Arc<BlobLookup>,
    pub(super) rechecks: Arc<RecheckQueue>,
    pub(super) fills: Arc<BlobFills>,
    pub(super) content: ContentStore,
    pub(super) frames: FramePool,
}

impl BlobPulls {
    /// A blob, ready to be read as soon as its first bytes are.
    pub(super) async fn pull(
        &self,
        grant: &Grant,
        digest: &Digest,
        need: BlobNeed<'_>,
    ) -> Result<Pulled<Blob>, CacheError> {
        let member = self.presence.find(grant, digest).await;
        let size = member.and_then(|member| member.size);
        if let Some(blob) = self.rechecks.find(digest, size).await {
            if member.is_none() {
                self.lookup.prove(grant, digest, Some(blob.len())).await?;
            }
            return Ok(self.hit(grant, digest, blob));
        }
        if let BlobNeed::Range(range) = need
            && let Some(passing) = Box::pin(self.pass_through(grant, digest, member, range)).await?
        {
            let total = Some(passing.total());
            let decision = Decision::Bypass(BypassReason::Range);
            return Ok(self.pulled(BlobSource::Passing(passing), total, decision));
        }
        self.fill(grant, digest, member, need).await
    }

    /// Whether a blob exists, and how long it is. Never starts a fetch of its bytes.
    pub(super) async fn head(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<BlobHead>, CacheError> {
        let member = self.presence.find(grant, digest).await;
        let is_known = if grant.may_push() {
            self.presence.is_confirmed(grant, digest)
        } else {
            member.is_some()
        };
        let size = member.and_then(|member| member.size);
        if is_known && let Some(len) = self.length(grant, digest, size).await {
            let what = BlobHead { total: Some(len) };
            return Ok(Pulled { what, decision: Decision::Hit, age: None });
        }
        if let Some(len) = self.filling_length(grant, digest, is_known).await {
            let reason = MissReason::of(self.fills.was_evicted(digest));
            let decision = Decision::Miss { collapsed: true, unverified: false, reason };
            return Ok(Pulled { what: BlobHead { total: Some(len) }, decision, age: None });
        }
        // Some registries answer a HEAD without a length, or with a wrong one. A manifest has it.
        let named = self.presence.find(grant, digest).await.and_then(|known| known.size);
        let known = self.rechecks.find(digest, named).await.map(|blob| blob.len()).or(named);
        let stated = self.lookup.look_up(grant, digest, known).await?;
        let what = BlobHead { total: named.or(stated) };
        Ok(Pulled { what, decision: Decision::Bypass(BypassReason::Lookup), age: None })
    }

    /// The length in bytes of a blob whose fill runs. The answer to a fill proves that its own
    /// repository has the blob; clients that push are told so only where it is confirmed.
    async fn filling_length(&self, grant: &Grant, digest: &Digest, is_known: bool) -> Option<u64> {
        let fill = self.fills.table().get(grant, digest)?;
        let is_here = self.fills.is_proof(grant, &fill) && !grant.may_push();
        if !is_known && !is_here {
            return None;
        }
        fill.headers(false, deadline()).await?.total()
    }

    /// The length in bytes of a blob that is stored, or verified and about to be.
    async fn length(&self, grant: &Grant, digest: &Digest, size: Option<u64>) -> Option<u64> {
        match self.fills.table().verified(grant, digest) {
            Some(blob) => Some(blob.content().len()),
            None => self.rechecks.find(digest, size).await.map(|blob| blob.len()),
        }
    }

    /// The length in bytes of a blob, as far as it is known without asking an upstream.
    pub(super) async fn known_length(&self, grant: &Grant, digest: &Digest) -> Option<u64> {
        let member = self.presence.find(grant, digest).await;
        let size = member.and_then(|member| member.size);
        match self.rechecks.find(digest, size).await {
            Some(blob) => Some(blob.len()),
            None => size,
        }
    }

    fn hit(&self, grant: &Grant, digest: &Digest, blob: StoredContent) -> Pulled<Blob> {
        let total = blob.len();
        let fallback = BlobFallback {
            fills: Arc::clone(&self.fills),
            presence: Arc::clone(&self.presence),
            content: self.content.clone(),
            grant: grant.clone(),
            digest: digest.clone(),
            total,
        };
        let source = match blob {
            StoredContent::Checking(recheck) => BlobSource::Rechecking(recheck, fallback),
            StoredContent::Verified(blob) => BlobSource::Stored(blob, fallback),
        };
        self.pulled(source, Some(total), Decision::Hit)
    }

    fn pulled(&self, source: BlobSource, total: Option<u64>, decision: Decision) -> Pulled<Blob> {
        let what = Blob { total, source, delivery: FileDelivery::new(self.frames.clone()) };
        Pulled { what, decision, age: None }
    }

    /// The blob, if this range of it is to be passed through; `None` if it takes a fill.
    async fn pass_through(
        &self,
        grant: &Grant,
        digest: &Digest,
        member: Option<Presence>,
        range: &str,
    ) -> Result<Option<Passthrough>, CacheError> {
        if grant.registry().fills_on_range() || self.fills.table().has(grant, digest) {
            return Ok(None);
        }
        CacheError::if_offline(grant)?;
        let total = match member.and_then(|member| member.size) {
            None => self.lookup.look_up(grant, digest, None).await?,
            known => known,
        };
        let Some(total) = total else { return Ok(None) };
        let selection = RangeSelection::of(range, total);
        if !can_pass(&selection, total) || self.is_parallel(digest, &selection).await {
            return Ok(None);
        }
        match Passthrough::open(grant, digest, total, &selection).await {
            // A fill asks for a manifest that names it, and then again.
            Err(error) if error.is_not_found() && member.is_some() => Ok(None),
            opened => opened,
        }
    }

    /// Whether the selection is one of several ranges by which a client pulls all of the blob: one
    /// fill is less for the upstream.
    async fn is_parallel(&self, digest: &Digest, selection: &RangeSelection) -> bool {
        let RangeSelection::Part(part) = selection else { return false };
        self.fills.table().parallel().has_neighbour(digest, part).await
    }

    /// The blob from its fill, which is started if none is in flight.
    async fn fill(
        &self,
        grant: &Grant,
        digest: &Digest,
        member: Option<Presence>,
        need: BlobNeed<'_>,
    ) -> Result<Pulled<Blob>, CacheError> {
        CacheError::if_offline(grant)?;
        let until = deadline();
        loop {
            let reason = MissReason::of(self.fills.was_evicted(digest));
            let fill = self.fills.join(grant, digest, member);
            // All that is missing is that the disk confirms it.
            let was_done =
                fill.is_joined && matches!(*fill.progress.borrow(), FillProgress::Done { .. });
            let is_unproven = fill.is_joined && !self.fills.is_proof(grant, &fill);
            let progress = fill.headers(need != BlobNeed::Bytes, until).await;
            let progress = progress.ok_or_else(|| timed_out(grant))?;
            if let FillProgress::Failed(error) = &progress
                && fill.is_joined
                && (is_unproven || error.is_of_another_client(grant))
            {
                continue;
            }
            if is_unproven && member.is_none() {
                self.lookup.prove(grant, digest, progress.total()).await?;
            }
            if was_done && matches!(progress, FillProgress::Done { .. }) {
                return Ok(self.pulled(BlobSource::Filling(fill), progress.total(), Decision::Hit));
            }
            return self.filled(grant, fill, progress, need, reason);
        }
    }

    /// The blob from a fill that is ready for headers.
    fn filled(
        &self,
        grant: &Grant,
        fill: FillHandle,
        progress: FillProgress,
        need: BlobNeed<'_>,
        reason: MissReason,
    ) -> Result<Pulled<Blob>, CacheError> {
        let total = progress.total();
        let miss = Decision::Miss { collapsed: fill.is_joined, unverified: false, reason };
        match progress {
            FillProgress::Asking => Err(CacheError::Internal("a fill is not ready")),
            FillProgress::Failed(error) => Err(error),
            // Until the disk has confirmed it, its file is not to be believed for longer.
            FillProgress::Done { .. } | FillProgress::Filling { .. } => {
                Ok(self.pulled(BlobSource::Filling(fill), total, miss))
            }
            // Without a length no range can be selected, and no end be seen.
            FillProgress::Relaying { .. } if need != BlobNeed::Bytes && total.is_none() => {
                let host = grant.registry().upstream().host().to_owned();
                Err(CacheError::NoLength { host })
            }
            FillProgress::Relaying { point, .. } => {
                let decision = Decision::Bypass(point.bypass());
                Ok(self.pulled(BlobSource::Filling(fill), total, decision))
            }
        }
    }
}
