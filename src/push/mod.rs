//! Push-through: what a client pushes is sent on to the registry, which alone decides what becomes of
//! it, and kept beside.
//!
//! Read `uploads.rs` first: it is the life of a blob that is pushed.

mod answer;
mod copies;
mod error;
mod incoming;
mod manifests;
mod mount;
mod options;
mod service;
mod session;
mod upload_copy;
mod uploads;

pub use answer::{ContentLocation, PushAnswer};
pub use error::PushError;
pub use manifests::ManifestPut;
pub use mount::MountRequest;
pub use options::PushOptions;
pub use service::{MountCount, PushService};
pub use uploads::{PushCaller, UploadPart, UploadStart};
