//! The scrub: all stored content is read from the disk and verified again within a time, whether
//! clients ask for it or not. What is wrong is fetched again.
//!
//! Nothing records how far it is. Each file has the time of its last verification, and a pass
//! leaves out those that were verified lately, so that a restart goes on where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::CacheError;
use super::restore::{ContentRestore, KnownRegistries};
use crate::access::Grant;
use crate::clock::{WallClock, unix_seconds};
use crate::oci::Digest;
use crate::store::{
    CONTENT_GROUPS, ContentView, DiskPace, RecheckVerdict, SpacePart, Store, contents_of,
};

/// The figures of the scrub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Bytes that it has read.
    pub bytes: u64,
    /// Contents that were wrong and could not be fetched again.
    pub lost: u64,
    /// How long ago the content was verified that waits longest for it, as of the end of the last
    /// pass.
    pub oldest: Option<Duration>,
}

/// The scrub of a store.
#[derive(Debug)]
pub(super) struct ContentScrub {
    store: Arc<Store>,
    clock: Arc<dyn WallClock>,
    restore: ContentRestore,
    every: Duration,
    counts: ScrubCounts,
}

#[derive(Debug, Default)]
struct ScrubCounts {
    bytes: AtomicU64,
    lost: AtomicU64,
    /// In seconds since 1970; 0 if it is not known.
    oldest: AtomicU64,
}

impl ContentScrub {
    /// Has all content verified within the time `every`, if that is not zero.
    pub(super) fn new(
        store: &Arc<Store>,
        clock: &Arc<dyn WallClock>,
        restore: ContentRestore,
        every: Duration,
    ) -> Self {
        let counts = ScrubCounts::default();
        Self { store: Arc::clone(store), clock: Arc::clone(clock), restore, every, counts }
    }

    /// The present figures.
    pub(super) fn report(&self) -> ScrubReport {
        let oldest = self.counts.oldest.load(Ordering::Relaxed);
        let age = unix_seconds(self.clock.now()).saturating_sub(oldest);
        ScrubReport {
            bytes: self.counts.bytes.load(Ordering::Relaxed),
            lost: self.counts.lost.load(Ordering::Relaxed),
            oldest: (oldest > 0).then(|| Duration::from_secs(age)),
        }
    }

    /// Makes one pass after the other.
    pub(super) async fn run(&self, known: KnownRegistries) {
        if self.every.is_zero() {
            return;
        }
        let between = self.every / PASSES;
        sleep(between.min(START_WAIT)).await;
        loop {
            let begun = Instant::now();
            self.pass(&known).await;
            sleep(between.saturating_sub(begun.elapsed()).max(between / PASSES)).await;
        }
    }

    /// Fetches a blob, unless it is stored, and waits until it is stored or cannot be.
    pub(super) async fn fetch_blob(
        &self,
        grant: &Grant,
        digest: &Digest,
    ) -> Result<(), CacheError> {
        if self.store.content().has_verified(digest).await {
            return Ok(());
        }
        self.restore.fetch_blob(grant, digest).await
    }

    /// Fetches a content again that was wrong. Returns whether it is stored.
    pub(super) async fn restore(&self, digest: &Digest, known: &KnownRegistries) -> bool {
        let is_stored = self.restore.restore(digest, known).await;
        if !is_stored {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%digest, "corrupt content is gone from the cache: no upstream gave it again");
        }
        is_stored
    }

    /// Verifies what was not verified lately.
    async fn pass(&self, known: &KnownRegistries) {
        let mut oldest = None;
        for group in 0..CONTENT_GROUPS {
            let contents = match contents_of(&self.store, group).await {
                Ok(contents) => contents,
                Err(error) => {
                    tracing::warn!(%error, "cannot list stored contents to verify them");
                    continue;
                }
            };
            for (digest, content) in contents {
                let verified_at = if self.is_due(&content) {
                    self.check(&digest, &content, known).await
                } else {
                    Some(content.verified_at)
                };
                oldest = oldest.into_iter().chain(verified_at).min();
            }
        }
        let oldest = oldest.map_or(0, unix_seconds);
        self.counts.oldest.store(oldest, Ordering::Relaxed);
    }

    fn is_due(&self, content: &ContentView) -> bool {
        match self.clock.now().duration_since(content.verified_at) {
            Ok(age) => age >= self.every / PASSES * DUE_PASSES,
            // A clock that was wrong for a while must not be believed for years.
            Err(ahead) => ahead.duration() > self.every,
        }
    }

    /// Verifies a content. Returns when it was last verified, if it is stored.
    async fn check(
        &self,
        digest: &Digest,
        content: &ContentView,
        known: &KnownRegistries,
    ) -> Option<SystemTime> {
        let read = |bytes| {
            self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        match self.pace().check(&self.store.content(), digest, read).await {
            Ok(None) => None,
            Ok(Some(RecheckVerdict::Wrong)) => {
                self.restore(digest, known).await.then(|| self.clock.now())
            }
            Ok(Some(_)) => Some(self.clock.now()),
            Err(error) => {
                tracing::warn!(%digest, %error, "cannot read a stored content to verify it");
                Some(content.verified_at)
            }
        }
    }

    /// So fast that a pass over all content ends before the next one is to begin.
    fn pace(&self) -> DiskPace {
        let parts = SpacePart::ALL.into_iter().zip(self.store.report().space.used);
        let stored = parts.filter(|(part, _)| *part == SpacePart::Blobs).map(|(_, bytes)| bytes);
        let seconds = (self.every / PASSES).as_secs().max(1);
        let rate = (stored.sum::<u64>() / seconds).max(RATE_MIN);
        DiskPace { bytes_per_second: Some(rate), rest: REST }
    }
}

/// How many passes there are within the time. Content is due in the last two of them, so that it is
/// verified in time, and seldom more than once.
const PASSES: u32 = 8;

/// After how many of them content is due.
const DUE_PASSES: u32 = 6;

/// Bytes in a second that are read of a small cache. It makes a pass short.
const RATE_MIN: u64 = 1 << 20;

/// The pause after a read, as a multiple of the time that it took: a quarter of the disk's time is
/// used at most.
const REST: u32 = 3;

/// The wait before the first pass: what clients ask for at a start comes first.
const START_WAIT: Duration = Duration::from_secs(60);
