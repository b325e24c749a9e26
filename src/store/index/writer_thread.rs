//! The thread that has the database to itself, and what happens when it dies.
//!
//! Whatever the database does, it does to this thread: it may panic, and is then set aside and made
//! anew; it may hang, and is then reported as stuck. No other thread calls it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::super::layout::StoreLayout;
use super::blob_rows::{self, BlobRowsSender};
use super::check::check;
use super::db::{IndexDb, IndexFault, IndexTotals};
use super::dir::{IndexDir, IndexDirState};
use super::pending::RowChange;
use super::rows::{RowFacts, RowKey};
use super::shared::{IndexShared, IndexState};
use super::walk::{StoreWalk, WalkError};

/// The parts that the thread works with.
#[derive(Clone, Debug)]
pub(super) struct IndexWriter {
    pub(super) shared: Arc<IndexShared>,
    pub(super) place: IndexDir,
    pub(super) layout: StoreLayout,
    /// See the options of the index.
    pub(super) checker: Option<PathBuf>,
    pub(super) blob_rows: BlobRowsSender,
}

impl IndexWriter {
    /// Keeps an index until it is told to stop, or has failed too often.
    pub(super) fn supervise(self) {
        for _ in 0..LIVES_MAX {
            let owner = self.clone();
            let life = thread::Builder::new().name("index".to_owned()).spawn(move || owner.live());
            let why = match life.map(thread::JoinHandle::join) {
                Ok(Ok(Ok(()))) => {
                    self.shared.ended();
                    return;
                }
                Ok(Ok(Err(fault))) => fault.to_string(),
                Ok(Err(_)) => "it panicked".to_owned(),
                Err(error) => format!("no thread can be had: {error}"),
            };
            if self.shared.is_stopping() {
                tracing::warn!(
                    reason = why,
                    "the index was not closed; it is checked at the next start"
                );
                self.shared.ended();
                return;
            }
            if !self.set_aside(&why) {
                break;
            }
        }
        tracing::error!("the index is off until the next start");
        self.shared.update(|report| report.state = IndexState::Off);
        self.shared.ended();
    }

    /// Puts the database out of the way. Returns whether a new one may be tried.
    fn set_aside(&self, why: &str) -> bool {
        tracing::warn!(reason = why, "index set aside; it is rebuilt from the files");
        self.shared.update(|report| {
            report.set_aside += 1;
            report.state = IndexState::Opening;
        });
        let done = self.place.set_aside();
        if let Err(error) = &done {
            tracing::error!(%error, "cannot set the index aside");
        }
        done.is_ok()
    }

    /// From opening the database to closing it.
    fn live(&self) -> Result<(), IndexFault> {
        self.shared.update(|report| report.state = IndexState::Opening);
        let Some((totals, is_whole)) = self.examine()? else { return Ok(()) };
        self.place.unseal()?;
        let mut ledger = IndexDb::open(&self.place.db(), totals)?;
        self.shared.update(|report| report.totals = totals);
        if let Some(rows) = self.blob_rows.lock().take().filter(|_| is_whole) {
            blob_rows::send(&rows, &ledger)?;
        }
        let IndexTotals { blobs, bytes, manifests, tags } = totals;
        tracing::info!(blobs, bytes, manifests, tags, is_whole, "index opened");
        let mut round = WriterRound { is_due: !is_whole, ..WriterRound::new() };
        loop {
            let wait = if round.walk.is_some() || round.is_due { round.rest } else { FLUSH_EVERY };
            let taken = self.shared.take(wait);
            self.shared.update(|report| report.dropped += taken.dropped);
            round.is_due |= taken.dropped > 0;
            self.work(&mut ledger, &mut round, &taken.changes, taken.is_stopping)?;
            if taken.is_stopping {
                break;
            }
        }
        let totals = ledger.close()?;
        Ok(self.place.seal(totals, !round.is_due && round.walk.is_none())?)
    }

    /// The totals of the database that is to be opened, and whether they cover every file; `None`
    /// when the thread has to stop.
    fn examine(&self) -> Result<Option<(IndexTotals, bool)>, IndexFault> {
        let anew = Some((IndexTotals::default(), false));
        match self.place.look()? {
            IndexDirState::Absent => Ok(anew),
            IndexDirState::Changed => {
                self.set_aside("it has changed since it was closed");
                Ok(anew)
            }
            IndexDirState::Clean { totals, is_whole } => {
                self.place.forget_bad()?;
                Ok(Some((totals, is_whole)))
            }
            IndexDirState::Unclean => {
                let is_stopping = || self.shared.is_stopping();
                let checked = match &self.checker {
                    Some(program) => check(program, &self.place.db(), is_stopping),
                    None => Err("it was not closed, and there is nothing to check it".to_owned()),
                };
                match checked {
                    Ok(totals) => Ok(Some((totals, false))),
                    Err(_) if is_stopping() => Ok(None),
                    Err(why) => {
                        self.set_aside(&why);
                        Ok(anew)
                    }
                }
            }
        }
    }

    /// Writes what was noted, and goes on with the comparison, if one is due.
    fn work(
        &self,
        ledger: &mut IndexDb,
        round: &mut WriterRound,
        changes: &HashMap<RowKey, RowChange>,
        is_stopping: bool,
    ) -> Result<(), IndexFault> {
        let begun = Instant::now();
        for (key, change) in changes {
            apply(ledger, key, *change)?;
        }
        round.is_dirty |= !changes.is_empty();
        if round.is_due && round.walk.is_none() && begun >= round.not_before {
            round.is_due = false;
            round.walk = Some(StoreWalk::new(self.layout.clone()));
        }
        if !is_stopping {
            self.walk_on(ledger, round)?;
        }
        if round.is_dirty && (is_stopping || begun.duration_since(round.flushed) >= FLUSH_EVERY) {
            ledger.flush()?;
            (round.is_dirty, round.flushed) = (false, begun);
        }
        round.rest = (begun.elapsed() * REST).max(REST_MIN);
        let is_whole = round.walk.is_none() && !round.is_due;
        self.shared.update(|report| {
            report.totals = ledger.totals();
            report.state = if is_whole { IndexState::Ready } else { IndexState::Building };
        });
        Ok(())
    }

    fn walk_on(&self, ledger: &mut IndexDb, round: &mut WriterRound) -> Result<(), IndexFault> {
        let Some(walk) = &mut round.walk else { return Ok(()) };
        round.is_dirty = true;
        match walk.step(ledger) {
            Ok(true) => {}
            Ok(false) => {
                round.walk = None;
                round.not_before = Instant::now() + WALK_AGAIN;
                self.shared.update(|report| report.walks += 1);
                let IndexTotals { blobs, bytes, manifests, tags } = ledger.totals();
                tracing::info!(blobs, bytes, manifests, tags, "index compared with the files");
            }
            Err(WalkError::Rows(fault)) => return Err(fault),
            Err(WalkError::Files(error)) => {
                tracing::warn!(%error, "cannot compare the index with the files; trying again later");
                (round.walk, round.is_due) = (None, true);
                round.not_before = Instant::now() + WALK_AGAIN;
            }
        }
        Ok(())
    }
}

/// The state that the thread keeps from one round to the next.
#[derive(Debug)]
struct WriterRound {
    /// The comparison with the files, while it goes on.
    walk: Option<StoreWalk>,
    /// Whether one is to follow.
    is_due: bool,
    not_before: Instant,
    is_dirty: bool,
    flushed: Instant,
    rest: Duration,
}

impl WriterRound {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            walk: None,
            is_due: false,
            not_before: now,
            is_dirty: false,
            flushed: now,
            rest: REST_MIN,
        }
    }
}

fn apply(ledger: &mut IndexDb, key: &[u8], change: RowChange) -> Result<(), IndexFault> {
    #[cfg(test)]
    assert_ne!(key, super::tests::PANICS, "as told");
    match change {
        RowChange::Gone => ledger.remove(key),
        RowChange::Kept(facts) => ledger.put(key, facts),
        RowChange::Used(used) => match ledger.get(key)? {
            Some(facts) if used >= facts.used.saturating_add(USED_STEP_S) => {
                ledger.put(key, RowFacts { used, ..facts })
            }
            // A blob without a row gets one from the files.
            _ => Ok(()),
        },
    }
}

/// How long a change waits until it is written, and what is written until it is on disk.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// How many seconds later than known a row must be used for that to be written: what is asked for
/// all the time would make the database grow all the time.
const USED_STEP_S: u32 = 60;

/// A database that has failed so often since the start is not tried again.
const LIVES_MAX: usize = 3;

/// How many times as long as a step of a comparison took nothing is done: a quarter of one CPU and
/// of the disk is used.
const REST: u32 = 3;

const REST_MIN: Duration = Duration::from_millis(1);

/// How long after a comparison the next one may begin, when something was lost.
const WALK_AGAIN: Duration = Duration::from_secs(600);
