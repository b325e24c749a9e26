//! Writing and hashing what a fill receives.
//!
//! One job at a time runs on the blocking pool and goes on for as long as something has arrived. No
//! thread is held when nothing has: a fill that waits for its upstream costs none, and a job that
//! the disk does not let go of can be given up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Error;
use super::relay::Prefix;
use crate::oci::Digest;
use crate::store::{Partial, SumHasher};

/// How writing ended, as the writer sees it.
pub(super) enum Drained {
    /// There is no space for it; nothing was written. What had arrived is `left`.
    NoRoom { left: Vec<Bytes>, error: io::Error },
    /// The disk failed. What it did not take is `left`.
    Refused { writer: Writer, left: Vec<Bytes>, error: io::Error },
    /// The disk did not answer within [`DISK_STALL`]; nothing is known of the file any more.
    Stuck,
    /// All of it is written.
    Whole(Writer),
}

/// A chunk that the disk did not take.
struct NotTaken {
    chunk: Bytes,
    error: io::Error,
}

/// The partial file, and the hash of what is in it.
pub(super) struct Writer {
    partial: Partial,
    /// `None` until the first batch: what an earlier process left is hashed on the blocking
    /// pool, while the upstream's bytes arrive.
    hasher: Option<SumHasher>,
    /// How many bytes are written, for whoever waits for a job.
    on_disk: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(partial: Partial) -> Self {
        Self { partial, hasher: None, on_disk: Arc::default() }
    }

    /// Writes until the queue ends, or until the disk takes no more. `publish` is told how much is
    /// on disk, at the latest after every [`BATCH_BYTES`].
    ///
    /// When the disk is stuck the queue stays with the job that is, open and unread.
    pub(super) async fn drain(
        mut self,
        mut queue: mpsc::Receiver<Bytes>,
        publish: impl Fn(u64) + Clone + Send + 'static,
    ) -> Drained {
        while let Some(chunk) = queue.recv().await {
            let (on_disk, publish) = (Arc::clone(&self.on_disk), publish.clone());
            let job = tokio::task::spawn_blocking(move || self.work(chunk, queue, &publish));
            let Some((writer, rest, result)) = patiently(job, &on_disk).await else {
                return Drained::Stuck;
            };
            (self, queue) = (writer, rest);
            if let Err(NotTaken { chunk, error }) = result {
                let left = std::iter::once(chunk).chain(close(&mut queue)).collect();
                return Drained::Refused { writer: self, left, error };
            }
        }
        Drained::Whole(self)
    }

    /// Writes a chunk and what has arrived behind it. Blocks.
    fn work(
        mut self,
        chunk: Bytes,
        mut queue: mpsc::Receiver<Bytes>,
        publish: &impl Fn(u64),
    ) -> (Self, mpsc::Receiver<Bytes>, Result<(), NotTaken>) {
        let (mut next, mut unpublished, mut done) = (Some(chunk), 0, 0);
        while let Some(chunk) = next {
            if let Err(error) = self.write(&chunk) {
                publish(self.partial.len());
                return (self, queue, Err(NotTaken { chunk, error }));
            }
            unpublished += chunk.len();
            done += chunk.len();
            next = if done < JOB_BYTES { queue.try_recv().ok() } else { None };
            if unpublished >= BATCH_BYTES || next.is_none() {
                publish(self.partial.len());
                unpublished = 0;
            }
        }
        (self, queue, Ok(()))
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
    pub(super) async fn finish(mut self) -> Result<(Partial, SumHasher), Error> {
        let hash = move || self.hash_so_far().map(|hasher| (self.partial, hasher));
        blocking(hash).await.map_err(|_| Error::Internal("cannot hash a partial file"))
    }

    /// What is on disk and hashed, and the file.
    pub(super) fn into_prefix(self, digest: &Digest) -> (Prefix, Partial) {
        let prefix = match self.hasher {
            Some(hasher) => {
                Prefix::of(self.partial.file(), self.partial.len(), hasher.into_hasher())
            }
            None => Prefix::none(digest),
        };
        (prefix, self.partial)
    }

    /// The file, whose bytes are not of interest.
    pub(super) fn into_partial(self) -> Partial {
        self.partial
    }
}

/// What is in a queue that will get no more.
pub(super) fn close(queue: &mut mpsc::Receiver<Bytes>) -> Vec<Bytes> {
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
pub(super) const QUEUE_CHUNKS: usize = 8;

/// A write that takes longer than this is not waited for.
const DISK_STALL: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs file operations where they may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(io::Error::other("the disk task was lost")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

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
}
