//! Writing and hashing what a fill receives.
//!
//! One job at a time runs on the blocking pool and goes on for as long as something has arrived. No
//! thread is held when nothing has: a fill that waits for its upstream costs none, and a job that
//! the disk does not let go of can be given up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cache::CacheError;
use crate::cache::fill::handover::HashedPrefix;
use crate::oci::Digest;
use crate::store::{PartialBlob, SumHasher, blocking};

/// How writing ended, as the writer sees it.
pub(crate) enum DrainOutcome {
    /// There is no space for it; nothing was written. What had arrived is `left`.
    NoRoom { left: Vec<Bytes>, error: io::Error },
    /// The disk failed. What it did not take is `left`.
    Refused { writer: FillWriter, left: Vec<Bytes>, error: io::Error },
    /// The disk did not answer within [`DISK_STALL`]; nothing is known of the file any more.
    Stuck,
    /// All of it is written.
    Whole(FillWriter),
}

/// What the disk did not take.
enum NotTaken {
    Chunk(Bytes, io::Error),
    /// The space that all of it would need.
    Room(io::Error),
}

/// The partial file, and the hash of what is in it.
pub(crate) struct FillWriter {
    partial: PartialBlob,
    /// `None` until the first batch: what an earlier process left is hashed on the blocking
    /// pool, while the upstream's bytes arrive.
    hasher: Option<SumHasher>,
    /// How many bytes are written, for whoever waits for a job.
    on_disk: Arc<AtomicU64>,
    /// Whether anybody was told of a byte.
    is_published: bool,
}

impl FillWriter {
    pub(crate) fn new(partial: PartialBlob) -> Self {
        Self { partial, hasher: None, on_disk: Arc::default(), is_published: false }
    }

    /// Has `prepare` set space aside and then writes until the queue ends, or until the disk takes no
    /// more. `publish` is told how much is on disk: of the first bytes at once, for they are waited
    /// for, and at the latest after every [`BATCH_BYTES`].
    ///
    /// When the disk is stuck the queue stays with the job that is, open and unread.
    pub(crate) async fn drain(
        mut self,
        mut queue: mpsc::Receiver<Bytes>,
        prepare: impl FnOnce(&mut PartialBlob) -> io::Result<()> + Send + 'static,
        publish: impl Fn(u64) + Clone + Send + 'static,
    ) -> DrainOutcome {
        let (mut prepare, mut chunk) = (Some(prepare), None);
        loop {
            let (on_disk, prepare, publish) =
                (Arc::clone(&self.on_disk), prepare.take(), publish.clone());
            let job = tokio::task::spawn_blocking(move || {
                let prepared = prepare.map_or(Ok(()), |prepare| prepare(&mut self.partial));
                let done = prepared.map_err(NotTaken::Room);
                let done = done.and_then(|()| self.work(chunk, &mut queue, &publish));
                (self, queue, done)
            });
            let Some((writer, rest, done)) = patiently(job, &on_disk).await else {
                return DrainOutcome::Stuck;
            };
            (self, queue) = (writer, rest);
            match done {
                Ok(()) => {}
                Err(NotTaken::Room(error)) => return self.without_room(queue, error).await,
                Err(NotTaken::Chunk(chunk, error)) => {
                    let left = std::iter::once(chunk).chain(close(&mut queue)).collect();
                    return DrainOutcome::Refused { writer: self, left, error };
                }
            }
            chunk = queue.recv().await;
            if chunk.is_none() {
                return DrainOutcome::Whole(self);
            }
        }
    }

    async fn without_room(
        self,
        mut queue: mpsc::Receiver<Bytes>,
        error: io::Error,
    ) -> DrainOutcome {
        if let Err(error) = blocking(move || self.partial.leave()).await {
            tracing::debug!(%error, "cannot remove an empty partial file");
        }
        DrainOutcome::NoRoom { left: close(&mut queue), error }
    }

    /// Writes a chunk, if there is one, and what has arrived. Blocks.
    fn work(
        &mut self,
        chunk: Option<Bytes>,
        queue: &mut mpsc::Receiver<Bytes>,
        publish: &impl Fn(u64),
    ) -> Result<(), NotTaken> {
        let (mut unpublished, mut done) = (0, 0);
        let mut next = chunk.or_else(|| queue.try_recv().ok());
        while let Some(chunk) = next {
            if let Err(error) = self.write(&chunk) {
                publish(self.partial.len());
                return Err(NotTaken::Chunk(chunk, error));
            }
            unpublished += chunk.len();
            done += chunk.len();
            next = if done < JOB_BYTES { queue.try_recv().ok() } else { None };
            if unpublished >= BATCH_BYTES || next.is_none() || !self.is_published {
                publish(self.partial.len());
                (unpublished, self.is_published) = (0, true);
            }
        }
        Ok(())
    }

    /// Writes and hashes a chunk, so that it is hashed while it is in the core's cache, and so that
    /// after a failure the hash is that of what is in the file. Blocks.
    fn write(&mut self, chunk: &Bytes) -> io::Result<()> {
        let mut hasher = self.hash_so_far()?;
        let appended = self.partial.append(std::slice::from_ref(chunk));
        if appended.is_ok() {
            hasher.update(chunk);
            self.on_disk.store(self.partial.len(), Ordering::Relaxed);
        }
        self.hasher = Some(hasher);
        appended
    }

    fn hash_so_far(&mut self) -> io::Result<SumHasher> {
        self.hasher.take().map_or_else(|| self.partial.hash(), Ok)
    }

    /// The file and the hash of all of it.
    pub(crate) async fn finish(mut self) -> Result<(PartialBlob, SumHasher), CacheError> {
        let hash = move || self.hash_so_far().map(|hasher| (self.partial, hasher));
        blocking(hash).await.map_err(|_| CacheError::Internal("cannot hash a partial file"))
    }

    /// What is on disk and hashed, and the file.
    pub(crate) fn into_prefix(self, digest: &Digest) -> (HashedPrefix, PartialBlob) {
        let prefix = match self.hasher {
            Some(hasher) => {
                HashedPrefix::of(self.partial.file(), self.partial.len(), hasher.into_hasher())
            }
            None => HashedPrefix::none(digest),
        };
        (prefix, self.partial)
    }

    /// The file, whose bytes are not of interest.
    pub(crate) fn into_partial(self) -> PartialBlob {
        self.partial
    }
}

/// What is in a queue that will get no more.
fn close(queue: &mut mpsc::Receiver<Bytes>) -> Vec<Bytes> {
    queue.close();
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

/// The outcome of a job; `None` when the disk has not moved for [`DISK_STALL`].
async fn patiently<T>(mut job: JoinHandle<T>, on_disk: &AtomicU64) -> Option<T> {
    let mut before = on_disk.load(Ordering::Relaxed);
    loop {
        if let Ok(done) = timeout(DISK_STALL, &mut job).await {
            return done.ok();
        }
        let now = on_disk.load(Ordering::Relaxed);
        if now == before {
            return None;
        }
        before = now;
    }
}

/// What readers are told of at once. Each time wakes them. Much more than this has left the cores'
/// caches before they read it.
const BATCH_BYTES: usize = 256 << 10;

/// What one job takes before others have their turn on the blocking pool.
const JOB_BYTES: usize = 8 << 20;

/// How many received chunks wait for the writer at most: with chunks of at most 256 KiB this is
/// 2 MiB for each fill.
pub(crate) const QUEUE_CHUNKS: usize = 8;

/// A write that takes longer than this is not waited for.
const DISK_STALL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use tokio::time::sleep;

    use super::*;
    use crate::oci::Algorithm;
    use crate::store::{BootClock, Store, StoreOptions};

    const ALMOST: Duration = Duration::from_secs(29);

    #[tokio::test(start_paused = true)]
    async fn a_job_is_given_up_only_when_nothing_moves() {
        let on_disk = Arc::new(AtomicU64::new(0));
        let slow = {
            let on_disk = Arc::clone(&on_disk);
            tokio::spawn(async move {
                for _ in 0..4 {
                    sleep(ALMOST).await;
                    on_disk.fetch_add(1, Ordering::Relaxed);
                }
                "done"
            })
        };
        assert_eq!(patiently(slow, &on_disk).await, Some("done"), "slow is not stuck");

        let stuck = tokio::spawn(std::future::pending::<()>());
        assert_eq!(patiently(stuck, &on_disk).await, None);
    }

    /// Readers wait for the first bytes; to be told of each chunk after them would only wake them.
    #[tokio::test]
    async fn the_first_bytes_are_told_of_at_once_and_the_rest_in_batches() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::for_test(dir.path());
        let store = Store::open(options, BootClock::default()).unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"any");
        let partial = store.partial(&"a.test".parse().unwrap(), &digest).unwrap();
        let (sender, queue) = mpsc::channel(QUEUE_CHUNKS);
        for _ in 0..6 {
            sender.send(Bytes::from(vec![0; 100 << 10])).await.unwrap();
        }
        drop(sender);
        let told = Arc::new(Mutex::new(Vec::<u64>::new()));
        let publish = {
            let told = Arc::clone(&told);
            move |bytes| told.lock().push(bytes >> 10)
        };

        let drained = FillWriter::new(partial).drain(queue, |_| Ok(()), publish).await;

        assert!(matches!(drained, DrainOutcome::Whole(_)));
        assert_eq!(*told.lock(), [100, 400, 600]);
    }
}
