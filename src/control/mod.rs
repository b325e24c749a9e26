//! The operator's commands and the server that answers them, over a unix socket in the cache
//! directory.
//!
//! A request is a method and a target without a body; an answer is JSON, one object or one for each
//! line. Both ends are of this crate: `request.rs` has the requests, the types of answers are
//! those that `--json` prints. When no server runs, a command makes the same answer from the files.

mod answer;
mod lines;
mod pull_recorder;
mod received;
mod request;
mod service;
mod stats;
mod verification;
mod warm;
mod warm_schedule;

use std::path::{Path, PathBuf};

pub use answer::ControlFailure;
pub use pull_recorder::record_pulls;
pub use request::ControlRequest;
pub use service::{ControlService, ControlSources, ImportKeys, PageFigures, RegistrySettings};
pub use stats::{CacheStats, EvictedCount, RegistryTraffic, ServerStats};
pub use verification::{
    ContentShare, ContentVerification, NoShare, VerificationReport, WrongContent, WrongState,
};
pub use warm::{LayerProgress, WarmUpdate, WarmWishes};
pub use warm_schedule::{WarmCount, WarmSchedule, WarmTableStats};

/// The socket of the server that uses this cache directory.
pub fn socket_path(cache_dir: &Path) -> PathBuf {
    cache_dir.join("control.sock")
}
