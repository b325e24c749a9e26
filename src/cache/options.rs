//! What the pull path lets an operator choose.

use std::time::Duration;

/// What the pull path needs to know, whatever the registry.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Bytes of memory for what is hot and small: manifests, tag records, memberships.
    pub memory: u64,
    /// How long a client waits for a revalidation before it is served the stale record.
    pub stale_wait: Duration,
}
