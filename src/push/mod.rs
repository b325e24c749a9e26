//! Push-through: what a client pushes is sent on to the registry, which alone decides what becomes of
//! it, and kept beside.
//!
//! Read `uploads.rs` first: it is the life of a blob that is pushed.

mod answer;
mod copies;
mod error;
mod flush;
mod incoming;
mod manifests;
mod mount;
mod options;
mod relay;
mod session;
mod tee;
mod uploads;

pub use answer::{Answer, Place};
pub use error::Error;
pub use manifests::Put;
pub use mount::Mount;
pub use options::Options;
pub use relay::{Mounts, Push};
pub use uploads::{Begin, Caller, Part};
