//! Writing and hashing what a fill receives.
//!
//! One job at a time runs on the blocking pool and takes all that has arrived since the last; while
//! it runs the next batch arrives. No thread is held between batches: a fill that waits for its
//! upstream costs none, and a job that the disk does not let go of can be given up.

use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Error;
use super::relay::Prefix;
use crate::oci::Digest;
use crate::store::{Partial, SumHasher};

/// How writing ended, as the writer sees it.
pub(super) enum Drained {
    /// The disk failed. What it did not take is `left`.
    Refused { writer: Writer, left: Vec<Bytes>, error: io::Error },
    /// The disk did not answer within [`DISK_STALL`]; nothing is known of the file any more.
    Stuck,
    /// All of it is written.
    Whole(Writer),
}

/// The partial file, and the hash of what is in it.
pub(super) struct Writer {
    partial: Partial,
    /// `None` until the first batch: what an earlier process left is hashed on the blocking
    /// pool, while the upstream's bytes arrive.
    hasher: Option<SumHasher>,
}

impl Writer {
    pub(super) fn new(partial: Partial) -> Self {
        Self { partial, hasher: None }
    }

    /// Writes until the queue ends, or until the disk takes no more. `publish` is told how much is
    /// on disk after each batch.
    pub(super) async fn drain(
        mut self,
        mut queue: mpsc::Receiver<Bytes>,
        publish: impl Fn(u64),
    ) -> Drained {
        while let Some(chunks) = batch(&mut queue).await {
            let job = tokio::task::spawn_blocking(move || self.write(chunks));
            let Ok(Ok((writer, result))) = timeout(DISK_STALL, job).await else {
                return Drained::Stuck;
            };
            self = writer;
            publish(self.partial.len());
            if let Err((mut left, error)) = result {
                queue.close();
                while let Ok(chunk) = queue.try_recv() {
                    left.push(chunk);
                }
                return Drained::Refused { writer: self, left, error };
            }
        }
        Drained::Whole(self)
    }

    /// Writes and hashes chunk by chunk, so that a chunk is hashed while it is in the core's
    /// cache, and so that after a failure the hash is that of what is in the file. Blocks.
    fn write(mut self, chunks: Vec<Bytes>) -> (Self, Result<(), (Vec<Bytes>, io::Error)>) {
        let mut chunks = chunks.into_iter();
        while let Some(chunk) = chunks.next() {
            let appended = self.hash_so_far().and_then(|hasher| {
                self.hasher = Some(hasher);
                self.partial.append(std::slice::from_ref(&chunk))
            });
            if let Err(error) = appended {
                let left = std::iter::once(chunk).chain(chunks).collect();
                return (self, Err((left, error)));
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&chunk);
            }
        }
        (self, Ok(()))
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

/// What has arrived, up to a batch; `None` at the end.
async fn batch(queue: &mut mpsc::Receiver<Bytes>) -> Option<Vec<Bytes>> {
    let mut chunks = vec![queue.recv().await?];
    let mut bytes = chunks[0].len();
    while bytes < BATCH_BYTES
        && let Ok(chunk) = queue.try_recv()
    {
        bytes += chunk.len();
        chunks.push(chunk);
    }
    Some(chunks)
}

/// What one job takes. Larger batches leave the cores' caches before they are hashed, and make
/// the allocator give memory back and fault it in again: 1 MiB costs a third more CPU.
const BATCH_BYTES: usize = 256 << 10;

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
