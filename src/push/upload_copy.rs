//! The copy of a blob that is kept while the blob is passed on.
//!
//! Its writer runs on its own and takes what has arrived since it last looked. Nobody waits for it
//! while a body passes: what waits in between, of all copies together, is bounded, and when there
//! is no more room, or the disk refuses, the copy is given up. That costs a fetch when somebody
//! pulls the blob, and nothing before.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::flush::FileFlusher;
use crate::oci::{Algorithm, Digest};
use crate::store::{StagedFile, Store, SumHasher};

/// What is in the copy so far, and the hash of it.
#[derive(Debug)]
struct CopiedPart {
    staged: HeldCopy,
    hasher: SumHasher,
    algorithm: Algorithm,
    flusher: FileFlusher,
}

/// Removes the file where that may block: a large one takes its time.
#[derive(Debug)]
struct HeldCopy(Option<StagedFile>);

impl Drop for HeldCopy {
    fn drop(&mut self) {
        if let (Some(staged), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(staged)));
        }
    }
}

/// A copy that is being written, or waits for the next part.
///
/// Dropped, it is given up, and its file goes.
#[derive(Debug)]
pub(super) struct UploadCopy {
    writing: CopyWriter,
}

/// `None` when it was given up.
#[derive(Debug)]
struct CopyWriter(JoinHandle<Option<CopiedPart>>);

/// Where a body leaves its copy as it passes.
#[derive(Debug)]
pub(super) struct CopySink {
    queue: Option<mpsc::UnboundedSender<CopyPiece>>,
    room: CopyBudget,
}

/// For what waits, of all copies together, in bytes. By their number pieces would count as if each
/// were long; those of HTTP/2 are short.
#[derive(Clone, Debug)]
pub(super) struct CopyBudget(Arc<Semaphore>);

impl Default for CopyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING_BYTES_MAX)))
    }
}

impl CopyBudget {
    /// Some of it, if there is so much.
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// What waits for the writer; empty, the end of the part.
#[derive(Debug)]
struct CopyPiece {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl UploadCopy {
    /// An empty copy, to be hashed by `algorithm` as it comes.
    pub(super) fn begin(
        store: &Arc<Store>,
        tasks: &TaskTracker,
        algorithm: Algorithm,
        room: &CopyBudget,
    ) -> (Self, CopySink) {
        let store = Arc::clone(store);
        let stage = spawn_blocking(move || {
            let staged = store.stage();
            let staged =
                staged.inspect_err(|error| tracing::warn!(%error, "cannot copy an upload"));
            let hasher = SumHasher::new(algorithm);
            let (staged, flusher) = (HeldCopy(Some(staged.ok()?)), FileFlusher::default());
            Some(CopiedPart { staged, hasher, algorithm, flusher })
        });
        Self::write(CopyWriter(stage), tasks, room)
    }

    /// The same copy, for the next part of the blob.
    pub(super) fn go_on(self, tasks: &TaskTracker, room: &CopyBudget) -> (Self, CopySink) {
        Self::write(self.writing, tasks, room)
    }

    fn write(before: CopyWriter, tasks: &TaskTracker, room: &CopyBudget) -> (Self, CopySink) {
        let (sender, queue) = mpsc::unbounded_channel();
        let writing = CopyWriter(tasks.spawn(write(before, queue)));
        (Self { writing }, CopySink { queue: Some(sender), room: room.clone() })
    }

    /// Makes the copy the blob of `digest`, if it is. The upstream has all of it by now, so a disk
    /// that is slow is waited for a little only, and does it on its own after that.
    pub(super) async fn commit(self, digest: Digest, tasks: &TaskTracker) {
        let committing = tasks.spawn(commit(self.writing, digest));
        // Whatever became of it has been told.
        drop(timeout(COMMIT_WAIT, committing).await);
    }
}

impl CopySink {
    /// Leaves a copy of these bytes, or gives all of it up.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        let Some(queue) = &self.queue else { return };
        let room = self.room.take(bytes.len().max(PIECE_BYTES_MIN));
        if room.is_none() {
            tracing::debug!("the disk is slower than a push; its copy is given up");
        }
        let bytes = bytes.clone();
        let is_taken =
            room.is_some_and(|room| queue.send(CopyPiece { bytes, _room: room }).is_ok());
        if !is_taken {
            // An end without a mark: what came is not all.
            self.queue = None;
        }
    }

    /// All of the part has passed. Without this the copy is given up: the body broke off.
    pub(super) fn end(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        // It takes no room, so there is some.
        if let Some(room) = self.room.take(0) {
            // Refused, it was given up before.
            drop(queue.send(CopyPiece { bytes: Bytes::new(), _room: room }));
        }
    }
}

impl Drop for CopyWriter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes until the part ends.
async fn write(
    mut before: CopyWriter,
    mut queue: mpsc::UnboundedReceiver<CopyPiece>,
) -> Option<CopiedPart> {
    let mut copied = (&mut before.0).await.ok()??;
    loop {
        let (chunks, is_end) = batch(&mut queue).await?;
        if !chunks.is_empty() {
            copied = append(copied, chunks).await?;
        }
        if is_end {
            return Some(copied);
        }
    }
}

/// What has arrived, and whether it is the last of the part; `None` when the part broke off.
async fn batch(queue: &mut mpsc::UnboundedReceiver<CopyPiece>) -> Option<(Vec<CopyPiece>, bool)> {
    let mut chunk = queue.recv().await?;
    let mut chunks = Vec::new();
    let mut bytes = 0;
    loop {
        if chunk.bytes.is_empty() {
            return Some((chunks, true));
        }
        bytes += chunk.bytes.len();
        chunks.push(chunk);
        match queue.try_recv() {
            Ok(next) if bytes < BATCH_BYTES => chunk = next,
            Ok(next) => {
                let is_end = next.bytes.is_empty();
                if !is_end {
                    chunks.push(next);
                }
                return Some((chunks, is_end));
            }
            Err(_) => return Some((chunks, false)),
        }
    }
}

async fn append(copied: CopiedPart, chunks: Vec<CopyPiece>) -> Option<CopiedPart> {
    let appended = try_append(copied, chunks).await;
    appended.inspect_err(|error| tracing::warn!(%error, "cannot copy an upload")).ok()
}

/// Writes and hashes, chunk by chunk, while each is in the core's cache.
async fn try_append(mut copied: CopiedPart, chunks: Vec<CopyPiece>) -> io::Result<CopiedPart> {
    let bytes = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    let append = move || -> io::Result<CopiedPart> {
        for CopyPiece { bytes: chunk, _room } in chunks {
            if let Some(staged) = &mut copied.staged.0 {
                staged.append(std::slice::from_ref(&chunk))?;
            }
            copied.hasher.update(&chunk);
        }
        Ok(copied)
    };
    let mut copied = spawn_blocking(append).await.map_err(io::Error::other)??;
    if let Some(staged) = &copied.staged.0 {
        copied.flusher.wrote(bytes, staged.flush()).await?;
    }
    Ok(copied)
}

async fn commit(mut writing: CopyWriter, digest: Digest) {
    let Ok(Some(mut copied)) = (&mut writing.0).await else { return };
    if let Err(error) = copied.flusher.end().await {
        return tracing::warn!(%digest, %error, "what was pushed is not kept");
    }
    let commit = move || {
        let CopiedPart { mut staged, mut hasher, algorithm, .. } = copied;
        let Some(staged) = staged.0.take() else { return };
        if algorithm != digest.algorithm() {
            hasher = match staged.hash(digest.algorithm()) {
                Ok(hasher) => hasher,
                Err(error) => return tracing::warn!(%error, "cannot read a copy of an upload"),
            };
        }
        match staged.commit(&digest, hasher) {
            Ok(Some(committed)) => {
                if let Err(error) = committed.kept {
                    tracing::warn!(%digest, %error, "what was pushed is not kept");
                }
            }
            Ok(None) => {}
            // The upstream has checked what it got; what we got was not that.
            Err(mismatch) => tracing::debug!(%mismatch, "the copy of an upload is another blob"),
        }
    };
    // A panic in it has been reported; the push is done all the same.
    drop(spawn_blocking(commit).await);
}

/// How many bytes wait for their writers, those that are being written among them. Half a second of
/// 100 MB/s: a disk that does other things too stops for longer than the moments that 4 MiB last.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What a piece counts for at least, for it has to be told from others.
const PIECE_BYTES_MIN: usize = 512;

/// What one job takes, as with fills.
const BATCH_BYTES: usize = 256 << 10;

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

    /// Room for a test to use up.
    const SCANT: usize = 4 << 20;

    fn pour(mut spout: CopySink, pieces: &[&'static [u8]]) {
        for piece in pieces {
            spout.push(&Bytes::from_static(piece));
        }
        spout.end();
    }

    #[tokio::test]
    async fn a_copy_of_all_parts_becomes_the_blob() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"abcdef");
            let (tee, spout) =
                UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &CopyBudget::default());
            pour(spout, &[b"ab", b"c"]);
            let (tee, spout) = tee.go_on(&tasks, &CopyBudget::default());
            pour(spout, &[b"def"]);
            tee.commit(digest.clone(), &tasks).await;
            assert!(matches!(store.blob(&digest), Ok(Some(StoredState::Verified(_)))), "{digest}");
        }
        until_gone(&dir).await;
    }

    /// Nothing but what has the digest may enter the store, whatever the upstream said.
    #[tokio::test]
    async fn a_copy_of_something_else_is_removed() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let digest = Digest::of(Algorithm::Sha256, b"abc");
        let (tee, spout) =
            UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &CopyBudget::default());
        pour(spout, &[b"abd"]);
        tee.commit(digest.clone(), &tasks).await;
        assert!(matches!(store.blob(&digest), Ok(None)));
        until_gone(&dir).await;
    }

    #[tokio::test]
    async fn a_copy_whose_body_broke_off_is_removed() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let digest = Digest::of(Algorithm::Sha256, b"abc");
        let (tee, mut spout) =
            UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &CopyBudget::default());
        spout.push(&Bytes::from_static(b"abc"));
        drop(spout);
        tee.commit(digest.clone(), &tasks).await;
        assert!(matches!(store.blob(&digest), Ok(None)));
        until_gone(&dir).await;
    }

    /// A push is never slowed: what the writer cannot take is the end of the copy.
    #[tokio::test]
    async fn a_copy_that_cannot_keep_up_is_given_up() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let scant = CopyBudget(Arc::new(Semaphore::new(SCANT)));
        let (tee, mut spout) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &scant);
        // Nothing else runs in between, the writer least of all.
        let piece = vec![b'a'; SCANT / 4];
        for _ in 0..5 {
            spout.push(&Bytes::from(piece.clone()));
        }
        assert!(spout.queue.is_none());
        let (_other, mut other) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &scant);
        other.push(&Bytes::from_static(b"a"));
        assert!(other.queue.is_none(), "the room is for all of them");
        spout.end();
        let digest = Digest::of(Algorithm::Sha256, &piece.repeat(5));
        tee.commit(digest.clone(), &tasks).await;
        assert!(matches!(store.blob(&digest), Ok(None)));

        let (_tee, mut spout) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &scant);
        for _ in 0..=SCANT / PIECE_BYTES_MIN {
            spout.push(&Bytes::from_static(b"a"));
        }
        assert!(spout.queue.is_none(), "nor may there be any number of them");
    }

    /// Over HTTP/2 pieces are of 16 KiB: a layer of 3 MiB is as good as in pieces of 64 KiB.
    #[tokio::test]
    async fn a_copy_in_short_pieces_waits_as_one_in_long_ones_does() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), TaskTracker::new());
        let store = store(&dir);
        let scant = CopyBudget(Arc::new(Semaphore::new(SCANT)));
        for (byte, len) in [(b'a', 64 << 10), (b'b', 16 << 10), (b'c', 1024)] {
            let (tee, mut spout) = UploadCopy::begin(&store, &tasks, Algorithm::Sha256, &scant);
            // Nothing else runs in between, as above.
            let piece = vec![byte; len];
            let count = (3 << 20) / piece.len();
            for _ in 0..count {
                spout.push(&Bytes::from(piece.clone()));
            }
            spout.end();
            let digest = Digest::of(Algorithm::Sha256, &piece.repeat(count));
            tee.commit(digest.clone(), &tasks).await;
            assert!(matches!(store.blob(&digest), Ok(Some(_))), "{len} bytes");
        }
        until_gone(&dir).await;
    }
}
