//! The fills in flight: one for each registry and digest.
//!
//! Fills of one digest for two registries are separate, so that neither can slow or poison the
//! other; the first to be verified is stored. Within a registry a request for a missing blob joins
//! the fill in flight.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::access::Grant;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fetch::reader_credentials::{FillReader, FillReaders};
use crate::cache::fill::parallel_ranges::ParallelRanges;
use crate::cache::fill::progress::FillProgress;
use crate::cache::fill::range_budget::RangeBudget;
use crate::cache::{CacheError, Epoch};
use crate::oci::{Digest, RegistryName, RepositoryName};
use crate::store::StoredBlob;

/// The fills in flight. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(crate) struct FillTable {
    in_flight: Arc<Mutex<HashMap<FillKey, FillEntry>>>,
    parallel: Arc<ParallelRanges>,
}

/// A fill in flight, for operators.
#[derive(Clone, Debug)]
pub struct RunningFill {
    /// The registry.
    pub registry: RegistryName,
    /// The repository in which the upstream is asked.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// Bytes that have come.
    pub received: u64,
    /// Bytes of the whole blob, if they are known.
    pub total: Option<u64>,
    /// The requests that read it.
    pub readers: usize,
}

type FillKey = (RegistryName, Digest);

/// A fill in flight. It counts as no reader.
#[derive(Debug)]
struct FillEntry {
    repository: RepositoryName,
    since: Epoch,
    progress: watch::Sender<FillProgress>,
    ranges: RangeBudget,
    readers: Option<FillReaders>,
    /// Held by each reader as well.
    places: Arc<()>,
}

impl FillTable {
    /// The registries and digests of the fills in flight.
    pub(crate) fn in_flight(&self) -> Vec<(RegistryName, Digest)> {
        self.in_flight.lock().keys().cloned().collect()
    }

    /// The fills in flight.
    pub(crate) fn list(&self) -> Vec<RunningFill> {
        let in_flight = self.in_flight.lock();
        let fills = in_flight.iter().map(|((registry, digest), entry)| {
            let progress = entry.progress.borrow();
            RunningFill {
                registry: registry.clone(),
                repository: entry.repository.clone(),
                digest: digest.clone(),
                received: progress.received(),
                total: progress.total(),
                readers: Arc::strong_count(&entry.places) - 1,
            }
        });
        fills.collect()
    }

    /// The large ranges that clients have asked for lately.
    pub(crate) fn parallel(&self) -> &ParallelRanges {
        &self.parallel
    }

    /// The fill of the blob that is in flight. The handle makes no reader.
    pub(crate) fn get(&self, grant: &Grant, digest: &Digest) -> Option<FillHandle> {
        self.in_flight.lock().get(&key(grant, digest)).map(FillEntry::handle)
    }

    /// Whether a fill of the blob is in flight.
    pub(crate) fn has(&self, grant: &Grant, digest: &Digest) -> bool {
        self.in_flight.lock().contains_key(&key(grant, digest))
    }

    /// The blob, if its fill has verified it and only waits for the disk.
    pub(crate) fn verified(&self, grant: &Grant, digest: &Digest) -> Option<StoredBlob> {
        match &*self.in_flight.lock().get(&key(grant, digest))?.progress.borrow() {
            FillProgress::Done { blob, .. } => Some(blob.clone()),
            _ => None,
        }
    }

    /// Joins the fill of the blob. If none is in flight, the caller has to run one: it gets the
    /// [`FillStart`] too.
    pub(super) fn join(
        &self,
        grant: &Grant,
        digest: &Digest,
        since: Epoch,
    ) -> (FillHandle, Option<FillStart>) {
        let mut in_flight = self.in_flight.lock();
        let (handle, start) = match in_flight.entry(key(grant, digest)) {
            Entry::Occupied(entry) => {
                (FillHandle { is_joined: true, ..entry.get().handle() }, None)
            }
            Entry::Vacant(entry) => {
                let progress = watch::Sender::new(FillProgress::Asking);
                let readers = grant.uses_client_credential().then(FillReaders::default);
                let origin = BlobOrigin::new(grant, digest, readers.clone());
                let guard = FillGuard {
                    table: self.clone(),
                    key: entry.key().clone(),
                    progress: progress.clone(),
                };
                let ranges = origin.clone().with_any_reader();
                let ranges = RangeBudget::new(ranges, Arc::clone(&self.parallel));
                let repository = grant.repository().clone();
                let start = FillStart { guard, origin, progress: progress.clone() };
                let places = Arc::default();
                let entry = entry.insert(FillEntry {
                    repository,
                    since,
                    progress,
                    ranges,
                    readers,
                    places,
                });
                (entry.handle(), Some(start))
            }
        };
        drop(in_flight);
        let reader = handle.readers.as_ref().map(|readers| readers.enter(grant));
        (FillHandle { reader, ..handle }, start)
    }
}

impl FillEntry {
    fn handle(&self) -> FillHandle {
        let Self { repository, since, progress, ranges, readers, places } = self;
        FillHandle {
            is_joined: false,
            repository: repository.clone(),
            since: *since,
            progress: progress.subscribe(),
            ranges: ranges.clone(),
            readers: readers.clone(),
            reader: None,
            place: FillPlace::at(places),
        }
    }
}

fn key(grant: &Grant, digest: &Digest) -> FillKey {
    (grant.registry().name().clone(), digest.clone())
}

/// A fill, as its readers see it.
#[derive(Clone, Debug)]
pub(crate) struct FillHandle {
    /// Whether another request has started it.
    pub(crate) is_joined: bool,
    /// The repository in which the upstream is asked.
    pub(crate) repository: RepositoryName,
    /// When it began.
    pub(crate) since: Epoch,
    /// How far it is.
    pub(crate) progress: watch::Receiver<FillProgress>,
    /// The ranges that may be fetched beside it.
    pub(crate) ranges: RangeBudget,
    /// All readers, where clients bring credentials of their own.
    readers: Option<FillReaders>,
    /// This reader. Its credential is used as long as this is held.
    pub(crate) reader: Option<Arc<FillReader>>,
    /// It is read as long as this is held.
    pub(crate) place: FillPlace,
}

/// A reader's place at a fill. It is one reader, however often it is cloned.
#[derive(Clone, Debug)]
pub(crate) struct FillPlace {
    _counted: Arc<CountedPlace>,
}

impl FillPlace {
    fn at(places: &Arc<()>) -> Self {
        Self { _counted: Arc::new(CountedPlace { _of_fill: Arc::clone(places) }) }
    }
}

#[derive(Debug)]
struct CountedPlace {
    _of_fill: Arc<()>,
}

impl FillHandle {
    /// Waits until enough is known to send headers: that there is a blob, and its length if
    /// `needs_length`. `None` after `until`.
    pub(crate) async fn headers(&self, needs_length: bool, until: Instant) -> Option<FillProgress> {
        let is_ready = |progress: &FillProgress| match progress {
            FillProgress::Asking => false,
            FillProgress::Filling { total, .. } => !needs_length || total.is_some(),
            FillProgress::Done { .. } | FillProgress::Failed(_) | FillProgress::Relaying { .. } => {
                true
            }
        };
        let mut progress = self.progress.clone();
        match timeout_at(until, progress.wait_for(is_ready)).await {
            Ok(Ok(progress)) => Some(progress.clone()),
            Ok(Err(_)) => Some(FillProgress::Failed(CacheError::Internal("the fill was lost"))),
            Err(_) => None,
        }
    }

    /// Waits until the byte at this offset is on disk, or the fill has ended.
    pub(crate) async fn reached(&self, offset: u64) {
        let is_there = |progress: &FillProgress| match progress {
            FillProgress::Asking => false,
            FillProgress::Filling { written, .. } => *written > offset,
            FillProgress::Done { .. } | FillProgress::Failed(_) | FillProgress::Relaying { .. } => {
                true
            }
        };
        // A fill that was lost has ended too.
        drop(self.progress.clone().wait_for(is_there).await);
    }
}

/// A fill that is in the table and does not run yet.
#[derive(Debug)]
pub(super) struct FillStart {
    pub(super) guard: FillGuard,
    pub(super) origin: BlobOrigin,
    pub(super) progress: watch::Sender<FillProgress>,
}

/// A fill's place in the table. Dropping it, also by a panic, frees the place.
#[derive(Debug)]
pub(super) struct FillGuard {
    table: FillTable,
    key: FillKey,
    progress: watch::Sender<FillProgress>,
}

impl FillGuard {
    /// The outcome of `fetch`; `None`, and the place is free, if the last request that waited was
    /// gone before it brought any bytes. Otherwise clients that leave at once could start any
    /// number of fills.
    pub(super) async fn while_wanted<T, F>(&self, fetch: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = T>,
    {
        loop {
            tokio::select! {
                outcome = fetch() => return Some(outcome),
                () = self.unwanted() => {}
            }
            if self.give_up() {
                return None;
            }
        }
    }

    async fn unwanted(&self) {
        self.progress.closed().await;
        if !matches!(*self.progress.borrow(), FillProgress::Asking) {
            std::future::pending::<()>().await;
        }
    }

    /// Frees the place, unless a request waits again. From then on none joins.
    fn give_up(&self) -> bool {
        // Requests join under the lock.
        let mut in_flight = self.table.in_flight.lock();
        let is_unwanted = self.progress.is_closed();
        if is_unwanted {
            in_flight.remove(&self.key);
        }
        is_unwanted
    }
}

impl Drop for FillGuard {
    fn drop(&mut self) {
        let mut in_flight = self.table.in_flight.lock();
        // After giving up the place may be that of a later fill.
        let is_own = |entry: &FillEntry| entry.progress.same_channel(&self.progress);
        if in_flight.get(&self.key).is_some_and(is_own) {
            in_flight.remove(&self.key);
        }
    }
}
