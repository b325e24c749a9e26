//! The rows on disk. The only place that knows which database keeps them: sled.
//!
//! All of it blocks, may panic, and, on a database that is damaged, may never return. It belongs on
//! a thread that no request waits for.

use std::io;
use std::mem::ManuallyDrop;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::rows::{BLOB, MANIFEST, RowFacts, RowKey, RowName, TAG};

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexTotals {
    /// Contents, manifests included.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Manifests, counted in each repository that has them.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
}

impl IndexTotals {
    fn add(&mut self, key: &[u8], facts: RowFacts) {
        self.change(key, facts, 1, u64::saturating_add);
    }

    fn remove(&mut self, key: &[u8], facts: RowFacts) {
        self.change(key, facts, 1, u64::saturating_sub);
    }

    fn change(&mut self, key: &[u8], facts: RowFacts, one: u64, change: fn(u64, u64) -> u64) {
        match key.first() {
            Some(&BLOB) => {
                self.blobs = change(self.blobs, one);
                self.bytes = change(self.bytes, facts.size);
            }
            Some(&MANIFEST) => self.manifests = change(self.manifests, one),
            Some(&TAG) => self.tags = change(self.tags, one),
            _ => {}
        }
    }
}

/// An open database.
pub(super) struct IndexDb {
    /// Not dropped by a panic: what goes wrong there goes wrong again when the database flushes,
    /// and a panic in a panic ends the process.
    db: ManuallyDrop<sled::Db>,
    totals: IndexTotals,
}

impl IndexDb {
    /// Opens the database, or makes it, with what is known to be in it.
    pub(super) fn open(path: &Path, totals: IndexTotals) -> Result<Self, IndexFault> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::LowSpace)
            // We flush when there is something to flush.
            .flush_every_ms(None);
        Ok(Self { db: ManuallyDrop::new(config.open()?), totals })
    }

    pub(super) fn totals(&self) -> IndexTotals {
        self.totals
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<RowFacts>, IndexFault> {
        let value = self.db.get(key)?;
        value.map(|value| RowFacts::of(key, &value).ok_or(IndexFault::Malformed)).transpose()
    }

    pub(super) fn put(&mut self, key: &[u8], facts: RowFacts) -> Result<(), IndexFault> {
        let old = self.db.insert(key, facts.to_value(key))?;
        if let Some(old) = old {
            self.totals.remove(key, RowFacts::of(key, &old).ok_or(IndexFault::Malformed)?);
        }
        self.totals.add(key, facts);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), IndexFault> {
        if let Some(old) = self.db.remove(key)? {
            self.totals.remove(key, RowFacts::of(key, &old).ok_or(IndexFault::Malformed)?);
        }
        Ok(())
    }

    /// The keys that begin with `prefix`.
    pub(super) fn keys(&self, prefix: &[u8]) -> Result<Vec<RowKey>, IndexFault> {
        let keys = self.db.scan_prefix(prefix).keys();
        keys.map(|key| Ok(key?.as_ref().into())).collect()
    }

    /// The first key from `from` on.
    pub(super) fn first_from(&self, from: &[u8]) -> Result<Option<RowKey>, IndexFault> {
        let key = self.db.range(from..).keys().next().transpose()?;
        Ok(key.map(|key| key.as_ref().into()))
    }

    /// Reads every row and shows it to the caller. A row of any other kind is a fault.
    pub(super) fn scan(
        &self,
        mut show: impl FnMut(RowName, RowFacts),
    ) -> Result<IndexTotals, IndexFault> {
        let mut totals = IndexTotals::default();
        for row in self.db.iter() {
            let (key, value) = row?;
            let named = RowName::of(&key).ok_or(IndexFault::Malformed)?;
            let facts = RowFacts::of(&key, &value).ok_or(IndexFault::Malformed)?;
            totals.add(&key, facts);
            show(named, facts);
        }
        Ok(totals)
    }

    /// Has what was put be on disk.
    pub(super) fn flush(&self) -> Result<(), IndexFault> {
        self.db.flush()?;
        Ok(())
    }

    /// Flushes, and lets go of the files.
    pub(super) fn close(self) -> Result<IndexTotals, IndexFault> {
        self.flush()?;
        drop(ManuallyDrop::into_inner(self.db));
        Ok(self.totals)
    }
}

/// The database, or where it lies, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexFault {
    #[error(transparent)]
    Database(#[from] sled::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("a row is malformed")]
    Malformed,
}

/// Pages of the database that it keeps in memory, in its own count; the real one is several times
/// that.
const CACHE_BYTES: u64 = 16 << 20;
