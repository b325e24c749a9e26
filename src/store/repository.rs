//! The store's handle for one repository, for code that may not block.

use std::io;

use super::blocking::blocking;
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
    /// Those of `work`, and [`io::ErrorKind::Other`] when its task was lost; see [`blocking`].
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RepositoryRecords) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let records = self.records.clone();
        blocking(move || work(&records)).await
    }
}
