//! Bytes by digest, and the few facts kept beside them, as files.
//!
//! The files are the truth. Every file under `blobs/` was verified before it got its name there.

mod append_file;
mod blob_store;
mod blocking;
mod content;
mod disk_check;
mod disk_gate;
mod disk_read;
mod disk_usage;
mod error;
mod eviction;
mod flush_ahead;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hashed_file;
mod holders;
mod index;
mod layout;
mod locked_dir;
mod member_log;
mod open;
mod options;
mod partials;
mod recheck;
mod record_files;
mod record_share;
mod record_store;
mod record_sweep;
mod records;
mod repository;
mod repository_members;
mod repository_records;
mod repository_view;
mod small_files;
mod space;
mod space_limits;
mod space_shortage;
mod stamps;
mod sums;
mod vanished_tags;
mod verify;
mod view;

pub use append_file::CommittedBlob;
pub use blob_store::RecheckCounts;
pub use blocking::blocking;
pub use content::{ContentStore, StoredState};
pub use disk_check::DiskPace;
pub use error::{DigestMismatch, OpenError};
#[doc(hidden)]
pub use eviction::{BlobClass, BlobHold, EvictionOrder, OrderBound, RegistryGroup, RemovedBlob};
pub use eviction::{
    EvictedBlobs, EvictionReason, NoPins, PinRules, ProtectionLimits, RegistryRetention,
    RetentionLimits, SpaceReport, UpstreamStates,
};
pub use hashed_file::{AppendError, CommitError, HashedFile};
pub use holders::{CONTENT_GROUPS, ContentHolder, contents_of, holders_of};
pub use index::{
    CHECK_COMMAND, IndexOptions, IndexReport, IndexRow, IndexState, IndexTotals, check_index,
    index_rows, index_rows_of_files,
};
pub use open::{Store, StoreReport};
pub use options::{BootClock, StoreOptions};
pub use recheck::{RecheckVerdict, StaleBlob};
pub use records::{AbsentRecord, ListRecord, MemberSizes, TagRecord};
pub use repository::RepositoryStore;
pub use repository_records::RepositoryRecords;
pub use repository_view::{ManifestView, RecordStamp, RepositoryView, RepositoryWalk, TagView};
pub use space::{DiskSpace, SpacePart};
pub use space_limits::{SpaceAmount, SpaceLimits};
pub use sums::SumHasher;
pub use verify::{StoredBlob, StoredFile, VerifiedContent};
pub use view::{ContentView, StoreView};

#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod tests;
