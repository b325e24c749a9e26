//! Joins the fill of a missing blob, or starts it.

use std::sync::Arc;

use crate::access::Grant;
use crate::cache::fill::stats::FillStats;
use crate::cache::fill::table::{FillHandle, FillTable};
use crate::cache::fill::task::{FillTask, FillTools};
use crate::cache::presence::Presence;
use crate::cache::tasks::DetachedTasks;
use crate::oci::Digest;

/// The fetches of missing blobs: one in flight for each registry and digest.
#[derive(Debug)]
pub(crate) struct BlobFills {
    table: FillTable,
    tools: Arc<FillTools>,
    tasks: DetachedTasks,
}

impl BlobFills {
    pub(crate) fn new(tools: FillTools, tasks: DetachedTasks) -> Self {
        Self { table: FillTable::default(), tools: Arc::new(tools), tasks }
    }

    /// The parts of the cache that fills use.
    pub(crate) fn tools(&self) -> &FillTools {
        &self.tools
    }

    /// The fills in flight.
    pub(crate) fn table(&self) -> &FillTable {
        &self.table
    }

    /// The fills that have ended.
    pub(crate) fn stats(&self) -> &FillStats {
        &self.tools.stats
    }

    /// Whether the fill proves that the grant's repository has the blob: it is a fill of this
    /// repository, from which nothing was deleted since it began.
    pub(crate) fn is_proof(&self, grant: &Grant, fill: &FillHandle) -> bool {
        fill.repository == *grant.repository() && self.tools.presence.is_current(grant, fill.since)
    }

    /// Whether the blob was evicted lately.
    pub(crate) fn was_evicted(&self, digest: &Digest) -> bool {
        self.tools.store.was_evicted(digest)
    }

    /// Joins the fill of the blob, or starts it. `member` is what is known of the blob in the
    /// grant's repository.
    pub(crate) fn join(
        &self,
        grant: &Grant,
        digest: &Digest,
        member: Option<Presence>,
    ) -> FillHandle {
        let (handle, start) = self.table.join(grant, digest, self.tools.epochs.now());
        if let Some(start) = start {
            let tools = Arc::clone(&self.tools);
            let task =
                FillTask::new(tools, grant.clone(), digest.clone(), member, start, handle.since);
            self.tasks.spawn(task.run());
        }
        handle
    }
}
