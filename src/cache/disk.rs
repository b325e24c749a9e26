//! The disk as the pull path uses it: the records of a grant's repository, and faults of the disk,
//! which never fail a pull.

use std::io;

use crate::access::Grant;
use crate::store::{RepositoryRecords, RepositoryStore, Store};

/// The records of the grant's repository.
pub(super) fn records_of(store: &Store, grant: &Grant) -> RepositoryStore {
    store.repository(grant.registry().name(), grant.repository())
}

/// Logs an error of the disk with a repository's records.
pub(super) fn warn_of(records: &RepositoryRecords, result: io::Result<()>, what: &'static str) {
    if let Err(error) = result {
        let (registry, repository) = (records.registry(), records.repository());
        tracing::warn!(%registry, %repository, %error, "{what}");
    }
}
