//! Bytes by digest, and the few facts kept beside them, as files.
//!
//! The files are the truth. What lies under `blobs/` was verified before it got its name there,
//! and nothing else ever gets one.

mod absent;
mod error;
mod layout;
mod lists;
mod open;
mod options;
mod partial;
mod records;
mod space;
mod verify;

pub use absent::AbsentRecord;
pub use error::{Mismatch, OpenError};
pub use lists::ListRecord;
pub use open::Store;
pub use options::Options;
pub use partial::{Committed, Partial};
pub use records::{Members, TagRecord};
pub use verify::{StoredBlob, StoredFile, Verified};

#[cfg(test)]
mod tests;
