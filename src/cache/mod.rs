//! Pull-through: hit, miss, stale, revalidate; one fetch per missing thing.
//!
//! Read `facade.rs` first: it is the life of a request.

mod blob;
mod body;
mod decision;
mod disk;
mod document;
mod epoch;
mod error;
mod facade;
mod fetch;
mod fill;
mod flight;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod key;
mod manifest;
mod memory;
mod mutable;
mod options;
mod presence;
mod question;
mod recheck;
mod restore;
mod scrub;
mod tasks;

pub use blob::{Blob, BlobHead, BlobNeed};
pub use decision::{BypassReason, Decision, DecisionNames, MissReason, Pulled, StaleReason};
pub use document::DocumentThreads;
pub use epoch::Epoch;
pub use error::{CacheError, ManifestFault};
pub use facade::Cache;
pub use fill::stats::FillEnd;
pub use fill::table::RunningFill;
pub use manifest::content::{CachedManifest, ManifestContent};
pub use manifest::headers::{DigestHeaders, ManifestHeaders};
pub use manifest::warnings::UpstreamWarnings;
pub use memory::MemoryUse;
pub use mutable::changes::AcceptedChanges;
pub use mutable::list::{ListKind, ListPage};
pub use options::CacheOptions;
pub use restore::KnownRegistries;
pub use scrub::ScrubReport;
