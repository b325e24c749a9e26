//! How long a client with a stale tag at hand waits for the upstream.
//!
//! `stale_wait`, but not again and again: when an upstream was too late once, nobody waits for it
//! until it has been heard of again, and nobody waits while it is not even asked. The question is
//! asked all the same, and what it brings is served to who comes next.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{CacheError, StaleReason};
use crate::oci::RegistryName;
use crate::registry::Registry;

/// The registries that were too late, and when that was last seen.
#[derive(Debug)]
pub(super) struct SlowUpstreams {
    late: Mutex<HashMap<RegistryName, Instant>>,
    wait: Duration,
}

impl SlowUpstreams {
    /// Patience of this length with every registry.
    pub(super) fn new(wait: Duration) -> Self {
        Self { late: Mutex::default(), wait }
    }

    /// How long to wait for this registry now; `is_needed` if there is nothing to serve without it.
    pub(super) fn with(&self, registry: &Registry, is_needed: bool) -> Duration {
        let late = self.late.lock().get(registry.name()).copied();
        let is_late = late.is_some_and(|seen| seen.elapsed() < LATE_MAX);
        let is_in_vain = is_late || registry.upstream().is_open();
        if is_in_vain && !is_needed { Duration::ZERO } else { self.wait }
    }

    /// It was waited for so long, in vain. Returns why.
    pub(super) fn lost(&self, registry: &Registry, waited: Duration) -> StaleReason {
        if !waited.is_zero() {
            self.late.lock().insert(registry.name().clone(), Instant::now());
        }
        let is_open = registry.upstream().is_open();
        if is_open { StaleReason::Unavailable } else { StaleReason::Slow }
    }

    /// What became of a question that was asked at `asked`.
    pub(super) fn heard(&self, registry: &Registry, asked: Instant, error: Option<&CacheError>) {
        let mut late = self.late.lock();
        if error.is_none_or(CacheError::is_an_answer) {
            late.remove(registry.name());
        } else if asked.elapsed() > self.wait || late.contains_key(registry.name()) {
            late.insert(registry.name().clone(), Instant::now());
        }
    }
}

/// When nothing was asked for so long, the upstream may be well again and is waited for once more:
/// two seconds are less than a tag that is a day old.
const LATE_MAX: Duration = Duration::from_secs(5 * 60);
