//! Reading a stored blob that is being verified again.
//!
//! No byte leaves before its block is proven. If the blob proves wrong, it is fetched anew, and the
//! reader goes on there: what it has is right, and so is what it gets. If that cannot be, its
//! answer is cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::access::Grant;
use crate::cache::blob::{BlobNeed, wait_for_headers};
use crate::cache::body::growing::{BodySpan, FileBody, GrowingFileBody};
use crate::cache::fill::table::FillProgress;
use crate::cache::question::deadline;
use crate::cache::recheck::BlobRecheck;
use crate::cache::{CacheError, Shared};
use crate::http::{self, FileDelivery, NextBytes};
use crate::store::RecheckVerdict;

/// What a reader needs to go on elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct RecheckFallback {
    pub(crate) shared: Arc<Shared>,
    pub(crate) grant: Grant,
}

/// One reader of such a blob.
pub(crate) struct RecheckBody {
    check: Arc<BlobRecheck>,
    elsewhere: RecheckFallback,
    delivery: FileDelivery,
    at: u64,
    end: u64,
    /// Bytes that may be sent, from `at` on.
    part: Option<Box<dyn http::BodySource>>,
}

impl RecheckBody {
    pub(crate) fn new(
        check: Arc<BlobRecheck>,
        elsewhere: RecheckFallback,
        delivery: FileDelivery,
        at: u64,
        end: u64,
    ) -> Self {
        Self { check, elsewhere, delivery, at, end, part: None }
    }

    /// Takes up what is proven from `at` on, if anything is.
    fn begin_part(&mut self) -> bool {
        let due = self.check.due();
        let until = due.proven_until(self.at).min(self.end);
        if until == self.at {
            return false;
        }
        self.part = Some(Box::new(FileBody::new(due.file(), &self.delivery, self.at, until)));
        if until < self.end {
            // While these bytes are sent.
            self.check.ahead(until);
        }
        true
    }

    async fn prove(&mut self) -> Result<(), http::BodyError> {
        if self.check.step(self.at).await? == RecheckVerdict::Wrong {
            self.part = Some(Box::new(self.fetched_anew().await?));
        }
        Ok(())
    }

    /// The rest, from the fill that puts the blob right.
    async fn fetched_anew(&mut self) -> Result<GrowingFileBody, CacheError> {
        let (shared, grant) = (&self.elsewhere.shared, &self.elsewhere.grant);
        let (digest, total) = (self.check.due().digest(), self.check.due().len());
        CacheError::if_offline(grant)?;
        let member = shared.presence.find(grant, digest).await;
        let (_, filling) = shared.join_fill(grant, digest, member);
        let ready = wait_for_headers(filling.progress.clone(), BlobNeed::Length, deadline()).await;
        let length = match ready {
            Some(FillProgress::Done { blob, .. }) => Some(blob.content().len()),
            Some(FillProgress::Filling { total, .. }) => total,
            Some(FillProgress::Relaying { point, .. }) => point.total(),
            Some(FillProgress::Failed(error)) => return Err(error),
            Some(FillProgress::Asking) | None => None,
        };
        // The headers have told the stored file's length.
        if length != Some(total) {
            return Err(CacheError::Internal("a stored blob had another length than its digest's"));
        }
        let span = BodySpan { at: self.at, end: Some(self.end), reaches_end: self.end == total };
        let follow = GrowingFileBody::new(filling.progress, self.delivery.clone(), span);
        Ok(follow.of(filling.reader))
    }

    /// What a part has yielded; `None` at its end.
    fn settle(&mut self, next: NextBytes) -> Option<NextBytes> {
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

impl http::BodySource for RecheckBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        loop {
            if self.at == self.end {
                return Some(Ok(None));
            }
            if self.part.is_none() && !self.begin_part() {
                return None;
            }
            let next = self.part.as_mut()?.next_now()?;
            if let Some(next) = self.settle(next) {
                return Some(next);
            }
        }
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            loop {
                if let Some(next) = http::BodySource::next_now(self) {
                    return next;
                }
                let Some(part) = &mut self.part else {
                    self.prove().await?;
                    continue;
                };
                let next = part.next().await;
                if let Some(next) = self.settle(next) {
                    return next;
                }
            }
        })
    }
}
