//! Pull-through: hit, miss, stale, revalidate; one fetch per missing thing.
//!
//! Read `facade.rs` first: it is the life of a request.

mod blob;
mod body;
mod decision;
mod epoch;
mod error;
mod facade;
mod fetch;
mod fill;
mod flight;
mod hot;
mod key;
mod manifest;
mod memory;
mod mutable;
mod options;
mod presence;
mod question;
mod recheck;
mod tasks;

pub use blob::{Blob, BlobHead, BlobNeed};
pub use decision::{BypassReason, Decision, DecisionNames, StaleReason};
pub use epoch::Epoch;
pub use error::{CacheError, ManifestFault};
use facade::Shared;
pub use facade::{Cache, Pulled};
pub use fill::stats::FillEnd;
pub use key::MutableRecord;
pub use manifest::content::{CachedManifest, MANIFEST_BYTES_MAX, ManifestContent};
pub use memory::MemoryUse;
pub use mutable::list::{ListKind, ListPage};
pub use options::CacheOptions;
