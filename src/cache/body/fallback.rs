//! The way on for a reader of a stored blob that cannot be served to its end.
//!
//! The blob is fetched anew, as any that is missing, and the reader goes on there: the bytes that
//! it has are right, and so are those that it gets. If that fails, its answer is cut.

use std::fmt;
use std::sync::Arc;

use super::growing::GrowingFileBody;
use super::span::BodySpan;
use crate::access::Grant;
use crate::cache::CacheError;
use crate::cache::fill::join::BlobFills;
use crate::cache::fill::progress::FillProgress;
use crate::cache::presence::PresenceTable;
use crate::cache::question::deadline;
use crate::http::FileDelivery;
use crate::oci::Digest;
use crate::store::ContentStore;

/// The blob again, from the repository of a reader. Clones are the same way.
#[derive(Clone)]
pub(crate) struct BlobFallback {
    pub(crate) fills: Arc<BlobFills>,
    pub(crate) presence: Arc<PresenceTable>,
    pub(crate) content: ContentStore,
    pub(crate) grant: Grant,
    pub(crate) digest: Digest,
    /// The length of the stored file, which the client has been told.
    pub(crate) total: u64,
}

impl fmt::Debug for BlobFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobFallback").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl BlobFallback {
    /// The bytes from `at` to `end`, from the fill that puts the blob right.
    pub(super) async fn refetch(
        &self,
        delivery: &FileDelivery,
        at: u64,
        end: u64,
    ) -> Result<GrowingFileBody, CacheError> {
        let Self { fills, presence, grant, digest, total, .. } = self;
        CacheError::if_offline(grant)?;
        let member = presence.find(grant, digest).await;
        let fill = fills.join(grant, digest, member);
        let length = match fill.headers(true, deadline()).await {
            Some(FillProgress::Failed(error)) => return Err(error),
            progress => progress.and_then(|progress| progress.total()),
        };
        if length != Some(*total) {
            return Err(CacheError::Internal("a stored blob has another length than its digest's"));
        }
        let span = BodySpan { at, end: Some(end), reaches_end: end == *total };
        Ok(GrowingFileBody::new(&fill, delivery, span))
    }
}
