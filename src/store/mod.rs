//! Bytes by digest, and the few facts kept beside them, as files.
//!
//! The files are the truth. What lies under `blobs/` was verified before it got its name there,
//! and nothing else ever gets one.

mod absent;
mod due;
mod error;
mod growing;
mod index;
mod key;
mod layout;
mod lists;
mod open;
mod options;
mod partial;
mod records;
mod shelf;
mod space;
mod staged;
mod stamps;
mod sums;
mod verify;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use absent::AbsentRecord;
pub use due::{DueBlob, Verdict};
pub use error::{Mismatch, OpenError};
pub use growing::Committed;
pub use index::{
    CHECK_COMMAND, IndexOptions, IndexReport, IndexState, Row, Totals, check_index, index_rows,
    index_rows_of_files,
};
pub use lists::ListRecord;
pub use open::{Store, StoreReport};
pub use options::{Machine, Options};
pub use partial::Partial;
pub use records::{Members, TagRecord};
pub use shelf::Verification;
pub use space::Room;
pub use staged::Staged;
pub use sums::SumHasher;
pub use verify::{Stored, StoredBlob, StoredFile, Verified};

/// What a panic left behind is still whole: nothing here is changed by half.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
