//! Blobs: from the store, from a running fill, or by starting one.
//!
//! A blob is served in a repository only when the repository is known to have it. If the bytes are
//! here but that is not known, the upstream is asked for existence alone; if they are not here, the
//! upstream's 200 to the fetch is the proof.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::body::ahead::AheadRange;
use super::body::growing::{BodySpan, FileBody, GrowingFileBody};
use super::body::passthrough::Passthrough;
use super::body::rechecked::{RecheckBody, RecheckFallback};
use super::fill::table::{FillHandle, FillProgress};
use super::presence::Presence;
use super::question::{HEADERS_WAIT_MAX, deadline};
use super::recheck::{BlobRecheck, StoredContent};
use super::{BypassReason, CacheError, Decision, Pulled, Shared};
use crate::access::Grant;
use crate::http::{BodySource, FileDelivery, ReplyBody, SendfileQueue};
use crate::oci::Digest;
use crate::store::StoredBlob;

/// What has to be known of a blob before its headers can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobNeed<'r> {
    /// Nothing: bytes may be sent without an announced length.
    Bytes,
    /// Its length: the connection cannot show where a body ends.
    Length,
    /// The length, to take this range of it.
    Range(&'r str),
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
    /// Stored, and being verified again.
    Checking(Arc<BlobRecheck>, RecheckFallback),
    Filling(FillHandle),
    Passing(Passthrough),
    Stored(StoredBlob),
}

/// That a blob exists.
#[derive(Clone, Copy, Debug)]
pub struct BlobHead {
    /// Its length, where the upstream told.
    pub total: Option<u64>,
}

impl Blob {
    /// Has files sent through `outlet`, where the client's connection has one.
    #[must_use]
    pub fn through(mut self, outlet: Option<SendfileQueue>) -> Self {
        self.delivery = self.delivery.through(outlet);
        self
    }

    /// The length of the whole blob, where it is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Whether only bytes leave that are known to be right. If not, an answer that ends before the
    /// blob does brings what the upstream gave.
    pub fn is_verified(&self) -> bool {
        matches!(self.source, BlobSource::Checking(..) | BlobSource::Stored(_))
    }

    /// The body of an answer with the whole blob.
    pub fn whole(&self) -> ReplyBody {
        ReplyBody::of(self.source_of(0, self.total), self.total)
    }

    /// The bytes of `part`, which must lie within the blob.
    pub fn part(&self, part: Range<u64>) -> Box<dyn BodySource> {
        self.source_of(part.start, Some(part.end))
    }

    fn source_of(&self, at: u64, end: Option<u64>) -> Box<dyn BodySource> {
        let delivery = &self.delivery;
        match &self.source {
            BlobSource::Checking(check, elsewhere) => {
                let end = end.unwrap_or(check.due().len());
                Box::new(RecheckBody::new(
                    Arc::clone(check),
                    elsewhere.clone(),
                    delivery.clone(),
                    at,
                    end,
                ))
            }
            BlobSource::Filling(FillHandle { progress, side, reader, .. }) => {
                let span = BodySpan { at, end, reaches_end: end == self.total };
                let follow = GrowingFileBody::new(progress.clone(), delivery.clone(), span);
                let follow = follow.of(reader.clone());
                if span.reaches_end {
                    return Box::new(follow);
                }
                let side = AheadRange::new(follow, side.clone(), progress.clone(), span);
                Box::new(side.of(reader.clone()))
            }
            // Only parts of it are ever asked for.
            BlobSource::Passing(passing) => {
                Box::new(passing.part(at..end.or(self.total).unwrap_or(at)))
            }
            BlobSource::Stored(blob) => {
                let (file, whole) = (blob.content().file(), blob.content().len());
                Box::new(FileBody::new(file, delivery, at, end.unwrap_or(whole)))
            }
        }
    }
}

impl Shared {
    pub(super) async fn blob(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        need: BlobNeed<'_>,
    ) -> Result<Pulled<Blob>, CacheError> {
        let member = self.presence.find(grant, digest).await;
        if let Some(blob) = self.stored(digest).await {
            if member.is_none() {
                self.lookup.look_up(grant, digest).await?;
            }
            return Ok(self.hit(grant, blob));
        }
        if let BlobNeed::Range(range) = need
            && let Some(passing) = Box::pin(self.passing(grant, digest, member, range)).await?
        {
            let (total, source) = (Some(passing.total()), BlobSource::Passing(passing));
            let delivery = FileDelivery::new(self.frames.clone());
            let decision = Decision::Bypass(BypassReason::Range);
            return Ok(Pulled { what: Blob { total, source, delivery }, decision, age: None });
        }
        self.filled(grant, digest, member, need).await
    }

    pub(super) async fn blob_head(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<BlobHead>, CacheError> {
        let is_known = if grant.may_push() {
            self.presence.is_confirmed(grant, digest)
        } else {
            self.presence.find(grant, digest).await.is_some()
        };
        let found = match self.proven(grant, digest) {
            _ if !is_known => None,
            Some(blob) => Some(StoredContent::Verified(blob)),
            None => self.stored(digest).await,
        };
        if let Some(blob) = found {
            let total = Some(blob.len());
            return Ok(Pulled { what: BlobHead { total }, decision: Decision::Hit, age: None });
        }
        let total = self.lookup.look_up(grant, digest).await?;
        let decision = Decision::Bypass(BypassReason::Lookup);
        Ok(Pulled { what: BlobHead { total }, decision, age: None })
    }

    fn hit(self: &Arc<Self>, grant: &Grant, blob: StoredContent) -> Pulled<Blob> {
        let total = Some(blob.len());
        let source = match blob {
            StoredContent::Checking(check) => {
                let elsewhere = RecheckFallback { shared: Arc::clone(self), grant: grant.clone() };
                BlobSource::Checking(check, elsewhere)
            }
            StoredContent::Verified(blob) => BlobSource::Stored(blob),
        };
        let what = Blob { total, source, delivery: FileDelivery::new(self.frames.clone()) };
        Pulled { what, decision: Decision::Hit, age: None }
    }

    /// Follows the fill of the blob, which is started if there is none.
    async fn filled(
        self: &Arc<Self>,
        grant: &Grant,
        digest: &Digest,
        member: Option<Presence>,
        need: BlobNeed<'_>,
    ) -> Result<Pulled<Blob>, CacheError> {
        CacheError::if_offline(grant)?;
        let until = deadline();
        loop {
            let (joined, filling) = self.join_fill(grant, digest, member);
            // A fill proves that its own repository has the blob, and no other.
            let asked_elsewhere = joined && filling.repository != *grant.repository();
            let is_there =
                joined && matches!(*filling.progress.borrow(), FillProgress::Done { .. });
            if asked_elsewhere && member.is_none() {
                self.lookup.look_up(grant, digest).await?;
            }
            let ready = wait_for_headers(filling.progress.clone(), need, until).await;
            let Some(ready) = ready else {
                let host = grant.registry().upstream().host().to_owned();
                return Err(CacheError::TimedOut { host, waited: HEADERS_WAIT_MAX });
            };
            match ready {
                // All that is missing is that the disk says so.
                FillProgress::Done { blob, .. } if is_there => {
                    return Ok(self.hit(grant, StoredContent::Verified(blob)));
                }
                FillProgress::Done { blob, .. } => {
                    let decision = Decision::Miss { collapsed: joined, unverified: false };
                    return Ok(Pulled {
                        decision,
                        ..self.hit(grant, StoredContent::Verified(blob))
                    });
                }
                // What another repository was refused says nothing about this one, nor what another
                // client was.
                FillProgress::Failed(_) if asked_elsewhere => {}
                FillProgress::Failed(error)
                    if joined && grant.uses_client_credential() && error.is_about_the_asker() => {}
                FillProgress::Failed(error) => return Err(error),
                FillProgress::Filling { total, .. } => {
                    let decision = Decision::Miss { collapsed: joined, unverified: false };
                    return Ok(self.following(filling, total, decision));
                }
                // Without a length there is nothing to select from, and no end that could be seen.
                FillProgress::Relaying { point, .. }
                    if need != BlobNeed::Bytes && point.total().is_none() =>
                {
                    let host = grant.registry().upstream().host().to_owned();
                    return Err(CacheError::NoLength { host });
                }
                FillProgress::Relaying { point, .. } => {
                    let decision = Decision::Bypass(point.bypass());
                    return Ok(self.following(filling, point.total(), decision));
                }
                FillProgress::Asking => return Err(CacheError::Internal("a fill is not ready")),
            }
        }
    }

    fn following(
        &self,
        filling: FillHandle,
        total: Option<u64>,
        decision: Decision,
    ) -> Pulled<Blob> {
        let source = BlobSource::Filling(filling);
        let what = Blob { total, source, delivery: FileDelivery::new(self.frames.clone()) };
        Pulled { what, decision, age: None }
    }
}

/// How far the fill is when enough is known for the headers; `None` when it took too long.
pub(super) async fn wait_for_headers(
    mut progress: watch::Receiver<FillProgress>,
    need: BlobNeed<'_>,
    until: Instant,
) -> Option<FillProgress> {
    let is_ready = |progress: &FillProgress| match progress {
        FillProgress::Asking => false,
        FillProgress::Filling { total, .. } => need == BlobNeed::Bytes || total.is_some(),
        FillProgress::Done { .. } | FillProgress::Failed(_) | FillProgress::Relaying { .. } => true,
    };
    match timeout_at(until, progress.wait_for(is_ready)).await {
        Ok(Ok(progress)) => Some(progress.clone()),
        Ok(Err(_)) => Some(FillProgress::Failed(CacheError::Internal("the fill was lost"))),
        Err(_) => None,
    }
}
