//! The task of a fill: from the question to the upstream to the blob in the store.
//!
//! It belongs to no client: no client's speed, leaving or cancellation touches it once it brings
//! bytes. Before that it ends with the last client that waits. Bytes are received on the reactor,
//! and written and hashed on the blocking pool while more arrive. Bytes on disk are published at
//! once, and readers read the file.
//!
//! It ends verified, with the blob in the store; failed, with the partial file kept to be resumed;
//! or, when the disk takes no more, as a relay, which readers carry on by themselves.

use std::fmt::Display;
use std::fs::File;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::time::timeout;

use crate::access::Grant;
use crate::cache::epoch::{Epoch, EpochTable};
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fill::handover::{HashedPrefix, RelayPoint};
use crate::cache::fill::progress::FillProgress;
use crate::cache::fill::stats::FillStats;
use crate::cache::fill::table::{FillGuard, FillStart};
use crate::cache::presence::{BlobLookup, Presence, PresenceTable};
use crate::cache::recheck::RecheckQueue;
use crate::cache::{BypassReason, CacheError};
use crate::oci::Digest;
use crate::store::{AppendError, CommitError, HashedFile, Store, StoredBlob};
use crate::upstream::UpstreamError;

/// The parts of the cache that fills use.
#[derive(Debug)]
pub(crate) struct FillTools {
    pub(crate) store: Arc<Store>,
    pub(crate) presence: Arc<PresenceTable>,
    pub(crate) lookup: Arc<BlobLookup>,
    pub(crate) epochs: Arc<EpochTable>,
    pub(crate) rechecks: Arc<RecheckQueue>,
    pub(crate) stats: FillStats,
}

/// One fill.
pub(super) struct FillTask {
    tools: Arc<FillTools>,
    grant: Grant,
    digest: Digest,
    origin: BlobOrigin,
    /// The presence of the blob in the repository, as it was known before.
    member: Option<Presence>,
    /// The epoch in which the fill began.
    since: Epoch,
    /// Set once the membership is noted, by the first that gets there.
    confirmed: OnceCell<()>,
    progress: watch::Sender<FillProgress>,
    guard: FillGuard,
}

impl FillTask {
    pub(super) fn new(
        tools: Arc<FillTools>,
        grant: Grant,
        digest: Digest,
        member: Option<Presence>,
        start: FillStart,
        since: Epoch,
    ) -> Self {
        let FillStart { guard, origin, progress } = start;
        let confirmed = OnceCell::new();
        Self { tools, grant, digest, origin, member, since, confirmed, progress, guard }
    }

    pub(super) async fn run(self) {
        let Some(end) = self.guard.while_wanted(|| self.fetch()).await else { return };
        let end = end.unwrap_or_else(FillProgress::Failed);
        if let Some(error) = end.fault() {
            self.warn(error, "fill failed");
        }
        self.tools.stats.note_end(&self.tools.store, self.grant.registry().name(), &end);
        // Before readers learn of the end: a request after that finds the blob, or starts anew.
        drop(self.guard);
        self.progress.send_replace(end);
    }

    async fn fetch(&self) -> Result<FillProgress, CacheError> {
        // A fill may have stored it between the look-up that missed and this one's start. One of
        // another repository proves nothing for this repository.
        if let Some(blob) = self.tools.rechecks.find_verified(&self.digest, self.expected()).await {
            if self.member.is_none() {
                let known = Some(blob.content().len());
                self.tools.lookup.prove(&self.grant, &self.digest, known).await?;
            }
            return Ok(FillProgress::Done { blob, attempt: 0 });
        }
        let mut file = self.open_file().await;
        let mut opened = self.open_download(self.origin.clone(), &mut file).await;
        if matches!(&opened, Err(error) if error.is_not_found())
            && self.tools.lookup.ask_for_manifest_naming(&self.grant, &self.digest).await
        {
            file = self.open_file().await;
            opened = self.open_download(self.origin.clone(), &mut file).await;
        }
        let mut download = opened?;
        // The repository has it, so from now on the credential of any reader will do.
        download.take_any_reader();
        Box::pin(self.fill(file, download)).await
    }

    /// Waits until readers have bytes.
    async fn first_bytes(&self) {
        let has_bytes = |progress: &FillProgress| {
            matches!(progress, FillProgress::Filling { written: 1.., .. })
        };
        // The sender is in `self`.
        drop(self.progress.subscribe().wait_for(has_bytes).await);
    }

    async fn fill(
        &self,
        mut file: Option<HashedFile>,
        mut download: BlobDownload,
    ) -> Result<FillProgress, CacheError> {
        for attempt in 0..ATTEMPTS_MAX {
            let Some(opened) = file.take() else {
                return self.relay(download, BypassReason::DiskFailed, attempt).await;
            };
            match self.write(opened, &mut download, attempt).await? {
                WriteOutcome::Whole(file) => match self.commit_noted(file, attempt).await? {
                    Committed::Right(blob) => return Ok(FillProgress::Done { blob, attempt }),
                    Committed::Lost(file, bypass) => {
                        let prefix = HashedPrefix::doubtful(file, &self.digest);
                        let point = Arc::new(RelayPoint::new(prefix, download, bypass));
                        return Ok(FillProgress::Relaying { point, attempt });
                    }
                    Committed::Wrong if download.is_worth_refetching() => {}
                    Committed::Wrong => break,
                },
                WriteOutcome::NoSpace(bypass) => {
                    return self.relay(download, bypass, attempt).await;
                }
                WriteOutcome::Refused(prefix, bypass) => {
                    let point = Arc::new(RelayPoint::new(prefix, download, bypass));
                    return Ok(FillProgress::Relaying { point, attempt });
                }
            }
            file = self.open_file().await;
            let origin = download.origin().clone().with_mirrors_last();
            download = self.open_download(origin, &mut file).await?;
        }
        Err(download.corrupt("digest mismatch"))
    }

    fn warn(&self, error: &dyn Display, what: &str) {
        let (registry, repository) = (self.grant.registry().name(), self.grant.repository());
        tracing::warn!(%registry, %repository, digest = %self.digest, %error, "{what}");
    }

    /// The partial file; `None` when the disk fails.
    async fn open_file(&self) -> Option<HashedFile> {
        let registry = self.grant.registry().name();
        let opened = self.tools.store.open_fill(registry, &self.digest).await;
        opened.inspect_err(|error| self.warn(error, "cannot open a partial file; not caching")).ok()
    }

    /// Asks for what the partial file lacks. A partial file that is longer than the blob is
    /// discarded.
    async fn open_download(
        &self,
        origin: BlobOrigin,
        file: &mut Option<HashedFile>,
    ) -> Result<BlobDownload, CacheError> {
        let from = file.as_ref().map_or(0, HashedFile::len);
        let mut opened = BlobDownload::open(origin.clone(), from, self.expected()).await;
        if from > 0 && matches!(&opened, Err(error) if is_range_not_satisfiable(error)) {
            if let Some(file) = file.take() {
                drop(file.discard().await);
            }
            *file = self.open_file().await;
            opened = BlobDownload::open(origin, 0, self.expected()).await;
        }
        if let Some(file) = file.take_if(|_| opened.is_err()) {
            leave(file).await;
        }
        opened
    }

    /// The blob's length in bytes, as a manifest states it.
    fn expected(&self) -> Option<u64> {
        self.member.and_then(|member| member.size)
    }

    /// Records once that the upstream has served the blob for this repository. Its bytes are the
    /// proof: any page may be a 200.
    async fn note_served(&self) {
        if self.member.is_none() {
            let total = self.progress.borrow().total();
            let presence = &self.tools.presence;
            let note = || presence.note_served(&self.grant, &self.digest, total, self.since);
            self.confirmed.get_or_init(note).await;
        }
    }

    /// As [`FillTask::commit`], with the membership noted if the bytes are right.
    async fn commit_noted(&self, file: HashedFile, attempt: u32) -> Result<Committed, CacheError> {
        // Before readers have the last bytes, so that a repeated request needs no upstream call.
        if file.holds(&self.digest) {
            drop(timeout(NOTE_WAIT, self.note_served()).await);
        }
        let committed = self.commit(file, attempt).await?;
        if matches!(committed, Committed::Right(_)) {
            self.note_served().await;
        }
        Ok(committed)
    }

    /// Hands the download to the readers, from its first byte.
    async fn relay(
        &self,
        mut download: BlobDownload,
        bypass: BypassReason,
        attempt: u32,
    ) -> Result<FillProgress, CacheError> {
        if download.at() > 0 {
            download = BlobDownload::open(download.origin().clone(), 0, self.expected()).await?;
        }
        let point = RelayPoint::new(HashedPrefix::none(&self.digest), download, bypass);
        Ok(FillProgress::Relaying { point: Arc::new(point), attempt })
    }

    /// Receives, writes and hashes up to the end, or until the disk takes no more.
    async fn write(
        &self,
        file: HashedFile,
        download: &mut BlobDownload,
        attempt: u32,
    ) -> Result<WriteOutcome, CacheError> {
        let (sender, queue) = mpsc::channel(QUEUE_CHUNKS);
        let (received, appended) = {
            let mut appending = pin!(self.append(file, download.total(), queue, attempt));
            let mut receiving = pin!(self.receive(download, sender));
            tokio::select! {
                received = &mut receiving => (received, appending.await),
                // A stuck write keeps the queue, so `receive` would never end.
                appended = &mut appending => match appended {
                    Err(AppendError::Stuck) => (Ok(None), appended),
                    appended => (receiving.await, appended),
                },
            }
        };
        let mut put_back = |mut left: Vec<Bytes>| {
            left.extend(received.as_ref().ok().cloned().flatten());
            download.put_back(left);
        };
        match appended {
            Ok(file) => match received {
                Ok(_) => Ok(WriteOutcome::Whole(file)),
                Err(error) => {
                    leave(file).await;
                    Err(error)
                }
            },
            Err(AppendError::NoSpace { left, error }) => {
                put_back(left);
                Ok(WriteOutcome::NoSpace(BypassReason::of(&error)))
            }
            Err(AppendError::Refused { file, left, error }) => {
                self.warn(&error, "the disk refuses writes; not caching");
                put_back(left);
                let bypass = BypassReason::of(&error);
                let prefix = match bypass {
                    BypassReason::NoSpace => HashedPrefix::of(&file, &self.digest),
                    _ => HashedPrefix::doubtful(file.file(), &self.digest),
                };
                leave(*file).await;
                Ok(WriteOutcome::Refused(prefix, bypass))
            }
            Err(AppendError::Stuck) => {
                self.warn(&"no progress", "a write to the disk hangs; not caching");
                let prefix = HashedPrefix::none(&self.digest);
                Ok(WriteOutcome::Refused(prefix, BypassReason::DiskFailed))
            }
        }
    }

    /// Receives up to the end, or until the writer takes no more. Returns the chunk that it did not
    /// take.
    async fn receive(
        &self,
        download: &mut BlobDownload,
        sender: mpsc::Sender<Bytes>,
    ) -> Result<Option<Bytes>, CacheError> {
        loop {
            let next = tokio::select! {
                next = download.chunk() => next?,
                () = sender.closed() => return Ok(None),
            };
            let Some(chunk) = next else { return Ok(None) };
            if let Err(refused) = sender.send(chunk).await {
                return Ok(Some(refused.0));
            }
            // With few cores, receiving more would delay the first bytes of readers.
            tokio::select! {
                () = self.first_bytes() => {}
                () = sender.closed() => {}
            }
        }
    }

    /// Appends the queue to the file, and publishes what readers may read of it.
    async fn append(
        &self,
        file: HashedFile,
        total: Option<u64>,
        queue: mpsc::Receiver<Bytes>,
        attempt: u32,
    ) -> Result<HashedFile, AppendError<Bytes>> {
        let (progress, shared) = (self.progress.clone(), file.file());
        let publish = move |written| {
            progress.send_if_modified(|now| now.advance(attempt, written, total, &shared));
        };
        file.append(total, queue, publish).await
    }

    /// Verifies the file and stores it. Readers get the last bytes before the disk has them; if it
    /// then says that it has not, those that have not ended are not to go on reading.
    async fn commit(&self, file: HashedFile, attempt: u32) -> Result<Committed, CacheError> {
        let progress = self.progress.clone();
        let proven = move |blob: &StoredBlob| {
            progress.send_replace(FillProgress::Done { blob: blob.clone(), attempt });
        };
        let committed = match file.commit(&self.digest, proven).await {
            Ok(committed) => committed,
            Err(CommitError::Mismatch(mismatch)) => {
                self.warn(&mismatch, "digest mismatch");
                return Ok(Committed::Wrong);
            }
            Err(CommitError::Disk(error)) => {
                self.warn(&error, "cannot read a partial file");
                return Err(CacheError::Internal("cannot hash a partial file"));
            }
        };
        let blob = committed.blob;
        if let Err(error) = committed.kept {
            let bypass = BypassReason::of(&error);
            self.tools.stats.note_lost(&self.tools.store, bypass, blob.content().len());
            self.warn(&error, "cannot store a verified blob");
            if !committed.is_synced {
                return Ok(Committed::Lost(Arc::clone(blob.content().file()), bypass));
            }
        } else {
            self.tools.stats.disk_works(blob.content().len());
        }
        Ok(Committed::Right(blob))
    }
}

fn is_range_not_satisfiable(error: &CacheError) -> bool {
    matches!(error, CacheError::Upstream(UpstreamError::RangeNotSatisfiable { .. }))
}

/// Leaves a partial file to be resumed, and removes an empty one.
async fn leave(file: HashedFile) {
    if let Err(error) = file.leave().await {
        tracing::debug!(%error, "cannot remove an empty partial file");
    }
}

/// How writing ended.
enum WriteOutcome {
    /// There is no space for the blob.
    NoSpace(BypassReason),
    Whole(HashedFile),
    /// The disk failed after these bytes.
    Refused(HashedPrefix, BypassReason),
}

/// The outcome of committing a whole file.
enum Committed {
    /// The disk has not kept bytes that were right.
    Lost(Arc<File>, BypassReason),
    /// The bytes are right, and stored unless the store has no place for them.
    Right(StoredBlob),
    /// The bytes are wrong, and gone.
    Wrong,
}

/// How many received chunks wait to be written: 2 MiB for each fill, with chunks of 256 KiB.
const QUEUE_CHUNKS: usize = 8;

/// How long the last bytes of a blob wait for the record of the membership. The blob itself is on
/// disk by then, so a disk that takes longer hangs.
const NOTE_WAIT: Duration = Duration::from_secs(1);

/// A blob whose bytes were of several answers, or of a mirror, is fetched once more if they are
/// wrong.
const ATTEMPTS_MAX: u32 = 2;
