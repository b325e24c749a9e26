//! Evicting what was not pulled for longer than `max_idle`.
//!
//! Which blobs these are is decided in `retention.rs`.

use super::budget::DiskBudget;
use super::counts::EvictionReason;

/// Evicts what was not used for too long. A blob that is open is in use. Blocks.
pub(super) fn evict_idle(budget: &DiskBudget) {
    let _turn = budget.making_room.lock();
    budget.catalog.count_hits();
    let idle = budget.catalog.idle();
    if idle.is_empty() {
        return;
    }
    let open_files = budget.look_at_open_files();
    let mut open = Vec::new();
    for key in idle {
        if budget.is_stopping() {
            break;
        }
        match budget.evict_blob(&key, &open_files, EvictionReason::MaxIdle) {
            Ok(Some(_)) => {}
            Ok(None) => open.push(key),
            Err(error) => {
                tracing::warn!(%error, "cannot evict a blob");
                break;
            }
        }
    }
    budget.catalog.are_used(&open);
}
