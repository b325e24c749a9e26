//! Reading and hashing documents: manifests and lists, which clients and upstreams make large.
//!
//! A document of megabytes takes milliseconds, in which the reactor would serve no client. It is
//! read on a thread that may block, two at a time, so that many of them take no more memory and
//! processor time than two. Small ones cost less than the way to another thread.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::CacheError;
use crate::store::blocking;

/// The threads that read large documents. Clones share them.
#[derive(Clone, Debug)]
pub struct DocumentThreads {
    permits: Arc<Semaphore>,
}

impl DocumentThreads {
    /// Threads that have nothing to do yet.
    pub(super) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(THREADS_MAX)) }
    }

    /// Does `work` on a document of `length` bytes. Large ones wait for their turn.
    ///
    /// # Errors
    ///
    /// [`CacheError::Internal`] if a thread was lost, by a panic in it or at the end of the
    /// runtime.
    pub async fn read<T: Send + 'static>(
        &self,
        length: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CacheError> {
        const LOST: CacheError = CacheError::Internal("a document was not read");
        if length <= INLINE_BYTES_MAX {
            return Ok(work());
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| LOST)?;
        let read = move || {
            // Held until the work is done, even if its client has left.
            let _permit = permit;
            Ok(work())
        };
        blocking(read).await.map_err(|_| LOST)
    }
}

/// Leaves a core for everything else on a machine that has more than one.
const THREADS_MAX: usize = 2;

/// In bytes: read in a tenth of a millisecond. Larger manifests are rare.
const INLINE_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// On one thread, which serves all clients.
    #[tokio::test]
    async fn large_documents_are_read_two_at_a_time_and_stop_nothing_else() {
        let documents = DocumentThreads::new();
        let (announce, announced) = mpsc::channel();
        let mut gates = Vec::new();
        let mut reads = tokio::task::JoinSet::new();
        for number in 0..5 {
            let (open, gate) = mpsc::channel::<()>();
            gates.push(open);
            let documents = documents.clone();
            let announce = announce.clone();
            let work = move || {
                announce.send(number).unwrap();
                gate.recv().unwrap_err();
                thread::current().id()
            };
            reads.spawn(async move { documents.read(INLINE_BYTES_MAX + 1, work).await });
        }

        let small = documents.read(INLINE_BYTES_MAX, || thread::current().id()).await.unwrap();
        assert_eq!(small, thread::current().id());
        let mut running = Vec::new();
        while running.len() < 2 {
            tokio::task::yield_now().await;
            running.extend(announced.try_iter());
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(announced.try_iter().count(), 0, "the third waits");

        drop(gates);
        while let Some(read) = reads.join_next().await {
            assert_ne!(read.unwrap().unwrap(), small);
        }
    }
}
