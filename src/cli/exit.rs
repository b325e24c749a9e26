//! Exit codes, which scripts depend on.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It did what it was asked for.
    Done = 0,
    /// It tried and could not.
    Failed = 1,
    /// It was asked wrongly: bad usage or configuration.
    Misused = 2,
}

impl From<ExitStatus> for ExitCode {
    fn from(exit: ExitStatus) -> Self {
        Self::from(exit as u8)
    }
}
