//! The store's handle for one repository, for code that may not block.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::repository_records::RepositoryRecords;

/// A handle to the records of one repository. Cheap to make and to clone; nothing is read for it.
#[derive(Clone, Debug)]
pub struct RepositoryStore {
    records: RepositoryRecords,
}

impl RepositoryStore {
    pub(super) fn new(records: RepositoryRecords) -> Self {
        Self { records }
    }

    /// Does something with the records where it may block, in one hop however many of them it
    /// touches: for what belongs together under one lock.
    ///
    /// # Errors
    ///
    /// Those of `work`; [`io::ErrorKind::TimedOut`] when the disk hangs, `work` goes on then; and
    /// [`io::ErrorKind::Other`] when its task was lost.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RepositoryRecords) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let records = self.records.clone();
        let gates = Arc::clone(self.records.blobs.gates());
        gates.records.run(move || work(&records)).await
    }

    /// As [`Self::blocking`], for what an answer does not need: it is waited for a moment, so that
    /// the next request finds it done where the disk works as it should, and goes on by itself.
    pub async fn behind(
        &self,
        work: impl FnOnce(&RepositoryRecords) -> io::Result<()> + Send + 'static,
    ) {
        let this = self.clone();
        let gates = Arc::clone(self.records.blobs.gates());
        let running = tokio::spawn(async move {
            let _turn = gates.behind.acquire().await;
            this.blocking(work).await
        });
        // The panic hook reports a panic in it.
        if let Ok(Ok(Err(error))) = timeout(BEHIND_WAIT, running).await {
            tracing::warn!(%error, "cannot keep a record");
        }
    }
}

/// Much longer than a disk takes that works, and not long for a client.
const BEHIND_WAIT: Duration = Duration::from_millis(250);
