//! The buffer between the index's thread and the rest of the store, and the state that it reports.
//!
//! Nothing here waits for the database, which only `writer_thread.rs` calls.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::db::IndexTotals;
use super::pending::{PendingChanges, RowChange};
use super::rows::RowKey;

/// The index's report on itself and on the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexReport {
    /// Whether it can be believed.
    pub state: IndexState,
    /// How much is stored, as far as the index knows.
    pub totals: IndexTotals,
    /// Changes that were lost because it did not keep up, since the start.
    pub dropped: u64,
    /// Databases that were set aside, since the start.
    pub set_aside: u64,
    /// Comparisons with the files that were finished, since the start.
    pub walks: u64,
}

/// Whether an index can be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexState {
    /// It knows a part: it is being compared with the files.
    Building,
    /// There is none.
    #[default]
    Off,
    /// It is being looked at.
    Opening,
    /// It is what the files are, give or take a few seconds.
    Ready,
    /// The database has not returned for a minute.
    Stuck,
}

impl IndexState {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Building, Self::Off, Self::Opening, Self::Ready, Self::Stuck];

    /// Its name, for people and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Off => "off",
            Self::Opening => "opening",
            Self::Ready => "ready",
            Self::Stuck => "stuck",
        }
    }
}

/// The part that the thread and the rest of the store share.
#[derive(Debug, Default)]
pub(super) struct IndexShared {
    pub(super) inbox: Mutex<IndexInbox>,
    pub(super) arrived: Condvar,
    ended: Condvar,
    status: Mutex<IndexStatus>,
}

#[derive(Debug, Default)]
pub(super) struct IndexInbox {
    pub(super) pending: PendingChanges,
    is_stopping: bool,
    pub(super) has_ended: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct IndexStatus {
    report: IndexReport,
    /// When the thread last stopped waiting for the inbox; `None` while it waits.
    busy_since: Option<Instant>,
}

/// The changes since the last batch.
pub(super) struct InboxBatch {
    pub(super) changes: HashMap<RowKey, RowChange>,
    pub(super) dropped: u64,
    pub(super) is_stopping: bool,
}

impl IndexShared {
    /// Has `note` note something, which tells whether it should be written soon.
    pub(super) fn note(&self, note: impl FnOnce(&mut PendingChanges) -> bool) {
        let mut inbox = self.inbox.lock();
        if !inbox.has_ended && note(&mut inbox.pending) {
            self.arrived.notify_one();
        }
    }

    /// Waits this long, or until there is much to do, and takes what there is.
    pub(super) fn take(&self, wait: Duration) -> InboxBatch {
        self.status.lock().busy_since = None;
        let mut inbox = self.inbox.lock();
        if !inbox.is_stopping {
            self.arrived.wait_for(&mut inbox, wait);
        }
        let (changes, dropped) = inbox.pending.take();
        let is_stopping = inbox.is_stopping;
        drop(inbox);
        self.status.lock().busy_since = Some(Instant::now());
        InboxBatch { changes, dropped, is_stopping }
    }

    /// The report as it is now.
    pub(super) fn report(&self) -> IndexReport {
        let status = *self.status.lock();
        let is_stuck = status.busy_since.is_some_and(|since| since.elapsed() > STUCK_AFTER);
        let state = if is_stuck { IndexState::Stuck } else { status.report.state };
        IndexReport { state, ..status.report }
    }

    /// Changes the report.
    pub(super) fn update(&self, change: impl FnOnce(&mut IndexReport)) {
        change(&mut self.status.lock().report);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.inbox.lock().is_stopping
    }

    /// The thread writes nothing any more.
    pub(super) fn ended(&self) {
        self.status.lock().busy_since = None;
        let mut inbox = self.inbox.lock();
        inbox.has_ended = true;
        drop(inbox.pending.take());
        self.ended.notify_all();
    }

    /// Returns whether the thread has ended within this time.
    pub(super) fn stop(&self, wait: Duration) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.is_stopping = true;
        self.arrived.notify_one();
        self.ended.wait_while_for(&mut inbox, |inbox| !inbox.has_ended, wait);
        inbox.has_ended
    }
}

/// When the thread has not come back for so long, the database hangs.
const STUCK_AFTER: Duration = Duration::from_secs(60);
