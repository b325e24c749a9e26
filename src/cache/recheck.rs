//! Stored blobs that are due for verification: after a start of the machine, or after a long time.
//!
//! Who asks for one gets its bytes as they are proven, block by block, and has the rest of it
//! verified behind. However many readers there are, each block is hashed once. What is not due never
//! comes here.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::fill::writer::blocking;
use crate::oci::Digest;
use crate::store::{RecheckVerdict, StaleBlob, StoredBlob, StoredState};

/// A blob in the store.
#[derive(Clone, Debug)]
pub(super) enum StoredContent {
    /// Its bytes may leave as they are proven.
    Checking(Arc<BlobRecheck>),
    /// Its bytes may leave.
    Verified(StoredBlob),
}

impl StoredContent {
    /// How long it is, in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Checking(check) => check.due.len(),
            Self::Verified(blob) => blob.content().len(),
        }
    }
}

/// The checks under way.
#[derive(Debug, Default)]
pub(super) struct RecheckQueue {
    under_way: Mutex<HashMap<Digest, Weak<BlobRecheck>>>,
    behind: Mutex<BackgroundRecheck>,
}

/// What is verified although no reader waits for it.
#[derive(Debug, Default)]
struct BackgroundRecheck {
    waiting: VecDeque<Arc<BlobRecheck>>,
    is_running: bool,
}

/// The verification of one blob, shared by all who read it.
#[derive(Debug)]
pub(super) struct BlobRecheck {
    due: Box<StaleBlob>,
    /// So that those who wait hold no thread. They come in turn: nobody waits for more than a block
    /// of each other one.
    turn: tokio::sync::Mutex<()>,
}

impl BlobRecheck {
    pub(super) fn due(&self) -> &StaleBlob {
        &self.due
    }

    /// Proves the block at `at`, or gets nearer to it.
    pub(super) async fn step(self: &Arc<Self>, at: u64) -> io::Result<RecheckVerdict> {
        let _turn = self.turn.lock().await;
        // Another one's turn may have done it.
        if self.due.proven_until(at) > at || self.due.verdict() != RecheckVerdict::Open {
            return Ok(self.due.verdict());
        }
        let this = Arc::clone(self);
        blocking(move || this.due.step(at)).await
    }

    /// Has the block at `at` proven while something else is done.
    pub(super) fn ahead(self: &Arc<Self>, at: u64) {
        let this = Arc::clone(self);
        // Whoever needs the block asks for it, and is told if it cannot be read.
        tokio::spawn(async move { drop(this.step(at).await) });
    }

    /// Goes on until the verdict is there.
    pub(super) async fn settle(self: &Arc<Self>) -> io::Result<RecheckVerdict> {
        while let Some(at) = self.due.first_open() {
            self.step(at).await?;
        }
        Ok(self.due.verdict())
    }

    fn found(self: Arc<Self>) -> Option<StoredContent> {
        match self.due.verdict() {
            RecheckVerdict::Open => Some(StoredContent::Checking(self)),
            RecheckVerdict::Right => self.due.verified().map(StoredContent::Verified),
            RecheckVerdict::Wrong => None,
        }
    }
}

impl Shared {
    /// The blob, if it is in the store. A disk that cannot say is as good as one that has not.
    pub(super) async fn stored(self: &Arc<Self>, digest: &Digest) -> Option<StoredContent> {
        let (shared, name) = (Arc::clone(self), digest.clone());
        let opened = blocking(move || shared.store.blob(&name)).await;
        self.found(digest, opened).await
    }

    /// What was opened, as far as it may be served.
    pub(super) async fn found(
        self: &Arc<Self>,
        digest: &Digest,
        opened: io::Result<Option<StoredState>>,
    ) -> Option<StoredContent> {
        let due = match opened {
            Ok(Some(StoredState::Verified(blob))) => return Some(StoredContent::Verified(blob)),
            Ok(Some(StoredState::Due(due))) => due,
            Ok(None) => return None,
            Err(error) => {
                tracing::warn!(%digest, %error, "cannot open a stored blob");
                return None;
            }
        };
        let check = self.check(due);
        if !check.due.has_parts() {
            // Its length is not known to be right either, so this is before the headers.
            match timeout(SETTLE_WAIT_MAX, check.settle()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%digest, %error, "cannot read a stored blob");
                    return None;
                }
                Err(_) => tracing::info!(%digest, "verifying a stored blob takes long"),
            }
        }
        check.found()
    }

    /// The blob, if it is in the store and all of it is right, however long that takes to say.
    pub(super) async fn verified(self: &Arc<Self>, digest: &Digest) -> Option<StoredBlob> {
        match self.stored(digest).await? {
            StoredContent::Verified(blob) => Some(blob),
            StoredContent::Checking(check) => {
                drop(check.settle().await);
                check.due.verified()
            }
        }
    }

    /// The check of this very file, of which there is one at a time.
    fn check(self: &Arc<Self>, due: Box<StaleBlob>) -> Arc<BlobRecheck> {
        let mut under_way = self.checks.under_way.lock();
        let running = under_way.get(due.digest()).and_then(Weak::upgrade);
        if let Some(running) = running.filter(|running| running.due.is_same(&due)) {
            return running;
        }
        let digest = due.digest().clone();
        let check = Arc::new(BlobRecheck { due, turn: tokio::sync::Mutex::default() });
        under_way.retain(|_, check| check.strong_count() > 0);
        under_way.insert(digest, Arc::downgrade(&check));
        drop(under_way);
        self.check_behind(Arc::clone(&check));
        check
    }

    /// Has the whole verified, when there is time for it.
    fn check_behind(self: &Arc<Self>, check: Arc<BlobRecheck>) {
        let mut behind = self.checks.behind.lock();
        if behind.waiting.len() >= WAITING_MAX {
            // It stays due, so the next reader comes here again.
            return;
        }
        behind.waiting.push_back(check);
        if !std::mem::replace(&mut behind.is_running, true) {
            self.tasks.spawn(Arc::clone(self).catch_up());
        }
    }

    async fn catch_up(self: Arc<Self>) {
        while let Some(check) = self.checks.next_behind() {
            while let Some(at) = check.due.first_open() {
                // What is not done when we stop stays due.
                if self.tasks.is_closed() {
                    return;
                }
                let begun = Instant::now();
                if check.step(at).await.is_err() {
                    break;
                }
                sleep(begun.elapsed() * REST).await;
            }
        }
    }
}

impl RecheckQueue {
    fn next_behind(&self) -> Option<Arc<BlobRecheck>> {
        let mut behind = self.behind.lock();
        let next = behind.waiting.pop_front();
        behind.is_running = next.is_some();
        next
    }
}

/// How long headers wait for a blob of which no part can be proven before the whole is: well below
/// the 30 s after which containerd gives up. After that the body waits.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How many blobs wait to be verified behind; each holds a file open.
const WAITING_MAX: usize = 256;

/// How many times as long as a block took nothing is done, so that a quarter of one CPU and of the
/// disk is used.
const REST: u32 = 3;
