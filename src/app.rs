//! Where the parts are built and joined.

use crate::config::Settings;

/// Serves until it is told to stop.
#[allow(clippy::unused_async, reason = "the parts that are awaited here are being built")]
pub async fn run(_settings: Settings) -> Result<(), StartError> {
    Err(StartError)
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
#[error("not built yet")]
pub struct StartError;
