//! Bytes by digest, and the few facts kept beside them, as files.
//!
//! The files are the truth. What lies under `blobs/` was verified before it got its name there,
//! and nothing else ever gets one.

mod absent;
mod append_file;
mod blob_store;
mod error;
mod index;
mod key;
mod layout;
mod lists;
mod open;
mod options;
mod partial;
mod recheck;
mod records;
mod space;
mod staged;
mod stamps;
mod sums;
mod verify;

pub use absent::AbsentRecord;
pub use append_file::CommittedBlob;
pub use blob_store::RecheckCounts;
pub use error::{DigestMismatch, OpenError};
pub use index::{
    CHECK_COMMAND, IndexOptions, IndexReport, IndexRow, IndexState, IndexTotals, check_index,
    index_rows, index_rows_of_files,
};
pub use lists::ListRecord;
pub use open::{Store, StoreReport};
pub use options::{BootClock, StoreOptions};
pub use partial::PartialBlob;
pub use recheck::{RecheckVerdict, StaleBlob};
pub use records::{MemberSizes, TagRecord};
pub use space::DiskSpace;
pub use staged::StagedFile;
pub use sums::SumHasher;
pub use verify::{StoredBlob, StoredFile, StoredState, VerifiedContent};

#[cfg(test)]
mod tests;
