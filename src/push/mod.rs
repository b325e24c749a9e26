//! Push-through: a client's push is sent on to the registry, which alone decides about it, and a
//! copy of the content is stored.
//!
//! Read `uploads.rs` first: it is the life of a blob that is pushed. Whether a client may push is
//! decided in `access`, and what a push changes in the cache is decided in `cache`.

mod answer;
mod calls;
mod confirm;
mod copies;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod incoming;
mod manifests;
mod mount;
mod options;
mod service;
mod session;
mod sessions;
mod shares;
mod upload_copy;
mod uploads;

pub use answer::{ContentLocation, PushAnswer};
pub use error::PushError;
pub use manifests::{ManifestPushes, ManifestPut};
pub use mount::{BlobMounts, MountCount, MountRequest};
pub use options::PushOptions;
pub use service::PushService;
pub use sessions::PushCaller;
pub use uploads::{BlobUploads, UploadPart, UploadStart};
