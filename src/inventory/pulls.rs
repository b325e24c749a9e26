//! The log of pulls: which client pulled which image, and when.
//!
//! A pull is a line of JSON in the records of the store, as `larder pulls --json` prints it. The
//! log is bounded by its length, so it goes back a number of pulls, not a time. It is decided when
//! a line is written in `control/pull_recorder.rs`.

use std::collections::HashMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;
use crate::store::StoreView;

/// A pull of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRecord {
    /// When it began.
    pub at: Timestamp,
    /// The image: `registry/repository:tag`, or `registry/repository@digest` if no tag was named.
    pub name: String,
    /// The user, if the client was no anonymous one.
    pub user: Option<String>,
    /// The IP address of the client; over IPv6 the first of its network of 64 bits.
    pub address: String,
    /// How the manifest was answered, as the request log has it: `hit`, `miss`, `stale`, …
    pub decision: Option<String>,
}

/// All pulls in the log, the oldest first. Blocks.
///
/// # Errors
///
/// Those of the file system.
pub fn list_pulls(view: &StoreView) -> io::Result<Vec<PullRecord>> {
    let log = view.pull_log()?;
    // A line that a full disk or a kill has torn is none.
    Ok(log.split(|byte| *byte == b'\n').filter_map(|it| serde_json::from_slice(it).ok()).collect())
}

/// How often each image was pulled, as far as the log goes.
#[derive(Debug, Default)]
pub(super) struct PullCounts(HashMap<String, u64>);

impl PullCounts {
    /// Those of the log. Without a log that can be read there are none.
    pub(super) fn read(view: &StoreView) -> Self {
        let mut counts = HashMap::new();
        for pull in list_pulls(view).unwrap_or_default() {
            *counts.entry(pull.name).or_default() += 1;
        }
        Self(counts)
    }

    /// The pulls of an image, by its full name.
    pub(super) fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}
