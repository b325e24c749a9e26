//! The life of a pull: the cache first, then, lazily, the upstream.
//!
//! Whoever calls here holds a [`Grant`], so access is settled. What is looked up and in which
//! order is decided here and in the files named after the nouns: `manifests` and `tags` for
//! manifests, `blobs` for blobs. No ping, login or name look-up happens for a request that the
//! cache can answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::blob::{Blob, BlobHead, BlobNeed, BlobPulls};
use super::epoch::{Epoch, EpochTable};
use super::error::warn_of;
use super::fill::join::BlobFills;
use super::fill::stats::{FillEnd, FillStats};
use super::fill::task::FillTools;
use super::flight::FlightTable;
use super::hot::MemoryCache;
use super::key::RecordKey;
use super::mutable::revalidate::Purpose;
use super::mutable::tags::ResolvedTag;
use super::presence::{BlobLookup, PresenceTable};
use super::recheck::RecheckQueue;
use super::tasks::DetachedTasks;
use super::{CacheError, CacheOptions, CachedManifest, Decision, ListKind, ListPage, MemoryUse};
use crate::access::Grant;
use crate::clock::WallClock;
use crate::http::FramePool;
use crate::oci::{AcceptSet, Digest, PageQuery, Reference};
use crate::store::{DiskSpace, IndexRow, Store, StoreReport, blocking};

/// The cache in front of every registry. Clones are the same cache.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) shared: Arc<Shared>,
}

/// Something pulled, and how it was come by.
#[derive(Clone, Debug)]
pub struct Pulled<T> {
    /// What was pulled.
    pub what: T,
    /// How.
    pub decision: Decision,
    /// How long ago the upstream last confirmed it; `None` for what cannot change.
    pub age: Option<Duration>,
}

/// What all pulls share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) options: CacheOptions,
    pub(super) hot: MemoryCache,
    pub(super) epochs: Arc<EpochTable>,
    pub(super) manifests_asked: FlightTable<(RecordKey, Epoch), Arc<CachedManifest>>,
    pub(super) tags_asked: FlightTable<(RecordKey, Epoch), ResolvedTag>,
    pub(super) lists_asked: FlightTable<(RecordKey, Epoch), Arc<ListPage>>,
    pub(super) presence: Arc<PresenceTable>,
    pub(super) blobs: BlobPulls,
    pub(super) tasks: DetachedTasks,
}

impl Cache {
    /// A cache over `store`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn WallClock>, options: CacheOptions) -> Self {
        let tasks = DetachedTasks::default();
        let epochs = Arc::<EpochTable>::default();
        let presence = PresenceTable::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&epochs),
            options.memory / 4,
        );
        let presence = Arc::new(presence);
        let lookup = BlobLookup::new(Arc::clone(&presence), Arc::clone(&epochs), tasks.clone());
        let lookup = Arc::new(lookup);
        let rechecks = Arc::new(RecheckQueue::new(Arc::clone(&store), tasks.clone()));
        let tools = FillTools {
            store: Arc::clone(&store),
            presence: Arc::clone(&presence),
            lookup: Arc::clone(&lookup),
            epochs: Arc::clone(&epochs),
            rechecks: Arc::clone(&rechecks),
            stats: FillStats::default(),
        };
        let blobs = BlobPulls {
            presence: Arc::clone(&presence),
            lookup,
            rechecks,
            fills: Arc::new(BlobFills::new(tools, tasks.clone())),
            frames: FramePool::default(),
        };
        let shared = Shared {
            store,
            clock,
            hot: MemoryCache::new(options.memory),
            manifests_asked: FlightTable::new(tasks.clone()),
            tags_asked: FlightTable::new(tasks.clone()),
            lists_asked: FlightTable::new(tasks.clone()),
            blobs,
            presence,
            epochs,
            options,
            tasks,
        };
        Self { shared: Arc::new(shared) }
    }

    /// A manifest, by digest or by tag.
    pub async fn manifest(
        &self,
        grant: &Grant,
        reference: &Reference,
        accept: &AcceptSet<'_>,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let pulled = match reference {
            Reference::Digest(digest) => self.shared.manifest_by_digest(grant, digest).await?,
            Reference::Tag(tag) => {
                self.shared.manifest_by_tag(grant, tag, accept, Purpose::Pull).await?
            }
        };
        self.shared.manifest_used(grant, reference, &pulled.what);
        Ok(pulled)
    }

    /// The same for a client that asks whether there is one. Who might push decides by it what to
    /// push, and is told what the registry says.
    pub async fn manifest_head(
        &self,
        grant: &Grant,
        reference: &Reference,
        accept: &AcceptSet<'_>,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        match reference {
            _ if !grant.may_push() => self.manifest(grant, reference, accept).await,
            Reference::Digest(digest) => self.shared.claimed_manifest(grant, digest).await,
            Reference::Tag(tag) => {
                self.shared.manifest_by_tag(grant, tag, accept, Purpose::Push).await
            }
        }
    }

    /// A page of a list.
    pub async fn list(
        &self,
        grant: &Grant,
        listing: &ListKind,
        page: &PageQuery,
    ) -> Result<Pulled<Arc<ListPage>>, CacheError> {
        self.shared.list(grant, listing, page).await
    }

    /// A blob, ready to be read as soon as its first bytes are.
    pub async fn blob(
        &self,
        grant: &Grant,
        digest: &Digest,
        need: BlobNeed<'_>,
    ) -> Result<Pulled<Blob>, CacheError> {
        let pulled = self.shared.blobs.pull(grant, digest, need).await?;
        self.shared.store.used(IndexRow::Blob(digest));
        Ok(pulled)
    }

    /// Whether a blob exists, and how long it is. Never starts a fetch of its bytes.
    pub async fn blob_head(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<BlobHead>, CacheError> {
        self.shared.blobs.head(grant, digest).await
    }

    /// Removes partial downloads that nobody has gone on with for long.
    pub async fn sweep(&self) {
        let shared = Arc::clone(&self.shared);
        let sweep = move || {
            let running = shared.blobs.fills.table().paths(&shared.store);
            let swept = shared.store.sweep(shared.clock.now(), |path| running.contains(path));
            warn_of(
                swept.map(|count| tracing::debug!(count, "swept old partials")),
                "cannot sweep",
            );
        };
        // A panic in it has been reported by the panic hook and concerns nobody else.
        drop(tokio::task::spawn_blocking(sweep).await);
    }

    /// What the store says of itself.
    pub fn store_report(&self) -> StoreReport {
        self.shared.store.report()
    }

    /// How many fills are in flight.
    pub fn fills_running(&self) -> usize {
        self.shared.blobs.fills.table().running()
    }

    /// How many fills ended, by registry and how.
    pub fn fills_ended(&self) -> Vec<(String, FillEnd, u64)> {
        self.shared.blobs.fills.stats().ends()
    }

    /// Why the disk does not take blobs at present; `None` if it does, as far as is known. Known by
    /// the last fill, and forgotten after five minutes without another one.
    pub fn disk_trouble(&self) -> Option<&'static str> {
        let trouble = self.shared.blobs.fills.stats().disk_trouble();
        trouble.map(|reason| Decision::Bypass(reason).names().detail)
    }

    /// What is in memory.
    pub fn memory(&self) -> Vec<MemoryUse> {
        let shared = &self.shared;
        shared.hot.sizes().into_iter().chain(shared.presence.usage()).collect()
    }

    /// The space on the file system of the store.
    ///
    /// # Errors
    ///
    /// Those of the file system, and [`io::ErrorKind::TimedOut`] after a second.
    pub async fn room(&self) -> io::Result<DiskSpace> {
        let store = Arc::clone(&self.shared.store);
        let asked = timeout(ROOM_WAIT, blocking(move || store.room()));
        asked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits for what runs detached from any client, at most this long, and then ends it. Fills
    /// that are not done by then stay on disk, to be gone on with. Nothing keeps the cache
    /// directory after that but clones of this.
    pub async fn stop(&self, grace: Duration) {
        let Shared { tasks, .. } = &*self.shared;
        tasks.close();
        if timeout(grace, tasks.wait()).await.is_err() {
            tracing::info!(running = tasks.len(), "stopping with fetches under way");
        }
        tasks.end();
        // What the disk does not let go of is left to the end of the process.
        drop(timeout(END_WAIT, tasks.wait()).await);
    }

    /// Has what is not yet on disk written, and waits for that, a few seconds.
    pub async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        // A panic in it has been reported, and what it leaves is looked at when we start.
        drop(tokio::task::spawn_blocking(move || shared.store.close_index()).await);
    }
}

impl Shared {
    /// Has the index know what was asked for.
    fn manifest_used(&self, grant: &Grant, reference: &Reference, manifest: &CachedManifest) {
        let (registry, repository) = (grant.registry().name(), grant.repository());
        if let Reference::Tag(tag) = reference {
            self.store.used(IndexRow::Tag(registry, repository, tag));
        }
        if let Some(digest) = manifest.digest() {
            self.store.used(IndexRow::Manifest(registry, repository, digest));
        }
    }
}

/// How long the file system may take to tell its space. Scrapers time out after some seconds.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// How long what was ended may take to notice.
const END_WAIT: Duration = Duration::from_secs(1);
