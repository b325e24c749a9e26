//! Where the store is, and what it may take.

use std::path::PathBuf;
use std::time::Duration;

/// What the store needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cache directory. Made with mode 0700 when it is missing.
    pub dir: PathBuf,
    /// Bytes of the file system that are left free, but never more than a twentieth of it.
    pub min_free: u64,
    /// How long a partial download waits to be resumed before it is swept.
    pub fill_keep: Duration,
}
