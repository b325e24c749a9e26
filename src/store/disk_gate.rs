//! How long the disk is waited for, and how many threads wait for it.
//!
//! A disk that hangs lets go of no thread that touches it, and the blocking pool has only so many.
//! So each kind of access has a budget of its own, of which no other takes anything, and short
//! accesses are given up after [`DISK_WAIT`]. As long as one that was given up has not ended, the
//! disk is known to hang: what can be left out is refused at once. The access that ends is the
//! probe.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

/// The gates of a store.
#[derive(Debug)]
pub(super) struct DiskGates {
    /// Blobs are found and read.
    pub(super) reads: DiskGate,
    /// Records are read and written, files begun and removed.
    pub(super) records: DiskGate,
    /// Downloads and copies are appended to.
    pub(super) appends: DiskGate,
    /// Whole files are flushed and named.
    pub(super) commits: DiskGate,
    /// The turns of those accesses to records that no answer waits for.
    pub(super) behind: Semaphore,
    /// The turns of those reads that take small content whole, and hash it.
    pub(super) whole: Semaphore,
}

impl Default for DiskGates {
    fn default() -> Self {
        Self {
            reads: DiskGate::new("reads", 96),
            records: DiskGate::new("records", 96),
            appends: DiskGate::new("appends", 128),
            commits: DiskGate::new("commits", 64),
            behind: Semaphore::new(BEHIND_MAX),
            whole: Semaphore::new(WHOLE_MAX),
        }
    }
}

impl DiskGates {
    /// Refuses what would be written while the disk takes nothing.
    pub(super) fn check(&self) -> io::Result<()> {
        self.records.check().and_then(|()| self.appends.check())
    }
}

/// The accesses of one kind. These budgets leave enough of tokio's 512 threads for all else.
#[derive(Debug)]
pub(super) struct DiskGate {
    name: &'static str,
    permits: Arc<Semaphore>,
    /// Taken in the place of those while the disk hangs, which may hold all of them.
    spare: Arc<Semaphore>,
    stuck: Arc<AtomicUsize>,
}

/// An access that runs.
#[derive(Debug)]
pub(super) struct DiskJob<T> {
    pub(super) running: JoinHandle<T>,
    end: Arc<JobEnd>,
}

/// Shared by an access and the one that waits for it.
#[derive(Debug)]
struct JobEnd {
    name: &'static str,
    /// Set by the first of the two that goes its way.
    is_over: AtomicBool,
    stuck: Arc<AtomicUsize>,
}

impl JobEnd {
    fn leave_stuck(&self) {
        if self.stuck.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!(access = self.name, "the disk answers again");
        }
    }
}

/// Dropped when the access has ended, also by a panic.
struct EndedJob(Arc<JobEnd>);

impl Drop for EndedJob {
    fn drop(&mut self) {
        if self.0.is_over.swap(true, Ordering::Relaxed) {
            self.0.leave_stuck();
        }
    }
}

impl DiskGate {
    fn new(name: &'static str, permits: usize) -> Self {
        let permits = Arc::new(Semaphore::new(permits));
        let spare = Arc::new(Semaphore::new(SPARE));
        Self { name, permits, spare, stuck: Arc::default() }
    }

    /// Whether an access that was given up has not ended yet.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) > 0
    }

    /// Refuses an access that can be left out while the disk hangs.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_stuck() { Err(hangs()) } else { Ok(()) }
    }

    /// Begins an access, when there is a thread for it. While the disk hangs it is to leave out
    /// what could hang, so a few are begun at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when the disk hangs, and those few hang too.
    pub(super) async fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<DiskJob<T>> {
        let permit = if self.is_stuck() {
            Arc::clone(&self.spare).try_acquire_owned().map_err(|_| hangs())?
        } else {
            Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?
        };
        let stuck = Arc::clone(&self.stuck);
        let end = JobEnd { name: self.name, is_over: AtomicBool::new(false), stuck };
        let end = Arc::new(end);
        let ended = EndedJob(Arc::clone(&end));
        let running = spawn_blocking(move || {
            let done = work();
            drop((ended, permit));
            done
        });
        Ok(DiskJob { running, end })
    }

    /// Does something short, and waits for it for [`DISK_WAIT`] at most. It may go on after that.
    ///
    /// # Errors
    ///
    /// Those of `work`; [`io::ErrorKind::TimedOut`] when the disk hangs; and of kind
    /// [`io::ErrorKind::Other`] when the task was lost, by a panic or at the end of the runtime.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send + '_>> {
        // Boxed, because many futures hold one that look in memory first: a hit would have to move
        // the room for it.
        Box::pin(async move {
            let until = Instant::now() + DISK_WAIT;
            let mut job = timeout_at(until, self.start(work)).await.map_err(|_| hangs())??;
            if let Ok(done) = timeout_at(until, &mut job.running).await {
                return done.unwrap_or_else(|lost| Err(io::Error::other(lost)));
            }
            job.give_up();
            Err(hangs())
        })
    }
}

impl<T> DiskJob<T> {
    /// Notes that it is not waited for any more.
    pub(super) fn give_up(self) {
        let JobEnd { name, is_over, stuck } = &*self.end;
        if stuck.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(access = name, wait = ?DISK_WAIT, "the disk hangs; passing by");
        }
        if is_over.swap(true, Ordering::Relaxed) {
            self.end.leave_stuck();
        }
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk hangs")
}

/// Longer accesses are given up: well below the 25 s within which clients have an answer, and
/// above what a disk that works takes when others keep it busy.
pub(super) const DISK_WAIT: Duration = Duration::from_secs(5);

/// Records that are written behind answers at a time. A thousand questions that end together would
/// otherwise take all threads for records, and the processors from those that serve clients.
const BEHIND_MAX: usize = 8;

/// Manifests and the like that are read whole at a time. A thousand questions that end together
/// would otherwise stand before every blob that is opened for another client.
const WHOLE_MAX: usize = 8;

/// How many accesses of a kind are begun while an earlier one hangs.
const SPARE: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The hang is known until the access ends that was given up; then all is as before.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_waited_for_once_and_known_until_it_answers() {
        let gate = DiskGate::new("test", 1);
        let (release, hang) = mpsc::channel::<()>();
        let hanging = gate.run(move || hang.recv().map_err(io::Error::other));
        let (given_up, ()) = tokio::join!(hanging, tokio::time::advance(DISK_WAIT));
        assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(gate.is_stuck());
        assert_eq!(gate.check().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(gate.run(|| Ok(7)).await.unwrap(), 7, "what touches no disk is done");

        release.send(()).unwrap();
        while gate.is_stuck() {
            tokio::task::yield_now().await;
        }
        gate.check().unwrap();
        let lost = gate.run::<()>(|| panic!("as told")).await;
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::Other);
        assert_eq!(gate.run(|| Ok(7)).await.unwrap(), 7, "its thread is free again");
    }
}
