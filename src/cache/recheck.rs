//! The verification at rest: of stored blobs that were last hashed before this boot of the machine,
//! or long ago.
//!
//! A reader of such a blob gets its bytes as they are proven, block by block, and the rest is
//! verified in the background. However many readers there are, each block is hashed once. A blob
//! that is not due costs a look at its file's times and nothing else.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::tasks::DetachedTasks;
use crate::oci::Digest;
use crate::store::{RecheckVerdict, StaleBlob, Store, StoredBlob, StoredState};

/// A blob in the store.
#[derive(Clone, Debug)]
pub(super) enum StoredContent {
    /// Its bytes may leave as they are proven.
    Checking(Arc<BlobRecheck>),
    /// Its bytes may leave.
    Verified(StoredBlob),
}

impl StoredContent {
    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Checking(recheck) => recheck.blob.len(),
            Self::Verified(blob) => blob.content().len(),
        }
    }
}

/// The verification of one blob, shared by all its readers.
#[derive(Debug)]
pub(super) struct BlobRecheck {
    blob: Arc<StaleBlob>,
    /// Readers that wait for it hold no thread. They take turns, so that none waits for more than a
    /// block of each other one.
    turn: tokio::sync::Mutex<()>,
}

impl BlobRecheck {
    pub(super) fn blob(&self) -> &StaleBlob {
        &self.blob
    }

    /// Proves the block at `at`, or gets nearer to it.
    pub(super) async fn step(&self, at: u64) -> io::Result<RecheckVerdict> {
        let _turn = self.turn.lock().await;
        // Another reader's turn may have proven it.
        if self.blob.proven_until(at) > at || self.blob.verdict() != RecheckVerdict::Open {
            return Ok(self.blob.verdict());
        }
        self.blob.step(at).await
    }

    /// Starts to prove the block at `at`, and does not wait for it.
    pub(super) fn read_ahead(self: &Arc<Self>, at: u64) {
        let this = Arc::clone(self);
        // The reader that needs the block gets the error.
        tokio::spawn(async move { drop(this.step(at).await) });
    }

    /// Proves blocks until there is a verdict on the whole.
    pub(super) async fn finish(self: &Arc<Self>) -> io::Result<RecheckVerdict> {
        while let Some(at) = self.blob.first_open() {
            self.step(at).await?;
        }
        Ok(self.blob.verdict())
    }

    /// The blob, as far as it may be served.
    fn content(self: Arc<Self>) -> Option<StoredContent> {
        match self.blob.verdict() {
            RecheckVerdict::Open => Some(StoredContent::Checking(self)),
            RecheckVerdict::Right => self.blob.verified().map(StoredContent::Verified),
            RecheckVerdict::Wrong => None,
        }
    }
}

/// Finds stored blobs, and verifies those that are due.
#[derive(Debug)]
pub(super) struct RecheckQueue {
    store: Arc<Store>,
    tasks: DetachedTasks,
    in_flight: Mutex<HashMap<Digest, Weak<BlobRecheck>>>,
    background: Mutex<BackgroundRecheck>,
}

/// The verifications that no reader waits for.
#[derive(Debug, Default)]
struct BackgroundRecheck {
    waiting: VecDeque<Arc<BlobRecheck>>,
    is_running: bool,
}

impl RecheckQueue {
    pub(super) fn new(store: Arc<Store>, tasks: DetachedTasks) -> Self {
        Self { store, tasks, in_flight: Mutex::default(), background: Mutex::default() }
    }

    /// The blob, if it is in the store. An error of the disk counts as no. One that has not the
    /// `size` that a manifest states, in bytes, is verified first.
    pub(super) async fn find(
        self: &Arc<Self>,
        digest: &Digest,
        size: Option<u64>,
    ) -> Option<StoredContent> {
        let stale = match self.store.content().open(digest, size).await {
            Ok(Some(StoredState::Verified(blob))) => return Some(StoredContent::Verified(blob)),
            Ok(Some(StoredState::Due(stale))) => stale,
            Ok(None) => return None,
            Err(error) => {
                tracing::warn!(%digest, %error, "cannot open a stored blob");
                return None;
            }
        };
        let recheck = self.start(stale);
        if !recheck.blob.has_parts() {
            // Its length may be wrong too, so headers wait for the verdict.
            match timeout(VERDICT_WAIT_MAX, recheck.finish()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%digest, %error, "cannot read a stored blob");
                    return None;
                }
                Err(_) => {
                    tracing::info!(%digest, "verifying a stored blob takes long");
                }
            }
        }
        recheck.content()
    }

    /// The blob, if it is in the store and all of it is right, however long the verification takes.
    pub(super) async fn find_verified(
        self: &Arc<Self>,
        digest: &Digest,
        size: Option<u64>,
    ) -> Option<StoredBlob> {
        match self.find(digest, size).await? {
            StoredContent::Verified(blob) => Some(blob),
            StoredContent::Checking(recheck) => {
                drop(recheck.finish().await);
                recheck.blob.verified()
            }
        }
    }

    /// The verification of this very file, which is started if none is in flight.
    fn start(self: &Arc<Self>, blob: Arc<StaleBlob>) -> Arc<BlobRecheck> {
        let mut in_flight = self.in_flight.lock();
        let running = in_flight.get(blob.digest()).and_then(Weak::upgrade);
        if let Some(running) = running.filter(|running| running.blob.is_same(&blob)) {
            return running;
        }
        let digest = blob.digest().clone();
        let recheck = Arc::new(BlobRecheck { blob, turn: tokio::sync::Mutex::default() });
        in_flight.retain(|_, recheck| recheck.strong_count() > 0);
        in_flight.insert(digest, Arc::downgrade(&recheck));
        drop(in_flight);
        self.queue(Arc::clone(&recheck));
        recheck
    }

    /// Queues the rest of the blob for the background. If the queue is full it stays due, and its
    /// next reader starts again.
    fn queue(self: &Arc<Self>, recheck: Arc<BlobRecheck>) {
        let mut background = self.background.lock();
        if background.waiting.len() >= WAITING_MAX {
            return;
        }
        background.waiting.push_back(recheck);
        if !std::mem::replace(&mut background.is_running, true) {
            self.tasks.spawn(Arc::clone(self).run_queue());
        }
    }

    async fn run_queue(self: Arc<Self>) {
        while let Some(recheck) = self.next_queued() {
            while let Some(at) = recheck.blob.first_open() {
                // A blob that is not finished at the stop stays due.
                if self.tasks.is_closed() {
                    return;
                }
                let begun = Instant::now();
                if recheck.step(at).await.is_err() {
                    break;
                }
                sleep(begun.elapsed() * REST).await;
            }
        }
    }

    fn next_queued(&self) -> Option<Arc<BlobRecheck>> {
        let mut background = self.background.lock();
        let next = background.waiting.pop_front();
        background.is_running = next.is_some();
        next
    }
}

/// How long headers wait for a blob of which no part can be proven before the whole is: well below
/// the 30 s after which containerd gives up. After that the body waits.
const VERDICT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How many blobs wait for the background. Each holds a file open.
const WAITING_MAX: usize = 256;

/// The pause after a block, as a multiple of the time that the block took: a quarter of one CPU and
/// of the disk is used.
const REST: u32 = 3;
