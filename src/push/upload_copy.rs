//! The copy of a blob that is kept while the blob is passed on.
//!
//! A writer of its own takes the bytes that have arrived since it last looked. The push does not
//! wait for it: the queue of all copies together is bounded, and when it is full, or the disk
//! refuses, the copy is given up. The price is a fetch when the blob is pulled, and nothing before.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::oci::{Algorithm, Digest};
use crate::store::{AppendError, CommitError, CommittedBlob, HashedFile, Store};

/// A copy that is being written, or waits for the next part.
///
/// Dropped, it is given up, and its file goes.
#[derive(Debug)]
pub(super) struct UploadCopy {
    writer: CopyWriter,
}

/// The task that writes; without a file if the copy was given up.
#[derive(Debug)]
struct CopyWriter(JoinHandle<Option<HashedFile>>);

impl Drop for CopyWriter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The sink that a body leaves its copy in as it passes.
#[derive(Debug)]
pub(super) struct CopySink {
    queue: Option<mpsc::Sender<CopyPiece>>,
    /// Without it the end of the queue means that the body broke off.
    end: Option<oneshot::Sender<()>>,
    budget: CopyBudget,
}

/// For what is queued, of all copies together, in bytes. By their number pieces would count as if
/// each were long; those of HTTP/2 are short.
#[derive(Clone, Debug)]
pub(super) struct CopyBudget(Arc<Semaphore>);

impl Default for CopyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(QUEUED_BYTES_MAX)))
    }
}

impl CopyBudget {
    /// Some of it, if there is so much.
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// Bytes that wait for the writer, and their share of the budget.
#[derive(Debug)]
struct CopyPiece {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for CopyPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl UploadCopy {
    /// An empty copy, to be hashed by `algorithm` as it comes.
    pub(super) fn begin(
        store: &Arc<Store>,
        tasks: &TaskTracker,
        algorithm: Algorithm,
        budget: &CopyBudget,
    ) -> (Self, CopySink) {
        let store = Arc::clone(store);
        let open = async move {
            let opened = store.open_upload(algorithm).await;
            opened.inspect_err(|error| tracing::warn!(%error, "cannot write a pushed blob to the cache; it is not cached")).ok()
        };
        Self::write(open, tasks, budget)
    }

    /// Continues the copy for the next part of the blob.
    pub(super) fn go_on(mut self, tasks: &TaskTracker, budget: &CopyBudget) -> (Self, CopySink) {
        let before = async move { (&mut self.writer.0).await.ok()? };
        Self::write(before, tasks, budget)
    }

    fn write(
        file: impl Future<Output = Option<HashedFile>> + Send + 'static,
        tasks: &TaskTracker,
        budget: &CopyBudget,
    ) -> (Self, CopySink) {
        let (sender, queue) = mpsc::channel(QUEUED_BYTES_MAX / PIECE_BYTES_MIN);
        let (end, ended) = oneshot::channel();
        let writer = CopyWriter(tasks.spawn(async move {
            let file = append(file.await?, queue).await?;
            ended.await.ok().map(|()| file)
        }));
        let (queue, end) = (Some(sender), Some(end));
        (Self { writer }, CopySink { queue, end, budget: budget.clone() })
    }

    /// Makes the copy the blob of `digest`, if it is. The upstream has all of it by now, so a disk
    /// that is slow is waited for a little only, and does it on its own after that.
    pub(super) async fn commit(self, digest: Digest, tasks: &TaskTracker) {
        let committing = tasks.spawn(commit(self.writer, digest));
        // The outcome has been logged.
        drop(timeout(COMMIT_WAIT, committing).await);
    }
}

impl CopySink {
    /// Leaves a copy of these bytes, or gives all of it up.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        let Some(queue) = &self.queue else { return };
        let share = self.budget.take(bytes.len().max(PIECE_BYTES_MIN));
        if share.is_none() {
            tracing::debug!("the disk is slower than a push; the pushed blob is not cached");
        }
        let bytes = bytes.clone();
        let piece = share.map(|share| CopyPiece { bytes, _share: share });
        if piece.is_none_or(|piece| queue.try_send(piece).is_err()) {
            (self.queue, self.end) = (None, None);
        }
    }

    /// All of the part has passed. Without this the copy is given up: the body broke off.
    pub(super) fn end(&mut self) {
        self.queue = None;
        if let Some(end) = self.end.take() {
            // A writer that is gone has given the copy up before.
            end.send(()).unwrap_or_default();
        }
    }
}

/// Writes until the part ends, or breaks off.
async fn append(file: HashedFile, queue: mpsc::Receiver<CopyPiece>) -> Option<HashedFile> {
    match file.append(None, queue, |_| {}).await {
        Ok(file) => return Some(file),
        Err(AppendError::NoSpace { error, .. } | AppendError::Refused { error, .. }) => {
            tracing::warn!(%error, "cannot write a pushed blob to the cache; it is not cached");
        }
        Err(AppendError::Stuck) => {
            tracing::warn!("a write to the disk hangs; the pushed blob is not cached");
        }
    }
    None
}

async fn commit(mut writer: CopyWriter, digest: Digest) {
    let Ok(Some(file)) = (&mut writer.0).await else { return };
    match file.commit(&digest, |_| {}).await {
        Ok(CommittedBlob { kept: Ok(()), .. }) => {}
        Ok(CommittedBlob { kept: Err(error), .. }) | Err(CommitError::Disk(error)) => {
            tracing::warn!(%digest, %error, "cannot store a pushed blob");
        }
        // The upstream has checked what it got; the copy is not that.
        Err(error) => {
            tracing::debug!(%digest, %error, "digest mismatch in a pushed blob; not cached");
        }
    }
}

/// How many bytes wait for their writers, those that are being written among them. Half a second of
/// 100 MB/s: a disk that does other things too stops for longer than the moments that 4 MiB last.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// The least that a piece counts for, since each one costs memory for keeping it apart.
const PIECE_BYTES_MIN: usize = 512;

/// How long an answer waits for its copy to be in the store: a client takes what was pushed for
/// pulled a moment later, and its next push waits for this one.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BootClock, StoreOptions, StoredState};

    fn store(dir: &tempfile::TempDir) -> Arc<Store> {
        Arc::new(Store::open(StoreOptions::for_test(dir.path()), BootClock::default()).unwrap())
    }

    /// Waits until no copy is on disk: what removes it runs on its own.
    async fn until_gone(dir: &tempfile::TempDir) {
        while std::fs::read_dir(dir.path().join("uploads")).unwrap().next().is_some() {
            tokio::task::yield_now().await;
        }
    }

    /// A budget for a test to use up.
    const SMALL_BUDGET_BYTES: usize = 4 << 20;

    fn push_all(mut sink: CopySink, pieces: &[&'static [u8]]) {
        for piece in pieces {
            sink.push(&Bytes::from_static(piece));
        }
        sink.end();
    }

    #[tokio::test]
    async fn a_copy_of_all_parts_becomes_the_blob() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"abcdef");
            let (copy, sink) =
                UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &CopyBudget::default());
            push_all(sink, &[b"ab", b"c"]);
            let (copy, sink) = copy.go_on(&tasks, &CopyBudget::default());
            push_all(sink, &[b"def"]);
            copy.commit(digest.clone(), &tasks).await;
            assert!(
                matches!(
                    store.content().open(&digest, None).await,
                    Ok(Some(StoredState::Verified(_)))
                ),
                "{digest}"
            );
        }
        until_gone(&dir).await;
    }

    /// Nothing but what has the digest may enter the store, whatever the upstream said.
    #[tokio::test]
    async fn a_copy_of_something_else_is_removed() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let digest = Digest::of(Algorithm::Sha256, b"abc");
        let (copy, sink) =
            UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &CopyBudget::default());
        push_all(sink, &[b"abd"]);
        copy.commit(digest.clone(), &tasks).await;
        assert!(matches!(store.content().open(&digest, None).await, Ok(None)));
        until_gone(&dir).await;
    }

    #[tokio::test]
    async fn a_copy_whose_body_broke_off_is_removed() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let digest = Digest::of(Algorithm::Sha256, b"abc");
        let (copy, mut sink) =
            UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &CopyBudget::default());
        sink.push(&Bytes::from_static(b"abc"));
        drop(sink);
        copy.commit(digest.clone(), &tasks).await;
        assert!(matches!(store.content().open(&digest, None).await, Ok(None)));
        until_gone(&dir).await;
    }

    /// A push is never slowed: what the writer cannot take is the end of the copy.
    #[tokio::test]
    async fn a_copy_that_cannot_keep_up_is_given_up() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let budget = CopyBudget(Arc::new(Semaphore::new(SMALL_BUDGET_BYTES)));
        let (copy, mut sink) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &budget);
        // Nothing else runs in between, the writer least of all.
        let piece = vec![b'a'; SMALL_BUDGET_BYTES / 4];
        for _ in 0..5 {
            sink.push(&Bytes::from(piece.clone()));
        }
        assert!(sink.queue.is_none());
        let (_other, mut other) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &budget);
        other.push(&Bytes::from_static(b"a"));
        assert!(other.queue.is_none(), "the room is for all of them");
        sink.end();
        let digest = Digest::of(Algorithm::Sha256, &piece.repeat(5));
        copy.commit(digest.clone(), &tasks).await;
        assert!(matches!(store.content().open(&digest, None).await, Ok(None)));

        let (_copy, mut sink) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &budget);
        for _ in 0..=SMALL_BUDGET_BYTES / PIECE_BYTES_MIN {
            sink.push(&Bytes::from_static(b"a"));
        }
        assert!(sink.queue.is_none(), "nor may there be any number of them");
    }

    /// Over HTTP/2 pieces are of 16 KiB: a layer of 3 MiB is as good as in pieces of 64 KiB.
    #[tokio::test]
    async fn a_copy_in_short_pieces_waits_as_one_in_long_ones_does() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let budget = CopyBudget(Arc::new(Semaphore::new(SMALL_BUDGET_BYTES)));
        for (byte, len) in [(b'a', 64 << 10), (b'b', 16 << 10), (b'c', 1024)] {
            let (copy, mut sink) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &budget);
            // Nothing else runs in between, as above.
            let piece = vec![byte; len];
            let count = (3 << 20) / piece.len();
            for _ in 0..count {
                sink.push(&Bytes::from(piece.clone()));
            }
            sink.end();
            let digest = Digest::of(Algorithm::Sha256, &piece.repeat(count));
            copy.commit(digest.clone(), &tasks).await;
            assert!(
                matches!(store.content().open(&digest, None).await, Ok(Some(_))),
                "{len} bytes"
            );
        }
        until_gone(&dir).await;
    }
}
