//! The copies of uploads under way, between two requests.
//!
//! An upload without one goes on all the same, as after a restart. Clients begin uploads and leave
//! them, so copies that wait are bounded in number and time.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::session::SessionId;
use super::upload_copy::{CopyBudget, CopySink, UploadCopy};
use crate::oci::Algorithm;
use crate::store::Store;

/// The copies that wait, and what it takes to make one.
#[derive(Debug)]
pub(super) struct UploadCopies {
    waiting: Mutex<HashMap<SessionId, WaitingCopy>>,
    store: Arc<Store>,
    budget: CopyBudget,
    pub(super) tasks: TaskTracker,
}

#[derive(Debug)]
struct WaitingCopy {
    copy: UploadCopy,
    since: Instant,
}

impl UploadCopies {
    pub(super) fn new(store: Arc<Store>) -> Self {
        let (waiting, budget, tasks) =
            (Mutex::default(), CopyBudget::default(), TaskTracker::new());
        Self { waiting, store, budget, tasks }
    }

    /// The copy for the next part of an upload, of which `passed` bytes have passed before. `None`
    /// when what passed before was not copied: the whole will not be.
    pub(super) fn take(
        &self,
        id: SessionId,
        passed: u64,
        algorithm: Algorithm,
    ) -> Option<(UploadCopy, CopySink)> {
        let waiting = self.waiting().remove(&id);
        match waiting {
            Some(WaitingCopy { copy, .. }) => Some(copy.go_on(&self.tasks, &self.budget)),
            None if passed == 0 => {
                Some(UploadCopy::begin(&self.store, &self.tasks, algorithm, &self.budget))
            }
            None => None,
        }
    }

    /// Lets a copy wait for the next part.
    pub(super) fn put(&self, id: SessionId, copy: UploadCopy) {
        let mut waiting = self.waiting();
        waiting.retain(|_, waiting| waiting.since.elapsed() < WAIT_MAX);
        if waiting.len() >= WAITING_MAX {
            let oldest = waiting.iter().min_by_key(|(_, waiting)| waiting.since);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                waiting.remove(&oldest);
            }
        }
        waiting.insert(id, WaitingCopy { copy, since: Instant::now() });
    }

    /// Gives a copy up.
    pub(super) fn drop(&self, id: SessionId) {
        self.waiting().remove(&id);
    }

    /// Gives up what has waited for too long.
    pub(super) fn sweep(&self) {
        self.waiting().retain(|_, waiting| waiting.since.elapsed() < WAIT_MAX);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<SessionId, WaitingCopy>> {
        self.waiting.lock()
    }
}

/// How many copies wait at once, each with an open file. Clients push five layers at a time.
const WAITING_MAX: usize = 256;

/// How long one waits. Between two requests of one upload there are moments.
const WAIT_MAX: Duration = Duration::from_secs(3600);
