//! The one running fetch of a missing blob into the store.
//!
//! It belongs to a task of its own: no client's speed, leaving or cancellation touches it. Bytes
//! are received on the reactor and written and hashed on the blocking pool, batch by batch, while
//! the next batch arrives. Each batch that is on disk is published, and readers read the file.
//!
//! How it ends: verified and in the store; failed, with the partial file kept to go on from;
//! or, when the disk takes no more, as a relay, which readers carry on for themselves.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::time::timeout;

use crate::access::Grant;
use crate::cache::body::relay::{HashedPrefix, RelayPoint};
use crate::cache::epoch::Epoch;
use crate::cache::fetch::download::BlobDownload;
use crate::cache::fetch::origin::BlobOrigin;
use crate::cache::fill::table::{FillGuard, FillProgress};
use crate::cache::fill::writer::{DrainOutcome, FillWriter, QUEUE_CHUNKS, blocking};
use crate::cache::presence::Presence;
use crate::cache::{BypassReason, CacheError, Shared};
use crate::oci::Digest;
use crate::store::{PartialBlob, StoredBlob, SumHasher};
use crate::upstream;

/// The fetch itself.
pub(crate) struct FillTask {
    shared: Arc<Shared>,
    grant: Grant,
    source: BlobOrigin,
    digest: Digest,
    /// What the repository was known to have before.
    member: Option<Presence>,
    /// The epoch in which it began.
    since: Epoch,
    /// That the membership is noted; by whoever comes to it first.
    confirmed: OnceCell<()>,
    progress: watch::Sender<FillProgress>,
}

impl FillTask {
    pub(crate) fn new(
        (shared, grant, source): (Arc<Shared>, Grant, BlobOrigin),
        digest: Digest,
        member: Option<Presence>,
        progress: watch::Sender<FillProgress>,
    ) -> Self {
        let since = shared.epochs.now();
        Self { shared, grant, source, digest, member, since, confirmed: OnceCell::new(), progress }
    }

    pub(crate) async fn run(self, seat: FillGuard) {
        let end = self.fetch().await.unwrap_or_else(FillProgress::Failed);
        if let FillProgress::Failed(error) = &end {
            tracing::warn!(digest = %self.digest, repository = %self.grant.repository(), %error, "a fill failed");
        }
        self.shared.condition.ended(self.grant.registry().name().as_str(), &end);
        // The seat goes first: who comes now finds the blob, or starts anew.
        drop(seat);
        self.progress.send_replace(end);
    }

    async fn fetch(&self) -> Result<FillProgress, CacheError> {
        // A fill may have stored it between the look-up that missed and this one's start. One of
        // another repository proves nothing for this repository.
        if let Some(blob) = self.shared.verified(&self.digest).await {
            if self.member.is_none() {
                self.shared.lookup.look_up(&self.grant, &self.digest).await?;
            }
            return Ok(FillProgress::Done { blob, generation: 0 });
        }
        let mut partial = self.open_partial().await;
        let mut download = self.open_download(self.source.clone(), &mut partial).await?;
        download.go_on_for_any_reader();
        let total = download.total();
        let mut filling = Box::pin(self.fill(partial, download));
        tokio::select! {
            end = &mut filling => {
                self.confirm(total).await;
                end
            }
            // Readers wait for the first bytes, and for the note only with the last ones.
            () = self.first_bytes() => {
                let (end, ()) = tokio::join!(filling, self.confirm(total));
                end
            }
        }
    }

    /// Until readers have something.
    async fn first_bytes(&self) {
        let has_bytes = |progress: &FillProgress| {
            matches!(progress, FillProgress::Filling { written: 1.., .. })
        };
        if has_bytes(&self.progress.borrow()) {
            return;
        }
        if self.progress.subscribe().wait_for(has_bytes).await.is_err() {
            // The sender is ours: it cannot be gone.
            std::future::pending::<()>().await;
        }
    }

    async fn fill(
        &self,
        mut partial: Option<PartialBlob>,
        mut download: BlobDownload,
    ) -> Result<FillProgress, CacheError> {
        for generation in 0..ATTEMPTS_MAX {
            let Some(opened) = partial.take() else {
                return self.relay(download, BypassReason::DiskFailed, generation).await;
            };
            match self.write(opened, &mut download, generation).await? {
                WriteOutcome::Whole(partial, hasher) => {
                    // Who has the whole and asks again is not to send a question upstream, if the disk
                    // lets that be.
                    drop(timeout(NOTE_WAIT, self.confirm(download.total())).await);
                    match self.commit(partial, hasher, generation).await? {
                        Some(blob) => return Ok(FillProgress::Done { blob, generation }),
                        // Bytes of two answers may not fit together, and a mirror may be wrong: once
                        // more, all from one, and not from a mirror.
                        None if download.is_resumed() || download.is_of_mirrors() => {}
                        None => break,
                    }
                }
                WriteOutcome::NoRoom(bypass) => {
                    return self.relay(download, bypass, generation).await;
                }
                WriteOutcome::Refused(prefix, bypass) => {
                    let point = Arc::new(RelayPoint::new(prefix, download, bypass));
                    return Ok(FillProgress::Relaying { point, generation });
                }
            }
            partial = self.open_partial().await;
            let source = download.source().without_mirrors();
            download = self.open_download(source, &mut partial).await?;
        }
        Err(download.corrupt("their hash is another"))
    }

    /// The partial file; `None` when the disk does not even give that.
    async fn open_partial(&self) -> Option<PartialBlob> {
        let (shared, digest) = (Arc::clone(&self.shared), self.digest.clone());
        let registry = self.grant.registry().name().clone();
        let opened = blocking(move || shared.store.partial(&registry, &digest)).await;
        opened.inspect_err(|error| tracing::warn!(%error, "cannot open a partial file")).ok()
    }

    /// Asks for what the partial file lacks. A partial file that is longer than the blob is
    /// discarded.
    async fn open_download(
        &self,
        source: BlobOrigin,
        partial: &mut Option<PartialBlob>,
    ) -> Result<BlobDownload, CacheError> {
        let from = partial.as_ref().map_or(0, PartialBlob::len);
        let mut opened = BlobDownload::open(source.clone(), from, self.expected()).await;
        if from > 0 && matches!(&opened, Err(error) if is_range_not_satisfiable(error)) {
            if let Some(partial) = partial.take() {
                drop(blocking(move || partial.discard()).await);
            }
            *partial = self.open_partial().await;
            opened = BlobDownload::open(source, 0, self.expected()).await;
        }
        if opened.is_err() {
            leave(partial.take()).await;
        }
        opened
    }

    /// The length that a manifest states.
    fn expected(&self) -> Option<u64> {
        self.member.and_then(|member| member.size)
    }

    /// Notes, once, that the upstream has answered 200 for this repository.
    async fn confirm(&self, total: Option<u64>) {
        if self.member.is_none() {
            self.confirmed.get_or_init(|| self.note_membership(total)).await;
        }
    }

    async fn note_membership(&self, total: Option<u64>) {
        self.shared.presence.note_served(&self.grant, &self.digest, total, self.since).await;
    }

    /// Hands the fetch to the readers, from its first byte.
    async fn relay(
        &self,
        mut download: BlobDownload,
        bypass: BypassReason,
        generation: u32,
    ) -> Result<FillProgress, CacheError> {
        if download.at() > 0 {
            download = BlobDownload::open(download.source().clone(), 0, self.expected()).await?;
        }
        let point = RelayPoint::new(HashedPrefix::none(&self.digest), download, bypass);
        Ok(FillProgress::Relaying { point: Arc::new(point), generation })
    }

    /// Receives, writes and hashes until the end, or until the disk takes no more.
    async fn write(
        &self,
        partial: PartialBlob,
        download: &mut BlobDownload,
        generation: u32,
    ) -> Result<WriteOutcome, CacheError> {
        let (sender, queue) = mpsc::channel(QUEUE_CHUNKS);
        let (received, written) = {
            let mut writing = pin!(self.write_queue(partial, download.total(), queue, generation));
            let mut receiving = pin!(self.receive(download, sender));
            tokio::select! {
                received = &mut receiving => (received, writing.await),
                // A job that is stuck has the queue, which is never closed then.
                written = &mut writing => match written {
                    DrainOutcome::Stuck => (Ok(None), DrainOutcome::Stuck),
                    written => (receiving.await, written),
                },
            }
        };
        match written {
            DrainOutcome::Whole(writer) => {
                if let Err(error) = received {
                    leave(Some(writer.into_partial())).await;
                    return Err(error);
                }
                let (partial, hasher) = writer.finish().await?;
                Ok(WriteOutcome::Whole(partial, hasher))
            }
            DrainOutcome::NoRoom { mut left, error } => {
                left.extend(received.ok().flatten());
                download.put_back(left);
                Ok(WriteOutcome::NoRoom(bypass_of(&error)))
            }
            DrainOutcome::Refused { writer, mut left, error } => {
                let bypass = bypass_of(&error);
                tracing::warn!(digest = %self.digest, %error, "the disk takes no more; relaying");
                left.extend(received.ok().flatten());
                download.put_back(left);
                let (prefix, partial) = writer.into_prefix(&self.digest);
                leave(Some(partial)).await;
                Ok(WriteOutcome::Refused(prefix, bypass))
            }
            DrainOutcome::Stuck => {
                tracing::warn!(digest = %self.digest, "the disk is stuck; relaying");
                Ok(WriteOutcome::Refused(
                    HashedPrefix::none(&self.digest),
                    BypassReason::DiskFailed,
                ))
            }
        }
    }

    /// Receives until the end, or until the writer takes no more; then what it did not take.
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
            // Where cores are few, receiving more would keep readers from the first bytes.
            tokio::select! {
                () = self.first_bytes() => {}
                () = sender.closed() => {}
            }
        }
    }

    /// Sets space aside while the first bytes arrive; then readers may begin, and all is written.
    async fn write_queue(
        &self,
        partial: PartialBlob,
        total: Option<u64>,
        queue: mpsc::Receiver<Bytes>,
        generation: u32,
    ) -> DrainOutcome {
        let progress = self.progress.clone();
        let prepare = move |partial: &mut PartialBlob| {
            partial.reserve(total.unwrap_or_default())?;
            let (file, written) = (partial.file(), partial.len());
            progress.send_replace(FillProgress::Filling { total, file, written, generation });
            Ok(())
        };
        let progress = self.progress.clone();
        let publish = move |now| {
            progress.send_if_modified(|progress| progress.advance(generation, now));
        };
        FillWriter::new(partial).drain(queue, prepare, publish).await
    }

    /// The verified blob; `None` when the bytes are wrong, and gone. Readers have it before the disk
    /// does.
    async fn commit(
        &self,
        partial: PartialBlob,
        hasher: SumHasher,
        generation: u32,
    ) -> Result<Option<StoredBlob>, CacheError> {
        let progress = self.progress.clone();
        let proven = move |blob: &StoredBlob| {
            progress.send_replace(FillProgress::Done { blob: blob.clone(), generation });
        };
        let committed = blocking(move || Ok(partial.commit(hasher, proven))).await;
        match committed.map_err(|_| CacheError::Internal("the commit was lost"))? {
            Ok(committed) => {
                match committed.kept {
                    Ok(()) => self.shared.condition.kept(),
                    Err(error) => {
                        self.shared.condition.passed_by(bypass_of(&error));
                        tracing::warn!(digest = %self.digest, %error, "a verified blob is not kept");
                    }
                }
                Ok(Some(committed.blob))
            }
            Err(mismatch) => {
                tracing::warn!(repository = %self.grant.repository(), %mismatch, "wrong bytes");
                Ok(None)
            }
        }
    }
}

fn is_range_not_satisfiable(error: &CacheError) -> bool {
    matches!(error, CacheError::Upstream(upstream::UpstreamError::RangeNotSatisfiable { .. }))
}

/// Lets a partial file go. One with nothing in it would lie there until it is swept.
async fn leave(partial: Option<PartialBlob>) {
    if let Some(partial) = partial
        && let Err(error) = blocking(move || partial.leave()).await
    {
        tracing::debug!(%error, "cannot remove an empty partial file");
    }
}

/// How writing ended, as the fill sees it.
enum WriteOutcome {
    NoRoom(BypassReason),
    Whole(PartialBlob, SumHasher),
    Refused(HashedPrefix, BypassReason),
}

/// How long the last bytes of a blob wait for the note that the repository has it. All else that is on
/// disk by then has been written already, so a disk that takes longer hangs.
const NOTE_WAIT: Duration = Duration::from_secs(1);

/// Bytes pieced together from several answers get one more try, all from one answer.
const ATTEMPTS_MAX: u32 = 2;

fn bypass_of(error: &io::Error) -> BypassReason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BypassReason::NoSpace,
        _ => BypassReason::DiskFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filling(written: u64, generation: u32) -> FillProgress {
        let file = Arc::new(tempfile::tempfile().unwrap());
        FillProgress::Filling { total: None, file, written, generation }
    }

    /// A job that was given up as stuck may end after all, when its fill has gone on without it.
    #[test]
    fn a_job_that_comes_back_late_tells_readers_nothing() {
        let mut now = filling(5, 1);
        assert!(now.advance(1, 9), "its own");
        assert!(!now.advance(1, 9), "no news");
        assert!(!now.advance(1, 7), "less than they know of");
        assert!(!now.advance(0, 100), "of a file that was given up");
        assert!(matches!(now, FillProgress::Filling { written: 9, generation: 1, .. }));

        let mut over = FillProgress::Failed(CacheError::Internal("over"));
        assert!(!over.advance(1, 100));
        assert!(matches!(over, FillProgress::Failed(_)));
    }
}
