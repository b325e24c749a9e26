//! The parts of a running Larder that the page is made of. It reads none of them itself.

use std::path::PathBuf;
use std::time::SystemTime;

use super::activity::Activity;
use crate::admin::ReportSources;

/// The parts of a running Larder that the page shows.
#[derive(Debug)]
pub struct DashboardSources {
    /// Those that health and metrics are read from, too.
    pub reports: ReportSources,
    /// The latest requests.
    pub activity: Activity,
    /// The cache directory.
    pub dir: PathBuf,
    /// When Larder was started.
    pub started: SystemTime,
}
