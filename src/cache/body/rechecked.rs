//! A body from a stored blob that is being verified again.
//!
//! No byte leaves before its block is proven. If the blob proves wrong, it is fetched anew and the
//! reader goes on there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::fallback::BlobFallback;
use super::stored::FileBody;
use crate::cache::recheck::BlobRecheck;
use crate::http::{BodyError, BodySource, FileDelivery, NextBytes};
use crate::store::RecheckVerdict;

/// One reader of a blob that is being verified.
pub(crate) struct RecheckBody {
    recheck: Arc<BlobRecheck>,
    fallback: BlobFallback,
    delivery: FileDelivery,
    at: u64,
    end: u64,
    /// Bytes that may be sent, from `at` on.
    part: Option<Box<dyn BodySource>>,
}

impl RecheckBody {
    pub(crate) fn new(
        recheck: Arc<BlobRecheck>,
        fallback: BlobFallback,
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
        let part = FileBody::new(blob.file(), &self.delivery, &self.fallback, self.at, until);
        self.part = Some(Box::new(part));
        if until < self.end {
            // While these bytes are sent.
            self.recheck.read_ahead(until);
        }
        true
    }

    async fn prove(&mut self) -> Result<(), BodyError> {
        if self.recheck.step(self.at).await? == RecheckVerdict::Wrong {
            let rest = self.fallback.refetch(&self.delivery, self.at, self.end).await?;
            self.part = Some(Box::new(rest));
        }
        Ok(())
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
