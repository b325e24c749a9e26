//! A file on its way into the store, and the hash of what is in it.
//!
//! This is the one place where the two agree, for downloads and for the copies of uploads: bytes
//! come from a queue, one job at a time on the blocking pool writes and hashes them chunk by chunk
//! while each is in the core's cache, and after a failure the hash is still that of what is in the
//! file. No thread is held while nothing arrives, and a job that the disk does not let go of is
//! given up.
//!
//! Both are local: a download lies under `fills/` by registry and digest, where a later process
//! finds it and goes on from its length; the copy of an upload lies under `uploads/` by a number,
//! means nothing to a later process, and goes when it is dropped. The file is never truncated while
//! readers may follow it: a start from zero is a new file under the same name.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::append_file::{AppendFile, CommittedBlob};
use super::blocking::blocking;
use super::disk_gate::DiskGate;
use super::error::DigestMismatch;
use super::flush_ahead::FileFlusher;
use super::sums::SumHasher;
use super::verify::StoredBlob;
use crate::oci::{Algorithm, Digest};

/// A file that is appended to until it is committed, left to a later process, or discarded.
#[derive(Debug)]
pub struct HashedFile {
    file: AppendFile,
    algorithm: Algorithm,
    /// The hash of all that is in the file; `None` while what was found in it is not hashed.
    hasher: Option<SumHasher>,
    /// Bytes written and hashed by this process, for the one who waits for a job.
    moved: Arc<AtomicU64>,
    /// For a file whose commit is waited for.
    flush_ahead: Option<FileFlusher>,
}

/// Why not all of a queue is in a file. `left` is what came and is not, in its order.
#[derive(Debug)]
pub enum AppendError<C> {
    /// There is not enough space for the whole; nothing was written. An empty file is gone.
    NoSpace {
        /// Everything that came.
        left: Vec<C>,
        /// Mostly [`io::ErrorKind::StorageFull`].
        error: io::Error,
    },
    /// The disk failed. The file and its hash are those of what was written before.
    Refused {
        /// The file.
        file: Box<HashedFile>,
        /// From the chunk that the disk did not take.
        left: Vec<C>,
        /// Why it did not.
        error: io::Error,
    },
    /// The disk has not moved for `DISK_STALL`, or is known to hang. Nothing is known of the file,
    /// and the queue may stay open and unread.
    Stuck,
}

/// Why a file did not become a blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The bytes in the file cannot be read, or are lost.
    #[error("the file cannot be read back")]
    Disk(#[from] io::Error),
    /// The bytes are wrong, and gone.
    #[error(transparent)]
    Mismatch(#[from] DigestMismatch),
}

impl HashedFile {
    /// Continues the file that an earlier process or an earlier try left of a download, or begins
    /// an empty one.
    pub(super) fn resumed(file: AppendFile, algorithm: Algorithm) -> Self {
        let (moved, flush_ahead) = (Arc::default(), None);
        Self { file, algorithm, hasher: None, moved, flush_ahead }
    }

    /// An empty file whose commit a client waits for.
    pub(super) fn empty(file: AppendFile, algorithm: Algorithm) -> Self {
        let (hasher, flush_ahead) = (Some(SumHasher::new(algorithm)), Some(FileFlusher::default()));
        Self { file, algorithm, hasher, moved: Arc::default(), flush_ahead }
    }

    /// The bytes written so far, also by an earlier process.
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file, for readers that follow it.
    pub fn file(&self) -> Arc<File> {
        self.file.file()
    }

    /// The hash of all that is in the file; `None` while what was found in it is not hashed.
    pub fn hasher(&self) -> Option<&SumHasher> {
        self.hasher.as_ref()
    }

    /// Whether all of the content of `digest` is in the file, as far as it is hashed.
    pub fn holds(&self, digest: &Digest) -> bool {
        let hashed = self.hasher.clone().map(|hasher| hasher.into_hasher().finish());
        hashed.as_ref() == Some(digest)
    }

    /// Sets space aside for the file to become `total` bytes long, and then appends what comes from
    /// the queue until that is closed. An unknown total is set aside for in steps.
    ///
    /// `publish` is told on the blocking pool how many bytes may be read from the file: those that
    /// are in it, once there is space for the rest; then the first new ones at once, for readers
    /// wait for them; then at the latest after every `BATCH_BYTES`. So a fill begins to be
    /// readable with the first call and grows with each other; a call of a job that was given up as
    /// stuck may come late, and is to be told from those of the next file.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]: each says what is known of the file, and gives back what is not in it.
    pub async fn append<C: AsRef<[u8]> + Send + 'static>(
        self,
        total: Option<u64>,
        queue: mpsc::Receiver<C>,
        publish: impl FnMut(u64) + Send + 'static,
    ) -> Result<Self, AppendError<C>> {
        let moved = Arc::clone(&self.moved);
        let gates = Arc::clone(self.file.gates());
        if self.file.gates().appends.is_stuck() {
            return Err(AppendError::Stuck);
        }
        let mut job = AppendJob { file: self, queue, publish, has_published: false };
        let (mut reserve, mut chunk) = (Some(total.unwrap_or_default()), None);
        loop {
            let reserve = reserve.take();
            let run = move || {
                let done = job.run(reserve, chunk);
                (job, done)
            };
            let ended = run_unless_stuck(&gates.appends, run, &moved).await;
            let (ended, done) = ended.ok_or(AppendError::Stuck)?;
            job = ended;
            let done = match done {
                Ok(bytes) => job.file.flush(bytes).await.map_err(|error| (None, error)),
                Err(NotTaken::Space(error)) => return Err(job.without_space(error).await),
                Err(NotTaken::Chunk(chunk, error)) => Err((Some(chunk), error)),
            };
            if let Err((chunk, error)) = done {
                let left = chunk.into_iter().chain(close(&mut job.queue)).collect();
                return Err(AppendError::Refused { file: Box::new(job.file), left, error });
            }
            chunk = job.queue.recv().await;
            if chunk.is_none() {
                return Ok(job.file);
            }
        }
    }

    /// Has the disk take what is written, from time to time, where a client waits for the commit.
    async fn flush(&mut self, wrote: u64) -> io::Result<()> {
        let Some(flush_ahead) = &mut self.flush_ahead else { return Ok(()) };
        let file = self.file.file();
        flush_ahead
            .wrote(usize::try_from(wrote).unwrap_or(usize::MAX), move || file.sync_data())
            .await
    }

    /// Hashes what is not hashed yet, compares, and makes the file the blob of `digest`. `proven`
    /// is told when the bytes are known to be right, before the disk is waited for.
    ///
    /// # Errors
    ///
    /// See [`CommitError`]. A disk that does not keep verified bytes is none: see
    /// [`CommittedBlob::kept`].
    pub async fn commit(
        mut self,
        digest: &Digest,
        proven: impl FnOnce(&StoredBlob) + Send + 'static,
    ) -> Result<CommittedBlob, CommitError> {
        if let Some(flush_ahead) = &mut self.flush_ahead {
            flush_ahead.end().await?;
        }
        let digest = digest.clone();
        let gates = Arc::clone(self.file.gates());
        let prove = move || {
            if digest.algorithm() != self.algorithm {
                (self.algorithm, self.hasher) = (digest.algorithm(), None);
            }
            let hasher = self.hash_so_far()?;
            Ok(self.file.prove(&digest, hasher))
        };
        let file = blocking(prove).await??;
        proven(&file.blob);
        let keeping = gates.commits.start(move || file.keep()).await?;
        Ok(keeping.running.await.map_err(io::Error::other)?)
    }

    /// Leaves a download to be gone on with, unless there is nothing in it, or a write failed.
    ///
    /// # Errors
    ///
    /// The file cannot be removed, or keeps space that was set aside for it.
    pub async fn leave(self) -> io::Result<()> {
        let gates = Arc::clone(self.file.gates());
        gates.records.run(move || self.file.leave()).await
    }

    /// Removes the file: its bytes are wrong, or of no more use.
    ///
    /// # Errors
    ///
    /// The file cannot be removed.
    pub async fn discard(self) -> io::Result<()> {
        let gates = Arc::clone(self.file.gates());
        gates.records.run(move || self.file.discard()).await
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut hasher = self.hash_so_far()?;
        let written = self.file.append(chunk);
        if written.is_ok() {
            hasher.update(chunk);
            self.moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        self.hasher = Some(hasher);
        written
    }

    fn hash_so_far(&mut self) -> io::Result<SumHasher> {
        let moved = |bytes| {
            self.moved.fetch_add(bytes, Ordering::Relaxed);
        };
        self.hasher.take().map_or_else(|| self.file.hash(self.algorithm, moved), Ok)
    }
}

/// The job that goes to the blocking pool, again and again.
struct AppendJob<C, P> {
    file: HashedFile,
    queue: mpsc::Receiver<C>,
    publish: P,
    /// Whether `publish` was told of a new byte.
    has_published: bool,
}

/// A chunk or a reservation that the disk did not take.
enum NotTaken<C> {
    Chunk(C, io::Error),
    /// The space that the whole would need.
    Space(io::Error),
}

impl<C: AsRef<[u8]>, P: FnMut(u64)> AppendJob<C, P> {
    /// Sets space aside, if asked to, and appends a chunk, if there is one, and what else has
    /// arrived. Returns how many bytes. Blocks.
    fn run(&mut self, reserve: Option<u64>, chunk: Option<C>) -> Result<u64, NotTaken<C>> {
        if let Some(total) = reserve {
            self.file.file.reserve(total).map_err(NotTaken::Space)?;
            (self.publish)(self.file.len());
        }
        let (before, mut published) = (self.file.len(), self.file.len());
        let mut next = chunk.or_else(|| self.queue.try_recv().ok());
        while let Some(chunk) = next {
            if let Err(error) = self.file.write(chunk.as_ref()) {
                (self.publish)(self.file.len());
                return Err(NotTaken::Chunk(chunk, error));
            }
            let len = self.file.len();
            next = if len - before < JOB_BYTES { self.queue.try_recv().ok() } else { None };
            if len - published >= BATCH_BYTES || next.is_none() || !self.has_published {
                (self.publish)(len);
                (published, self.has_published) = (len, true);
            }
        }
        Ok(self.file.len() - before)
    }

    async fn without_space(mut self, error: io::Error) -> AppendError<C> {
        let left = close(&mut self.queue);
        if let Err(error) = self.file.leave().await {
            tracing::debug!(%error, "cannot remove an empty partial file");
        }
        AppendError::NoSpace { left, error }
    }
}

/// Closes a queue and takes the chunks that are still in it.
fn close<C>(queue: &mut mpsc::Receiver<C>) -> Vec<C> {
    queue.close();
    std::iter::from_fn(|| queue.try_recv().ok()).collect()
}

/// Runs a job; `None` as below, or when there is no thread for it.
async fn run_unless_stuck<T: Send + 'static>(
    gate: &DiskGate,
    run: impl FnOnce() -> T + Send + 'static,
    moved: &AtomicU64,
) -> Option<T> {
    let mut job = timeout(DISK_STALL, gate.start(run)).await.ok()?.ok()?;
    let ended = unless_stuck(&mut job.running, moved).await;
    if ended.is_none() {
        job.give_up();
    }
    ended
}

/// The outcome of a job; `None` when the disk has not moved for `DISK_STALL`, or the job is lost.
async fn unless_stuck<T>(job: &mut JoinHandle<T>, moved: &AtomicU64) -> Option<T> {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        if let Ok(done) = timeout(DISK_STALL, &mut *job).await {
            return done.ok();
        }
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return None;
        }
        before = now;
    }
}

/// Readers are told of this many bytes at once. Each time wakes them, and of many more the first
/// would have left the cores' caches before they are read.
const BATCH_BYTES: u64 = 256 << 10;

/// The most that one job writes before others have their turn on the blocking pool.
const JOB_BYTES: u64 = 8 << 20;

/// A write that takes longer than this is not waited for. Clients that wait for the first bytes
/// have an answer within 25 s.
const DISK_STALL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use parking_lot::Mutex;
    use tokio::time::sleep;

    use super::*;
    use crate::store::{BootClock, SpacePart, Store, StoreOptions, StoredState};

    const ALMOST: Duration = Duration::from_secs(9);

    struct Lab {
        store: Store,
        digest: Digest,
        _dir: tempfile::TempDir,
    }

    impl Lab {
        fn new(bytes: &[u8]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = StoreOptions::for_test(dir.path());
            let store = Store::open(options, BootClock::default()).unwrap();
            Self { store, digest: Digest::of(Algorithm::Sha256, bytes), _dir: dir }
        }

        async fn open(&self) -> HashedFile {
            self.store.open_fill(&"a.test".parse().unwrap(), &self.digest).await.unwrap()
        }
    }

    fn queue(chunks: &[&[u8]]) -> mpsc::Receiver<Vec<u8>> {
        let (sender, queue) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(chunk.to_vec()).unwrap();
        }
        queue
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_given_up_only_when_nothing_moves() {
        let moved = Arc::new(AtomicU64::new(0));
        let mut slow = {
            let moved = Arc::clone(&moved);
            tokio::spawn(async move {
                for _ in 0..4 {
                    sleep(ALMOST).await;
                    moved.fetch_add(1, Ordering::Relaxed);
                }
                "done"
            })
        };
        assert_eq!(unless_stuck(&mut slow, &moved).await, Some("done"), "slow is not stuck");

        let mut stuck = tokio::spawn(std::future::pending::<()>());
        assert_eq!(unless_stuck(&mut stuck, &moved).await, None);
    }

    /// Readers wait for the first bytes; to be told of each chunk after them would only wake them.
    #[tokio::test]
    async fn the_first_bytes_are_published_at_once_and_the_rest_in_batches() {
        let lab = Lab::new(b"any");
        let told = Arc::new(Mutex::new(Vec::<u64>::new()));
        let publish = {
            let told = Arc::clone(&told);
            move |bytes| told.lock().push(bytes >> 10)
        };
        let chunk = vec![0; 100 << 10];
        let chunks = queue(&[&chunk[..]; 6]);
        let appended = lab.open().await.append(None, chunks, publish).await;
        assert_eq!(appended.unwrap().len(), 600 << 10);
        assert_eq!(*told.lock(), [0, 100, 400, 600]);
    }

    /// The bytes that an earlier process left are hashed again, whether more comes or not.
    #[tokio::test]
    async fn a_download_goes_on_from_what_is_in_its_file() {
        let lab = Lab::new(b"hello world");
        for (left, rest) in [(&b"hello "[..], &[&b"wor"[..], b"ld"][..]), (b"hello world", &[])] {
            let first = lab.open().await.append(Some(11), queue(&[left]), |_| {}).await.unwrap();
            first.leave().await.unwrap();

            let again = lab.open().await;
            assert_eq!(again.len(), left.len() as u64, "reserving does not change the length");
            assert!(again.hasher().is_none());
            let whole = again.append(Some(11), queue(rest), |_| {}).await.unwrap();
            let committed = whole.commit(&lab.digest, |_| {}).await.unwrap();
            assert_eq!(committed.blob.content().len(), 11);
        }
        let stored = lab.store.content().open(&lab.digest, None).await.unwrap();
        assert!(matches!(stored, Some(StoredState::Verified(_))));
    }

    /// Without a known length, space is set aside in large steps; the rest is given back.
    #[tokio::test]
    async fn space_that_was_set_aside_and_not_written_is_given_back() {
        let bytes = vec![7; 300 << 10];
        let lab = Lab::new(&bytes);
        let taken = |file: &File| file.metadata().unwrap().blocks() * 512;
        let (first, rest) = bytes.split_at(100 << 10);
        let begun = lab.open().await.append(None, queue(&[first]), |_| {}).await.unwrap();
        let file = begun.file();
        assert!(taken(&file) >= 64 << 20, "this file system can set space aside");
        begun.leave().await.unwrap();
        assert_eq!(taken(&file), 100 << 10, "left to be resumed");

        // As a process leaves it that is killed.
        let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&*file, keep, 100 << 10, 64 << 20).unwrap();
        let whole = lab.open().await.append(Some(300 << 10), queue(&[rest]), |_| {}).await.unwrap();
        whole.commit(&lab.digest, |_| {}).await.unwrap().kept.unwrap();
        assert_eq!(taken(&file), 300 << 10, "stored");
        assert_eq!(lab.store.report().space.used[SpacePart::Partials as usize], 0);
    }

    /// Nothing is published of what cannot become whole, and the caller has all that came.
    #[tokio::test]
    async fn a_file_for_which_there_is_no_space_is_not_begun() {
        let lab = Lab::new(b"any");
        let chunks = queue(&[b"one", b"two"]);
        let publish = |_| panic!("there is nothing to read");
        let refused = lab.open().await.append(Some(u64::MAX >> 1), chunks, publish).await;
        let Err(AppendError::NoSpace { left, error }) = refused else { panic!("{refused:?}") };
        assert_eq!(left, [b"one", b"two"]);
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    /// Wrong bytes are gone, and not resumed.
    /// A power cut leaves zeros where bytes were written into space that had been set aside, and
    /// had not reached the disk.
    #[tokio::test]
    async fn a_partial_file_is_resumed_from_its_first_hole() {
        let bytes = vec![7; 1 << 20];
        let lab = Lab::new(&bytes);
        let path = lab.store.layout.fill(&"a.test".parse().unwrap(), &lab.digest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let partial = File::create(&path).unwrap();
        partial.write_all_at(&bytes[..1 << 16], 0).unwrap();
        partial.write_all_at(&bytes[..1 << 16], 1 << 18).unwrap();

        let resumed = lab.open().await;
        assert_eq!(resumed.len(), 1 << 16);
        assert_eq!(partial.metadata().unwrap().len(), 1 << 16);
    }

    #[tokio::test]
    async fn a_file_with_another_digest_is_removed() {
        let lab = Lab::new(b"right");
        let wrong = lab.open().await.append(None, queue(&[b"wrong"]), |_| {}).await.unwrap();
        let refused = wrong.commit(&lab.digest, |_| panic!("they are wrong")).await;
        assert!(matches!(refused, Err(CommitError::Mismatch(_))));
        assert!(lab.store.content().open(&lab.digest, None).await.unwrap().is_none());
        assert!(lab.open().await.is_empty());
    }
}
