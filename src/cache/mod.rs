//! Pull-through: hit, miss, stale, revalidate; one fetch per missing thing.
//!
//! Read `pull.rs` first: it is the life of a request.

mod belief;
mod blobs;
mod checked;
mod checks;
mod claims;
mod condition;
mod decision;
mod download;
mod error;
mod fill;
mod fills;
mod flights;
mod follow;
mod generations;
mod hot;
mod link;
mod list;
mod lists;
mod manifest;
mod manifest_ask;
mod manifests;
mod members;
mod options;
mod passed;
mod patience;
mod pull;
mod pushed;
mod readers;
mod relay;
mod side;
mod source;
mod tags;
mod tasks;
mod writer;

pub use blobs::{Blob, BlobHead, Need};
pub use claims::Asked;
pub use condition::{FillEnd, MemoryUse};
pub use decision::{Bypass, Decision, Names, StaleReason};
pub use error::{Error, ManifestFault};
pub use generations::Mutable;
pub use list::{List, Listing};
pub use manifest::{Content, MANIFEST_BYTES_MAX, Manifest};
pub use options::Options;
use pull::Shared;
pub use pull::{Cache, Pulled};
pub use pushed::Before;
