//! The settings of the pull path.

use std::time::Duration;

/// The settings of the pull path for all registries.
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    /// Bytes of memory for what is hot and small: manifests, tag records, memberships.
    pub memory: u64,
    /// How long a client waits for a revalidation before it is served the stale record.
    pub stale_wait: Duration,
    /// The time within which all stored content is verified again; zero for none.
    pub scrub_every: Duration,
}
