//! Has what is written of a copy go to the disk while more of it comes.
//!
//! A push is answered when its copy is on disk. Without this the disk would have nothing to do
//! until then, and the client would wait for all of it at once.

use std::io;

use tokio::task::{JoinHandle, spawn_blocking};

/// At most one flush of a file at a time.
#[derive(Debug, Default)]
pub(super) struct FileFlusher {
    running: Option<JoinHandle<io::Result<()>>>,
    /// Bytes that were written since the last one began.
    waiting: usize,
}

impl FileFlusher {
    /// Notes that so many bytes were written, and starts `flush` when it is time. It may block.
    ///
    /// # Errors
    ///
    /// The error of an earlier flush. The kernel reports it once: a second flush succeeds.
    pub(super) async fn wrote(
        &mut self,
        bytes: usize,
        flush: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        self.waiting += bytes;
        let is_running = self.running.as_ref().is_some_and(|flush| !flush.is_finished());
        if self.waiting < FLUSH_BYTES || is_running {
            return Ok(());
        }
        self.end().await?;
        self.waiting = 0;
        self.running = Some(spawn_blocking(flush));
        Ok(())
    }

    /// Waits for the one that runs.
    ///
    /// # Errors
    ///
    /// As above.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Long enough for a disk to be at its best, short enough to be written in a moment.
const FLUSH_BYTES: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_runs_at_a_time_and_each_has_enough_to_do() {
        let mut flusher = FileFlusher::default();
        let (go, wait) = mpsc::channel::<()>();
        flusher.wrote(FLUSH_BYTES - 1, || panic!("for too little")).await.unwrap();
        flusher.wrote(1, move || wait.recv().map_err(io::Error::other)).await.unwrap();
        flusher.wrote(FLUSH_BYTES, || panic!("beside another")).await.unwrap();
        go.send(()).unwrap();
        while !flusher.running.as_ref().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }

        let (told, hear) = mpsc::channel();
        flusher.wrote(0, move || told.send(()).map_err(io::Error::other)).await.unwrap();

        flusher.end().await.unwrap();
        hear.recv().unwrap();
    }

    /// A copy of which the disk has lost a part is none.
    #[tokio::test]
    async fn an_error_is_told_to_who_comes_next() {
        let mut flusher = FileFlusher::default();
        let failing = || Err(io::ErrorKind::StorageFull.into());
        flusher.wrote(FLUSH_BYTES, failing).await.unwrap();
        while !flusher.running.as_ref().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }
        let told = flusher.wrote(FLUSH_BYTES, || panic!("after a failure")).await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::StorageFull);

        let mut flusher = FileFlusher::default();
        flusher.wrote(FLUSH_BYTES, failing).await.unwrap();
        assert_eq!(flusher.end().await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
