//! The life of a pull: the cache first, then, lazily, the upstream.
//!
//! Every call here brings a [`Grant`], so access is settled. The only file that sees all rooms of
//! the cache: each is built here from those that it uses, and a request goes to the one that
//! decides about it. No ping, login or name look-up happens for a request that the cache can
//! answer.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::blob::{Blob, BlobHead, BlobNeed, BlobPulls};
use super::document::DocumentThreads;
use super::epoch::EpochTable;
use super::fill::join::BlobFills;
use super::fill::stats::{FillEnd, FillStats};
use super::fill::table::RunningFill;
use super::fill::task::FillTools;
use super::manifest::by_digest::ManifestPulls;
use super::mutable::changes::AcceptedChanges;
use super::mutable::lists::ListPulls;
use super::mutable::revalidate::{Purpose, RecordValidation};
use super::mutable::tags::TagPulls;
use super::presence::{BlobLookup, PresenceTable};
use super::question::in_time;
use super::recheck::RecheckQueue;
use super::restore::{ContentRestore, KnownRegistries};
use super::scrub::{ContentScrub, ScrubReport};
use super::tasks::DetachedTasks;
use super::{
    BypassReason, CacheError, CacheOptions, CachedManifest, Decision, ListKind, ListPage,
    MemoryUse, Pulled,
};
use crate::access::{Grant, KnownLengths};
use crate::clock::WallClock;
use crate::http::FramePool;
use crate::oci::{AcceptSet, Digest, PageQuery, Reference, RepositoryName};
use crate::registry::Registry;
use crate::store::{DiskSpace, IndexRow, RetentionLimits, SpaceLimits, Store, StoreReport};

/// The cache in front of every registry. Clones are the same cache.
#[derive(Clone, Debug)]
pub struct Cache {
    rooms: Arc<CacheRooms>,
}

#[derive(Debug)]
struct CacheRooms {
    store: Arc<Store>,
    clock: Arc<dyn WallClock>,
    tasks: DetachedTasks,
    presence: Arc<PresenceTable>,
    manifests: Arc<ManifestPulls>,
    tags: Arc<TagPulls>,
    lists: Arc<ListPulls>,
    blobs: BlobPulls,
    scrub: ContentScrub,
    changes: AcceptedChanges,
}

impl KnownLengths for Cache {
    fn length<'a>(
        &'a self,
        registry: &'a Registry,
        repository: &'a RepositoryName,
        digest: &'a Digest,
    ) -> Pin<Box<dyn Future<Output = Option<u64>> + Send + 'a>> {
        Box::pin(self.rooms.presence.stated_length(registry.name(), repository, digest))
    }
}

impl Cache {
    /// A cache over `store`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn WallClock>, options: CacheOptions) -> Self {
        let CacheOptions { memory, stale_wait, scrub_every } = options;
        let tasks = DetachedTasks::default();
        let epochs = Arc::<EpochTable>::default();
        let documents = DocumentThreads::new();
        let presence = Arc::new(PresenceTable::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&epochs),
            memory / 4,
        ));
        let blobs = blob_pulls(&store, &presence, &epochs, &tasks);
        let manifests = Arc::new(ManifestPulls::new(
            Arc::clone(&store),
            Arc::clone(&epochs),
            Arc::clone(&presence),
            documents.clone(),
            tasks.clone(),
            memory / 2,
        ));
        let validation = Arc::new(RecordValidation {
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            epochs,
            documents,
            stale_wait,
        });
        let tags = Arc::new(TagPulls::new(
            Arc::clone(&validation),
            Arc::clone(&manifests),
            tasks.clone(),
            memory / 8,
        ));
        let lists = Arc::new(ListPulls::new(Arc::clone(&validation), tasks.clone(), memory / 8));
        let changes = AcceptedChanges {
            validation,
            presence: Arc::clone(&presence),
            manifests: Arc::clone(&manifests),
            tags: Arc::clone(&tags),
            lists: Arc::clone(&lists),
        };
        let restore =
            ContentRestore { manifests: Arc::clone(&manifests), fills: Arc::clone(&blobs.fills) };
        let scrub = ContentScrub::new(&store, &clock, restore, scrub_every);
        let rooms = CacheRooms {
            store,
            clock,
            tasks,
            presence,
            manifests,
            tags,
            lists,
            blobs,
            scrub,
            changes,
        };
        Self { rooms: Arc::new(rooms) }
    }

    /// A manifest, by digest or by tag.
    pub async fn manifest(
        &self,
        grant: &Grant,
        reference: &Reference,
        accept: &AcceptSet<'_>,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let CacheRooms { manifests, tags, .. } = &*self.rooms;
        let pulled = match reference {
            Reference::Digest(digest) => {
                in_time(grant, pin!(manifests.pull(grant, digest))).await?
            }
            Reference::Tag(tag) => {
                in_time(grant, pin!(tags.pull(grant, tag, accept, Purpose::Pull))).await?
            }
        };
        self.note_use(grant, reference, &pulled.what);
        Ok(pulled)
    }

    /// A manifest, for a client that asks whether there is one. If it may push, it compares before
    /// it does, and gets the registry's own answer.
    pub async fn manifest_head(
        &self,
        grant: &Grant,
        reference: &Reference,
        accept: &AcceptSet<'_>,
    ) -> Result<Pulled<Arc<CachedManifest>>, CacheError> {
        let CacheRooms { manifests, tags, .. } = &*self.rooms;
        match reference {
            _ if !grant.may_push() => self.manifest(grant, reference, accept).await,
            Reference::Digest(digest) => {
                // Boxed, so that pulls need no room for it.
                in_time(grant, Box::pin(manifests.pull_confirmed(grant, digest)).as_mut()).await
            }
            Reference::Tag(tag) => {
                in_time(grant, pin!(tags.pull(grant, tag, accept, Purpose::Push))).await
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
        self.rooms.lists.pull(grant, listing, page).await
    }

    /// A blob, ready to be read as soon as its first bytes are.
    pub async fn blob(
        &self,
        grant: &Grant,
        digest: &Digest,
        need: BlobNeed<'_>,
    ) -> Result<Pulled<Blob>, CacheError> {
        let pulled = self.rooms.blobs.pull(grant, digest, need).await?;
        self.rooms.store.used(IndexRow::Blob(digest));
        if pulled.decision == Decision::Hit {
            self.rooms.store.note_hit(digest);
        }
        Ok(pulled)
    }

    /// Whether a blob exists, and how long it is. Never starts a fetch of its bytes.
    pub async fn blob_head(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<Pulled<BlobHead>, CacheError> {
        self.rooms.blobs.head(grant, digest).await
    }

    /// How long a blob is in bytes, as far as that is known without asking an upstream.
    pub async fn blob_length(&self, grant: &Grant, digest: &Digest) -> Option<u64> {
        self.rooms.blobs.known_length(grant, digest).await
    }

    /// Repositories of a registry that were last known to have the digest, the latest first.
    pub fn repositories_with(&self, registry: &Registry, digest: &Digest) -> Vec<RepositoryName> {
        self.rooms.presence.repositories_with(registry.name(), digest)
    }

    /// The changes that accepted pushes and deletes make to the cache.
    pub fn changes(&self) -> &AcceptedChanges {
        &self.rooms.changes
    }

    /// Removes partial downloads that no fill has resumed for `fill_keep`.
    pub async fn sweep(&self) {
        let in_flight = self.rooms.blobs.fills.table().in_flight();
        match self.rooms.store.sweep_fills(self.rooms.clock.now(), in_flight).await {
            Ok(count) => tracing::debug!(count, "removed old partial downloads"),
            Err(error) => tracing::warn!(%error, "cannot remove old partial downloads"),
        }
    }

    /// The store, for commands that change it: see [`Cache::forget_records`].
    pub fn store(&self) -> &Arc<Store> {
        &self.rooms.store
    }

    /// Forgets the records in memory, after records or content were removed from the store, or
    /// came into it: the next pulls read from there again.
    pub fn forget_records(&self) {
        let CacheRooms { manifests, tags, lists, presence, .. } = &*self.rooms;
        manifests.clear_memory();
        tags.clear_memory();
        lists.clear_memory();
        presence.clear_memory();
    }

    /// Has a blob of a repository fetched, unless it is stored, and waits for that. A disk that
    /// takes nothing is no error.
    pub async fn fetch_blob(&self, grant: &Grant, digest: &Digest) -> Result<(), CacheError> {
        self.rooms.scrub.fetch_blob(grant, digest).await
    }

    /// The time of the wall clock.
    pub fn now(&self) -> SystemTime {
        self.rooms.clock.now()
    }

    /// Verifies all stored content in turn, and fetches again what is wrong, until it is dropped.
    pub async fn scrub(&self, known: KnownRegistries) {
        self.rooms.scrub.run(known).await;
    }

    /// Fetches a content again that was wrong, and removed. Returns whether it is stored.
    pub async fn restore(&self, digest: &Digest, known: &KnownRegistries) -> bool {
        self.rooms.scrub.restore(digest, known).await
    }

    /// The figures of the scrub.
    pub fn scrub_report(&self) -> ScrubReport {
        self.rooms.scrub.report()
    }

    /// The bounds of the store from now on.
    pub fn set_space_limits(&self, limits: SpaceLimits, retention: &RetentionLimits) {
        self.rooms.store.set_limits(limits, retention);
    }

    /// The state of the store.
    pub fn store_report(&self) -> StoreReport {
        self.rooms.store.report()
    }

    /// The fills in flight.
    pub fn fills(&self) -> Vec<RunningFill> {
        self.rooms.blobs.fills.table().list()
    }

    /// How many fills ended, by registry and how.
    pub fn fills_ended(&self) -> Vec<(String, FillEnd, u64)> {
        self.rooms.blobs.fills.stats().ends()
    }

    /// Why the disk does not take blobs at present; `None` if it does, as far as is known: a blob
    /// as large as the one that was lost was kept since, or five minutes have passed and there is
    /// room for it again. A disk that does not tell in a second has none.
    pub async fn disk_trouble(&self) -> Option<&'static str> {
        if self.rooms.store.hangs() {
            return Some(Decision::Bypass(BypassReason::DiskFailed).names().detail);
        }
        let trouble = self.rooms.blobs.fills.stats().disk_trouble()?;
        let name = Decision::Bypass(trouble.reason).names().detail;
        if trouble.is_recent() {
            return Some(name);
        }
        if trouble.needs == 0 {
            return None;
        }
        let asked = timeout(DISK_SPACE_WAIT, self.rooms.store.has_room(trouble.needs)).await;
        (!matches!(asked, Ok(Ok(true)))).then_some(name)
    }

    /// How much memory each kind of content takes.
    pub fn memory(&self) -> Vec<MemoryUse> {
        let CacheRooms { manifests, tags, lists, presence, .. } = &*self.rooms;
        let records = [manifests.usage(), tags.usage()];
        records.into_iter().chain(lists.usage()).chain(presence.usage()).collect()
    }

    /// The space on the file system of the store.
    ///
    /// # Errors
    ///
    /// Those of the file system, and [`io::ErrorKind::TimedOut`] after a second.
    pub async fn disk_space(&self) -> io::Result<DiskSpace> {
        let asked = timeout(DISK_SPACE_WAIT, self.rooms.store.disk_space());
        asked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits at most this long for tasks that run detached from any client, and then ends them.
    /// Fills that are not done by then stay on disk, to be resumed. After that only clones of this
    /// cache keep its directory.
    pub async fn stop(&self, grace: Duration) {
        let CacheRooms { tasks, .. } = &*self.rooms;
        tasks.close();
        if timeout(grace, tasks.wait()).await.is_err() {
            tracing::info!(running = tasks.len(), "stopping with fetches in flight");
        }
        tasks.end();
        // A task that the disk does not let go of is left to the end of the process.
        drop(timeout(END_WAIT, tasks.wait()).await);
    }

    /// Has the index written, and waits for that, a few seconds.
    pub async fn close(&self) {
        self.rooms.store.close().await;
    }

    /// Notes in the index that a manifest was asked for, once in a second.
    fn note_use(&self, grant: &Grant, reference: &Reference, manifest: &CachedManifest) {
        let is_first = manifest.last_use.is_first(reference, self.rooms.clock.now());
        let Some(digest) = manifest.digest().filter(|_| is_first) else { return };
        let (registry, repository) = (grant.registry().name(), grant.repository());
        if let Reference::Tag(tag) = reference {
            self.rooms.store.used(IndexRow::Tag(registry, repository, tag));
        }
        self.rooms.store.used(IndexRow::Manifest(registry, repository, digest));
        self.rooms.store.note_hit(digest);
    }
}

/// The room of blobs.
fn blob_pulls(
    store: &Arc<Store>,
    presence: &Arc<PresenceTable>,
    epochs: &Arc<EpochTable>,
    tasks: &DetachedTasks,
) -> BlobPulls {
    let lookup = BlobLookup::new(Arc::clone(presence), Arc::clone(epochs), tasks.clone());
    let lookup = Arc::new(lookup);
    let rechecks = Arc::new(RecheckQueue::new(Arc::clone(store), tasks.clone()));
    let stats = FillStats::default();
    if !store.is_writable() {
        stats.note_lost(store, BypassReason::DiskFailed, 0);
    }
    let tools = FillTools {
        store: Arc::clone(store),
        presence: Arc::clone(presence),
        lookup: Arc::clone(&lookup),
        epochs: Arc::clone(epochs),
        rechecks: Arc::clone(&rechecks),
        stats,
    };
    BlobPulls {
        presence: Arc::clone(presence),
        lookup,
        rechecks,
        fills: Arc::new(BlobFills::new(tools, tasks.clone())),
        content: store.content(),
        frames: FramePool::default(),
    }
}

/// How long the file system may take to tell its space. Scrapers time out after some seconds.
const DISK_SPACE_WAIT: Duration = Duration::from_secs(1);

/// How long tasks that were ended may take to notice.
const END_WAIT: Duration = Duration::from_secs(1);
