//! A body from a stored blob that is being verified again.
//!
//! No byte leaves before its block is proven. If the blob proves wrong, it is fetched anew and the
//! reader goes on there: the bytes that it has are right, and so are those that it gets. If that
//! fails, its answer is cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::growing::GrowingFileBody;
use super::span::BodySpan;
use super::stored::FileBody;
use crate::access::Grant;
use crate::cache::CacheError;
use crate::cache::fill::join::BlobFills;
use crate::cache::fill::progress::FillProgress;
use crate::cache::presence::PresenceTable;
use crate::cache::question::deadline;
use crate::cache::recheck::BlobRecheck;
use crate::http::{BodyError, BodySource, FileDelivery, NextBytes};
use crate::store::RecheckVerdict;

/// The way on for a reader of a blob that proves wrong.
#[derive(Clone, Debug)]
pub(crate) struct RecheckFallback {
    pub(crate) fills: Arc<BlobFills>,
    pub(crate) presence: Arc<PresenceTable>,
    pub(crate) grant: Grant,
}

/// One reader of a blob that is being verified.
pub(crate) struct RecheckBody {
    recheck: Arc<BlobRecheck>,
    fallback: RecheckFallback,
    delivery: FileDelivery,
    at: u64,
    end: u64,
    /// Bytes that may be sent, from `at` on.
    part: Option<Box<dyn BodySource>>,
}

impl RecheckBody {
    pub(crate) fn new(
        recheck: Arc<BlobRecheck>,
        fallback: RecheckFallback,
        delivery: FileDelivery,
        at: u64,
        end: u64,
    ) -> Self {
        Self { recheck, fallback, delivery, at, end, part: None }
    }

    /// Begins with the bytes that are proven from `at` on, if any are.
    fn begin_part(&mut self) -> bool {
        let blob = self.recheck.blob();
        let until = blob.proven_until(self.at).min(self.end);
        if until == self.at {
            return false;
        }
        self.part = Some(Box::new(FileBody::new(blob.file(), &self.delivery, self.at, until)));
        if until < self.end {
            // While these bytes are sent.
            self.recheck.read_ahead(until);
        }
        true
    }

    async fn prove(&mut self) -> Result<(), BodyError> {
        if self.recheck.step(self.at).await? == RecheckVerdict::Wrong {
            self.part = Some(Box::new(self.refetch().await?));
        }
        Ok(())
    }

    /// The rest, from the fill that puts the blob right.
    async fn refetch(&mut self) -> Result<GrowingFileBody, CacheError> {
        let RecheckFallback { fills, presence, grant } = &self.fallback;
        let (digest, total) = (self.recheck.blob().digest(), self.recheck.blob().len());
        CacheError::if_offline(grant)?;
        let member = presence.find(grant, digest).await;
        let fill = fills.join(grant, digest, member);
        let length = match fill.headers(true, deadline()).await {
            Some(FillProgress::Failed(error)) => return Err(error),
            progress => progress.and_then(|progress| progress.total()),
        };
        // The client has the headers, with the length of the stored file.
        if length != Some(total) {
            return Err(CacheError::Internal("a stored blob has another length than its digest's"));
        }
        let span = BodySpan { at: self.at, end: Some(self.end), reaches_end: self.end == total };
        Ok(GrowingFileBody::new(&fill, &self.delivery, span))
    }

    /// Passes on the next bytes of the part; `None` at its end.
    fn advance(&mut self, next: NextBytes) -> Option<NextBytes> {
        match &next {
            Ok(Some(data)) => self.at += data.len() as u64,
            Ok(None) => {
                self.part = None;
                return None;
            }
            Err(_) => {}
        }
        Some(next)
    }
}

impl BodySource for RecheckBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        loop {
            if self.at == self.end {
                return Some(Ok(None));
            }
            if self.part.is_none() && !self.begin_part() {
                return None;
            }
            let next = self.part.as_mut()?.next_now()?;
            if let Some(next) = self.advance(next) {
                return Some(next);
            }
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            loop {
                if let Some(next) = self.next_now() {
                    return next;
                }
                let Some(part) = &mut self.part else {
                    self.prove().await?;
                    continue;
                };
                let next = part.next().await;
                if let Some(next) = self.advance(next) {
                    return next;
                }
            }
        })
    }
}
