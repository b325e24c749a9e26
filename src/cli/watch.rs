//! The pause of a command that prints again and again, until Ctrl-C.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::command_cache::{CommandCache, CommandError};

/// Waits between two reports. From its beginning on, Ctrl-C ends the command as done.
pub(super) struct WatchPause {
    interrupt: Signal,
}

impl WatchPause {
    pub(super) fn begin(cache: &CommandCache) -> Result<Self, CommandError> {
        let interrupt = cache.block_on(async { signal(SignalKind::interrupt()) });
        Ok(Self { interrupt: interrupt.map_err(CommandError::Files)? })
    }

    /// Waits for the next report; whether there is to be one.
    pub(super) fn wait(&mut self, cache: &CommandCache) -> bool {
        cache.block_on(async { timeout(REPORT_EVERY, self.interrupt.recv()).await.is_err() })
    }
}

/// The time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(2);
