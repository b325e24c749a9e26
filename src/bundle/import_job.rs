//! An import on a thread of its own, and the reports of how far it is.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::BundleError;
use super::bundle_image::ImportWishes;
use super::content_intake::{ContentIntake, ImportCounters};
use super::import::{BundleImport, ImportOutcome};
use crate::store::Store;

/// The progress of an import; the last update has its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportUpdate {
    /// Whether it has ended.
    #[serde(rename = "done")]
    pub is_done: bool,
    /// Bytes of contents that were read.
    pub read_bytes: u64,
    /// Contents that were not in the cache before.
    pub new: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Contents that were in the cache before.
    pub known: u64,
    /// The images that are in the cache now, at the end.
    pub images: Vec<String>,
    /// Those of a registry's tree that are not complete there, at the end.
    pub left_out: Vec<LeftOutImage>,
    /// Why nothing was imported, at the end.
    pub error: Option<String>,
    /// Advice on that.
    pub hint: Option<String>,
}

/// An image that was not imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutImage {
    /// Its name.
    pub name: String,
    /// The reason.
    pub why: String,
}

/// An import that goes on by itself.
#[derive(Debug)]
pub struct ImportJob {
    running: Option<JoinHandle<Result<ImportOutcome, BundleError>>>,
    counters: Arc<ImportCounters>,
}

impl ImportJob {
    /// Begins to take an archive into the store, as the upstreams have it `now`.
    pub fn start(
        store: &Arc<Store>,
        archive: impl Read + Send + 'static,
        wishes: ImportWishes,
        now: SystemTime,
    ) -> Self {
        let counters = Arc::<ImportCounters>::default();
        let (store, counts) = (Arc::clone(store), Arc::clone(&counters));
        let intake = ContentIntake { store, runtime: Handle::current(), counters: counts };
        let import = BundleImport::new(intake, wishes);
        Self { running: Some(spawn_blocking(move || import.run(archive, now))), counters }
    }

    /// Waits a moment, or until it ends. `None` after the last update.
    pub async fn next(&mut self) -> Option<ImportUpdate> {
        let running = self.running.as_mut()?;
        let Ok(ended) = timeout(UPDATE_EVERY, running).await else { return Some(self.counted()) };
        self.running = None;
        let update = ImportUpdate { is_done: true, ..self.counted() };
        let outcome =
            ended.unwrap_or_else(|lost| Err(BundleError::Store(std::io::Error::other(lost))));
        Some(match outcome {
            Ok(ImportOutcome { images, left_out }) => ImportUpdate {
                images: images.iter().map(ToString::to_string).collect(),
                left_out: left_out
                    .iter()
                    .map(|(image, error)| LeftOutImage {
                        name: image.to_string(),
                        why: error.to_string(),
                    })
                    .collect(),
                ..update
            },
            Err(error) => ImportUpdate {
                hint: error.hint().map(str::to_owned),
                error: Some(error.to_string()),
                ..update
            },
        })
    }

    fn counted(&self) -> ImportUpdate {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        ImportUpdate {
            read_bytes: count(&self.counters.read_bytes),
            new: count(&self.counters.new),
            new_bytes: count(&self.counters.new_bytes),
            known: count(&self.counters.known),
            ..ImportUpdate::default()
        }
    }
}

/// The time between two updates.
const UPDATE_EVERY: Duration = Duration::from_millis(250);
