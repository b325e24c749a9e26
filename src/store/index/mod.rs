//! What has to be queried, not looked up by name: sizes, last use, totals, what is where.
//!
//! The index is a view of the files, which are the truth; deleting `index/` loses nothing but time,
//! and last uses, which the files know to a day. Nobody waits for it: what happens is noted in
//! memory, and a thread of its own writes it down. What the database does to that thread is told in
//! `owner.rs`, how it is made sure that it may be opened in `place.rs` and `check.rs`, and how it
//! comes to be what the files are in `walk.rs`. No access is decided on it.

mod check;
mod db;
mod dir;
mod pending;
mod rows;
mod walk;
mod writer_thread;

use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use self::db::{IndexDb, IndexFault};
use self::dir::IndexDir;
use self::pending::{PendingChanges, RowChange};
use self::rows::{RowFacts, RowKey, seconds};
use self::walk::StoreWalk;
use self::writer_thread::IndexWriter;
use super::layout::StoreLayout;
use crate::clock::WallClock;

pub use self::check::{CHECK_COMMAND, check_index};
pub use self::db::IndexTotals;
pub use self::rows::IndexRow;

/// What the index needs to know.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// The program that checks a database that was not closed, given [`CHECK_COMMAND`] and the
    /// database's directory: see [`check_index`]. Without one, such a database is set aside.
    pub checker: Option<PathBuf>,
}

/// What the index says of itself and of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// It knows a part: it is being compared with the files.
    Building,
    /// There is none.
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

/// The index of a store. Nothing here blocks for longer than it takes to note something, but for
/// [`StoreIndex::stop`].
#[derive(Debug)]
pub(super) struct StoreIndex {
    running: Option<IndexThread>,
    clock: Arc<dyn WallClock>,
}

#[derive(Debug)]
struct IndexThread {
    shared: Arc<IndexShared>,
    place: IndexDir,
}

impl StoreIndex {
    /// Starts the index, if there is to be one. Does not wait for it.
    pub(super) fn start(
        layout: &StoreLayout,
        options: Option<IndexOptions>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let Some(options) = options else { return Self { running: None, clock } };
        let (shared, place) = (Arc::new(IndexShared::default()), IndexDir::new(layout.index()));
        let owner = IndexWriter {
            shared: Arc::clone(&shared),
            place: place.clone(),
            layout: layout.clone(),
            checker: options.checker,
        };
        let supervisor = thread::Builder::new().name("index-keeper".to_owned());
        if let Err(error) = supervisor.spawn(move || owner.supervise()) {
            tracing::error!(%error, "the index cannot be started");
            return Self { running: None, clock };
        }
        Self { running: Some(IndexThread { shared, place }), clock }
    }

    /// Notes that something was stored, this many bytes long.
    pub(super) fn kept(&self, row: IndexRow<'_>, size: u64) {
        self.note(row, |used| RowChange::Kept(RowFacts { size, used }));
    }

    /// Notes that something was asked for.
    pub(super) fn used(&self, row: IndexRow<'_>) {
        self.note(row, RowChange::Used);
    }

    /// Notes that something is stored no longer.
    pub(super) fn gone(&self, row: IndexRow<'_>) {
        self.note(row, |_| RowChange::Gone);
    }

    fn note(&self, row: IndexRow<'_>, change: impl FnOnce(u32) -> RowChange) {
        if let Some(running) = &self.running {
            let change = change(seconds(self.clock.now()));
            running.shared.note(|pending| pending.note_row(row, change));
        }
    }

    pub(super) fn report(&self) -> IndexReport {
        let Some(running) = &self.running else { return IndexStatus::default().report };
        let status = *running.shared.status.lock();
        let is_stuck = status.busy_since.is_some_and(|since| since.elapsed() > STUCK_AFTER);
        let state = if is_stuck { IndexState::Stuck } else { status.report.state };
        IndexReport { state, ..status.report }
    }

    /// Has the index written and closed, and waits for that, a while. Blocks.
    pub(super) fn stop(&self) {
        let Some(running) = &self.running else { return };
        if running.shared.stop(STOP_WAIT_MAX) {
            return;
        }
        tracing::warn!("the index did not close in time; it is looked at when we start");
        if self.report().state == IndexState::Stuck {
            // It would get stuck again.
            drop(running.place.set_aside());
        }
    }
}

impl Drop for StoreIndex {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.shared.stop(Duration::ZERO);
        }
    }
}

/// What the thread and those who note things share.
#[derive(Debug, Default)]
struct IndexShared {
    inbox: Mutex<IndexInbox>,
    arrived: Condvar,
    ended: Condvar,
    status: Mutex<IndexStatus>,
}

#[derive(Debug, Default)]
struct IndexInbox {
    pending: PendingChanges,
    is_stopping: bool,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct IndexStatus {
    report: IndexReport,
    /// Since when the thread has not waited for anything of ours.
    busy_since: Option<Instant>,
}

impl Default for IndexStatus {
    fn default() -> Self {
        let (state, totals) = (IndexState::Off, IndexTotals::default());
        let report = IndexReport { state, totals, dropped: 0, set_aside: 0, walks: 0 };
        Self { report, busy_since: None }
    }
}

/// What was noted since the last time.
struct InboxBatch {
    changes: HashMap<RowKey, RowChange>,
    dropped: u64,
    is_stopping: bool,
}

impl IndexShared {
    /// Has `note` note something, which tells whether it should be written soon.
    fn note(&self, note: impl FnOnce(&mut PendingChanges) -> bool) {
        let mut inbox = self.inbox.lock();
        if !inbox.has_ended && note(&mut inbox.pending) {
            self.arrived.notify_one();
        }
    }

    /// Waits this long, or until there is much to do, and takes what there is.
    fn take(&self, wait: Duration) -> InboxBatch {
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

    fn report(&self, change: impl FnOnce(&mut IndexReport)) {
        change(&mut self.status.lock().report);
    }

    fn is_stopping(&self) -> bool {
        self.inbox.lock().is_stopping
    }

    /// There is nobody any more who would write anything down.
    fn ended(&self) {
        self.status.lock().busy_since = None;
        let mut inbox = self.inbox.lock();
        inbox.has_ended = true;
        drop(inbox.pending.take());
        self.ended.notify_all();
    }

    /// Returns whether the thread has ended within this time.
    fn stop(&self, wait: Duration) -> bool {
        let mut inbox = self.inbox.lock();
        inbox.is_stopping = true;
        self.arrived.notify_one();
        self.ended.wait_while_for(&mut inbox, |inbox| !inbox.has_ended, wait);
        inbox.has_ended
    }
}

/// The rows of a database that nobody uses, without last uses. Opening it changes it, so this is
/// for a copy of it.
#[doc(hidden)]
pub fn index_rows(db: &Path) -> Result<Vec<String>, String> {
    let ledger = IndexDb::open(db, IndexTotals::default());
    ledger.and_then(rows_in).map_err(|fault| fault.to_string())
}

/// The rows of an index that is made from the files, in a directory of its own.
#[doc(hidden)]
pub fn index_rows_of_files(cache_dir: &Path, db: &Path) -> Result<Vec<String>, String> {
    let ledger = IndexDb::open(db, IndexTotals::default());
    let mut ledger = ledger.map_err(|fault| fault.to_string())?;
    let mut walk = StoreWalk::new(StoreLayout::new(cache_dir.to_owned()));
    while walk.step(&mut ledger).map_err(|trouble| trouble.to_string())? {}
    rows_in(ledger).map_err(|fault| fault.to_string())
}

fn rows_in(ledger: IndexDb) -> Result<Vec<String>, IndexFault> {
    let mut rows = Vec::new();
    let totals = ledger.scan(|named, facts| rows.push(format!("{named:?} {}", facts.size)))?;
    rows.push(format!("{totals:?}"));
    ledger.close()?;
    Ok(rows)
}

#[cfg(test)]
mod tests;

/// When the thread has not come back for so long, the database hangs.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How long a stop waits for the index: writing the last seconds' changes and hashing a quarter of
/// a gigabyte.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);
