//! The options of the store: its directory, and the space that it may take.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{IndexOptions, RetentionLimits, SpaceLimits};
use crate::clock::{BootId, SystemClock, WallClock};

/// The options of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The cache directory. Made with mode 0700 when it is missing.
    pub dir: PathBuf,
    /// The space that it may take, and that it leaves free.
    pub limits: SpaceLimits,
    /// How long content is kept, and how much of one registry.
    pub retention: RetentionLimits,
    /// How long a partial download waits to be resumed before it is swept.
    pub fill_keep: Duration,
    /// Content that was last verified longer ago is verified again when it is next asked for.
    pub verify_every: Duration,
    /// How the index is kept; without any, there is none.
    pub index: Option<IndexOptions>,
}

#[cfg(test)]
impl StoreOptions {
    /// For a test of what rests on a store: nothing is swept, and there is no index.
    pub(crate) fn for_test(dir: &std::path::Path) -> Self {
        let day = Duration::from_secs(86_400);
        let (dir, limits) = (dir.to_owned(), SpaceLimits::NONE);
        let retention = RetentionLimits::default();
        Self { dir, limits, retention, fill_keep: day, verify_every: day, index: None }
    }
}

/// The clock of the machine, and the boot that this process belongs to.
#[derive(Clone, Debug)]
pub struct BootClock {
    /// The time of day.
    pub clock: Arc<dyn WallClock>,
    /// Content that was last verified in another run is verified again when it is next asked for:
    /// a machine that goes down may have lost what it said to be on disk.
    pub boot: BootId,
}

impl Default for BootClock {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), boot: BootId::current() }
    }
}
