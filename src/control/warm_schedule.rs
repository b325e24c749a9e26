//! Images that are fetched again and again: the `[[warm]]` tables of the configuration.
//!
//! It decides when a table's images are fetched, and which tags a pattern means; the tags that are
//! pulled often are found in `inventory/often_pulled.rs`. `warm.rs` fetches one image. A table
//! that a new configuration still has keeps its times; one that is gone ends, also in the middle of
//! an image.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::answer::ControlFailure;
use super::warm::{WarmJob, WarmWishes, grant_to_warm};
use crate::access::Grant;
use crate::cache::{Cache, CacheError, KnownRegistries, ListKind};
use crate::inventory::{
    ImageName, ImageSelection, PullThreshold, Timestamp, WarmOptions, often_pulled,
};
use crate::oci::{PageQuery, Reference, Tag};
use crate::registry::RepositoryPattern;
use crate::store::blocking;

/// The tables that are in force, each with a task.
#[derive(Debug)]
pub struct WarmSchedule {
    fetcher: ScheduledFetcher,
    running: Mutex<Vec<RunningTable>>,
}

/// A table in force. Its task ends with it.
#[derive(Debug)]
struct RunningTable {
    table: WarmOptions,
    runs: Arc<Mutex<TableRuns>>,
    _task: AbortOnDropHandle<()>,
}

/// The runs of a table.
#[derive(Clone, Copy, Debug, Default)]
struct TableRuns {
    begun_at: Option<SystemTime>,
    /// None while one goes on.
    next_at: Option<SystemTime>,
    last: Option<WarmCount>,
}

/// A `[[warm]]` table and its runs, as `larder stats --json` prints them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmTableStats {
    /// Its images, with patterns in the place of tags.
    pub images: Vec<String>,
    /// Pulls that a tag needs to be fetched; `null` for images that are fetched in any case.
    #[serde(default)]
    pub pulled: Option<u64>,
    /// Seconds before a run in which these count.
    #[serde(default)]
    pub within_seconds: Option<u64>,
    /// Seconds from one run to the next.
    pub every_seconds: u64,
    /// When the last run began.
    pub begun_at: Option<Timestamp>,
    /// When the next one begins; `null` while one goes on.
    pub next_at: Option<Timestamp>,
    /// Images of the last run that has ended of which all is stored; `null` before its end.
    pub complete: Option<u64>,
    /// Those of which it is not, and lists of tags that could not be had.
    pub failed: Option<u64>,
}

/// How many images were fetched on a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmCount {
    /// Images of which all that is wanted is stored.
    pub complete: u64,
    /// Images of which it is not, and lists of tags that cannot be had.
    pub failed: u64,
}

impl WarmSchedule {
    /// No tables yet.
    pub fn new(cache: Cache, known: KnownRegistries) -> Self {
        let permits = Arc::new(Semaphore::new(IMAGES_AT_ONCE));
        let fetcher = ScheduledFetcher { cache, known, permits, counts: Arc::default() };
        Self { fetcher, running: Mutex::default() }
    }

    /// These are the tables from now on. A new one begins at once.
    pub fn set_tables(&self, tables: Vec<WarmOptions>) {
        let mut running = self.running.lock();
        running.retain(|running| tables.contains(&running.table));
        for table in tables {
            if running.iter().any(|running| running.table == table) {
                continue;
            }
            let fetcher = self.fetcher.clone();
            let wanted = table.clone();
            let runs = Arc::<Mutex<TableRuns>>::default();
            let noted = Arc::clone(&runs);
            let task = async move {
                repeat(wanted.every, || fetcher.run_noted(&wanted, &noted)).await;
            };
            let task = AbortOnDropHandle::new(tokio::spawn(task));
            running.push(RunningTable { table, runs, _task: task });
        }
    }

    /// The tables in force.
    pub fn tables(&self) -> Vec<WarmTableStats> {
        let running = self.running.lock();
        running.iter().map(RunningTable::stats).collect()
    }

    /// The images that were fetched.
    pub fn count(&self) -> WarmCount {
        *self.fetcher.counts.lock()
    }
}

impl RunningTable {
    fn stats(&self) -> WarmTableStats {
        let TableRuns { begun_at, next_at, last } = *self.runs.lock();
        let WarmOptions { images, pulled, every, .. } = &self.table;
        WarmTableStats {
            images: images.iter().map(ToString::to_string).collect(),
            pulled: pulled.map(|pulled| pulled.pulls),
            within_seconds: pulled.map(|pulled| pulled.within.as_secs()),
            every_seconds: every.as_secs(),
            begun_at: begun_at.map(Timestamp::from),
            next_at: next_at.map(Timestamp::from),
            complete: last.map(|last| last.complete),
            failed: last.map(|last| last.failed),
        }
    }
}

/// Runs at once, and on each beat of the interval. Beats that a long run takes are left out.
async fn repeat<F: Future<Output = ()>>(every: Duration, run: impl Fn() -> F) {
    loop {
        let begin = Instant::now();
        run().await;
        sleep(until_beat(begin.elapsed(), every)).await;
    }
}

/// The time from the end of a run that took so long to the next beat.
fn until_beat(took: Duration, every: Duration) -> Duration {
    let late = took.as_nanos() % every.as_nanos().max(1);
    every.saturating_sub(Duration::from_nanos(u64::try_from(late).unwrap_or(u64::MAX)))
}

#[derive(Clone)]
struct ScheduledFetcher {
    cache: Cache,
    known: KnownRegistries,
    /// Held for each image that is fetched.
    permits: Arc<Semaphore>,
    /// The images of all runs.
    counts: Arc<Mutex<WarmCount>>,
}

impl std::fmt::Debug for ScheduledFetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScheduledFetcher").finish_non_exhaustive()
    }
}

impl ScheduledFetcher {
    /// A run of a table, whose times and outcome are noted.
    async fn run_noted(&self, table: &WarmOptions, runs: &Mutex<TableRuns>) {
        let begin = Instant::now();
        let begun_at = Some(self.cache.now());
        let last = runs.lock().last;
        *runs.lock() = TableRuns { begun_at, next_at: None, last };
        let last = Some(self.run(table).await);
        let wait = until_beat(begin.elapsed(), table.every);
        *runs.lock() = TableRuns { begun_at, next_at: self.cache.now().checked_add(wait), last };
    }

    /// Fetches the images of a table, one after the other.
    async fn run(&self, table: &WarmOptions) -> WarmCount {
        let mut count = WarmCount::default();
        match table.pulled {
            Some(threshold) => self.run_often_pulled(table, threshold, &mut count).await,
            None => self.run_named(table, &mut count).await,
        }
        let WarmCount { complete, failed } = count;
        tracing::info!(complete, failed, "images were warmed on schedule");
        count
    }

    async fn run_named(&self, table: &WarmOptions, count: &mut WarmCount) {
        for selection in &table.images {
            let images = match self.images(selection).await {
                Ok(images) => images,
                Err(error) => {
                    self.note(&selection.name, Some(error), count);
                    continue;
                }
            };
            for (image, grant) in images {
                let error = self.fetch(image.reference.clone(), grant, table).await;
                self.note(&image, error, count);
            }
        }
    }

    /// Fetches what the images lack that are pulled often. Those that may not be fetched, since
    /// their registry is offline or only clients may ask it, are left as they are.
    async fn run_often_pulled(
        &self,
        table: &WarmOptions,
        threshold: PullThreshold,
        count: &mut WarmCount,
    ) {
        let (store, images) = (Arc::clone(self.cache.store()), table.images.clone());
        let now = self.cache.now();
        let read = move || often_pulled(&store.view()?, &images, threshold, now);
        let often = blocking(read).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the log of pulls");
            Vec::new()
        });
        for (image, digest) in often.into_iter().take(TAGS_MAX) {
            let Some(grant) = grant_to_warm(&self.known, &image) else { continue };
            let error = self.fetch(Reference::Digest(digest), grant, table).await;
            self.note(&image, error, count);
        }
    }

    /// Fetches an image. Returns the reason that it is not complete.
    async fn fetch(
        &self,
        reference: Reference,
        grant: Grant,
        table: &WarmOptions,
    ) -> Option<String> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Some("Larder is stopping".to_owned());
        };
        let WarmOptions { platforms, with_referrers, .. } = table;
        let wishes = WarmWishes { platforms: platforms.clone(), with_referrers: *with_referrers };
        let job = WarmJob::new(self.cache.clone(), grant, wishes, None);
        job.run(reference).await.error
    }

    fn note(&self, image: &ImageName, error: Option<String>, count: &mut WarmCount) {
        if let Some(error) = error {
            count.failed += 1;
            self.counts.lock().failed += 1;
            tracing::warn!(%image, error, "cannot warm an image");
        } else {
            count.complete += 1;
            self.counts.lock().complete += 1;
        }
    }

    /// The images that are meant, each with the right to fetch it.
    async fn images(&self, wanted: &ImageSelection) -> Result<Vec<(ImageName, Grant)>, String> {
        let name = &wanted.name;
        let grant = grant_to_warm(&self.known, name);
        let grant = grant.ok_or_else(|| {
            let ControlFailure { error, hint } = ControlFailure::not_warmed(name);
            format!("{error}: {}", hint.unwrap_or_default())
        })?;
        let Some(pattern) = &wanted.tags else { return Ok(vec![(name.clone(), grant)]) };
        let mut tags = self.tags(&grant, pattern).await.map_err(|error| error.to_string())?;
        if tags.is_empty() {
            return Err(format!("no tag matches `{pattern}`"));
        }
        if tags.len() > TAGS_MAX {
            let found = tags.len();
            tracing::warn!(image = %name, %pattern, found, "more than {TAGS_MAX} tags match");
            tags.truncate(TAGS_MAX);
        }
        let image = |tag| ImageName { reference: Reference::Tag(tag), ..name.clone() };
        Ok(tags.into_iter().map(|tag| (image(tag), grant.clone())).collect())
    }

    /// The tags of a repository that a pattern matches.
    async fn tags(
        &self,
        grant: &Grant,
        pattern: &RepositoryPattern,
    ) -> Result<Vec<Tag>, CacheError> {
        let (mut page, mut found) = (PageQuery::default(), Vec::new());
        for _ in 0..PAGES_MAX {
            let list = self.cache.list(grant, &ListKind::Tags, &page).await?.what;
            let (body, wanted) = (list.body.clone(), pattern.clone());
            // A page may have 32 MiB.
            let matching = spawn_blocking(move || matching_tags(&body, &wanted));
            found.extend(matching.await.unwrap_or_default());
            let Some(next) = list.next.clone().filter(|_| found.len() <= TAGS_MAX) else { break };
            page = next;
        }
        Ok(found)
    }
}

/// The tags of a page of a list that a pattern matches.
fn matching_tags(body: &[u8], pattern: &RepositoryPattern) -> Vec<Tag> {
    let TagNames { tags } = serde_json::from_slice(body).unwrap_or_default();
    let names = tags.unwrap_or_default().into_iter();
    names.filter(|name| pattern.matches(name)).filter_map(|name| name.parse().ok()).collect()
}

/// The part of a list of tags that is read.
#[derive(Default, Deserialize)]
struct TagNames {
    tags: Option<Vec<String>>,
}

/// Images that are fetched at once for all tables: clients come first.
const IMAGES_AT_ONCE: usize = 2;

/// Tags that one pattern may match, and that are fetched as they are pulled often: a registry or a
/// client that makes up ever new ones would fill the cache.
const TAGS_MAX: usize = 1000;

/// Pages of a list of tags that are read: a registry could link one page to another for good.
const PAGES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// The times of the first runs, in seconds, each of which takes so long.
    async fn runs(every: u64, takes: u64) -> Vec<u64> {
        let begin = Instant::now();
        let (sender, mut seen) = mpsc::unbounded_channel();
        let run = || async {
            sender.send(begin.elapsed().as_secs()).unwrap();
            sleep(Duration::from_secs(takes)).await;
        };
        let end = timeout(Duration::from_secs(59), repeat(Duration::from_secs(every), run)).await;
        assert!(end.is_err(), "it ends by itself");
        let mut times = Vec::new();
        while let Ok(time) = seen.try_recv() {
            times.push(time);
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_begins_at_once_and_on_each_beat_that_no_run_takes() {
        assert_eq!(runs(20, 0).await, [0, 20, 40]);
        assert_eq!(runs(20, 19).await, [0, 20, 40]);
        assert_eq!(runs(20, 25).await, [0, 40]);
        assert_eq!(runs(u64::MAX / 4, 1).await, [0]);
    }
}
