//! Pull-through: hit, miss, stale, revalidate; one fetch per missing thing.
//!
//! Read `pull.rs` first: it is the life of a request.

mod belief;
mod blob;
mod body;
mod claims;
mod decision;
mod epoch;
mod error;
mod fetch;
mod fill;
mod flights;
mod hot;
mod key;
mod link;
mod list;
mod lists;
mod manifest;
mod manifest_ask;
mod manifests;
mod memory;
mod options;
mod presence;
mod pull;
mod pushed;
mod question;
mod recheck;
mod tags;
mod tasks;

pub use blob::{Blob, BlobHead, BlobNeed};
pub use decision::{BypassReason, Decision, DecisionNames, StaleReason};
pub use epoch::Epoch;
pub use error::{CacheError, ManifestFault};
pub use fill::stats::FillEnd;
pub use key::MutableRecord;
pub use list::{ListKind, ListPage};
pub use manifest::{CachedManifest, MANIFEST_BYTES_MAX, ManifestContent};
pub use memory::MemoryUse;
pub use options::CacheOptions;
use pull::Shared;
pub use pull::{Cache, Pulled};
