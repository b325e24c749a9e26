//! The index answers queries that no file name answers: sizes, last use, totals, and which
//! repository has what.
//!
//! The index is a view of the files, which are the truth; deleting `index/` loses nothing but time,
//! and last uses, which the files know to a day. No request waits for it: changes are noted in
//! memory, and a thread of its own writes them. The thread is in `writer_thread.rs`, the check that
//! the database may be opened in `dir.rs` and `check.rs`, and the comparison with the files in
//! `walk.rs`. No access is decided on it.

mod blob_rows;
mod check;
mod db;
mod dir;
mod pending;
mod rows;
mod shared;
mod walk;
mod writer_thread;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use self::blob_rows::BlobRows;
use self::db::{IndexDb, IndexFault};
use self::dir::IndexDir;
use self::pending::RowChange;
use self::rows::{RowFacts, seconds};
use self::shared::IndexShared;
use self::walk::StoreWalk;
use self::writer_thread::IndexWriter;
use super::layout::StoreLayout;
use crate::clock::WallClock;

pub use self::check::{CHECK_COMMAND, check_index};
pub use self::db::IndexTotals;
pub use self::rows::IndexRow;
pub use self::shared::{IndexReport, IndexState};

/// The options of the index.
#[derive(Clone, Debug)]
pub struct IndexOptions {
    /// The program that checks a database that was not closed, given [`CHECK_COMMAND`] and the
    /// database's directory: see [`check_index`]. Without one, such a database is set aside.
    pub checker: Option<PathBuf>,
}

/// The index of a store. Nothing here blocks for longer than it takes to note something, but for
/// [`StoreIndex::stop`].
#[derive(Debug)]
pub(super) struct StoreIndex {
    running: Option<IndexThread>,
    clock: Arc<dyn WallClock>,
    blob_rows: Mutex<BlobRows>,
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
        let (sender, rows) = blob_rows::channel();
        let blob_rows = Mutex::new(rows);
        let Some(options) = options else { return Self { running: None, clock, blob_rows } };
        let (shared, place) = (Arc::new(IndexShared::default()), IndexDir::new(layout.index()));
        let owner = IndexWriter {
            shared: Arc::clone(&shared),
            place: place.clone(),
            layout: layout.clone(),
            checker: options.checker,
            blob_rows: sender,
        };
        let supervisor = thread::Builder::new().name("index-keeper".to_owned());
        if let Err(error) = supervisor.spawn(move || owner.supervise()) {
            tracing::error!(%error, "cannot start the index");
            return Self { running: None, clock, blob_rows };
        }
        Self { running: Some(IndexThread { shared, place }), clock, blob_rows }
    }

    /// The blobs that the index knew when it was opened, once. Does not block.
    pub(super) fn take_blob_rows(&self) -> BlobRows {
        std::mem::take(&mut *self.blob_rows.lock())
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
        let running = self.running.as_ref();
        running.map_or_else(IndexReport::default, |running| running.shared.report())
    }

    /// Has the index written and closed, and waits for that, a while. Blocks.
    pub(super) fn stop(&self) {
        let Some(running) = &self.running else { return };
        if running.shared.stop(STOP_WAIT_MAX) {
            return;
        }
        tracing::warn!("the index did not close in time; it is checked at the next start");
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

/// The rows of a database that is not in use, without last uses. Opening it changes it, so this is
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

/// How long a stop waits for the index: writing the last seconds' changes and hashing a quarter of
/// a gigabyte.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);
