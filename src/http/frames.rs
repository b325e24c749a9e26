//! Buffers for body frames, and how large the next one may be.
//!
//! A frame lives from the read of a file until the kernel has taken its last byte, so with many
//! slow clients the frames are what memory is spent on. Every client may have a small one. Large
//! ones cost half the CPU per byte, so clients that keep up get them, as long as the common
//! budget lasts; one that stops while it holds a large frame keeps it from others, and no more.
//!
//! Buffers begin at a page: copying a page of the page cache to 16 bytes behind a page's begin,
//! where some allocators put large blocks, costs twice as much on current CPUs.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// The frame that any client may have. With 64 KiB, 1,000 stalled readers held 111 MiB.
pub(super) const SMALL_BYTES: usize = 32 << 10;

/// The frame of clients that keep up.
pub(super) const LARGE_BYTES: usize = 256 << 10;

/// How many large frames there are for all clients together: 16 MiB.
const LARGE_FRAMES_MAX: usize = 64;

/// How many small frames are kept for reuse when no client holds them: 4 MiB.
const SMALL_FRAMES_KEPT: usize = 128;

/// A client that takes a frame within this time keeps up: 32 KiB in it are 1.6 MiB/s.
const KEEPS_UP: Duration = Duration::from_millis(20);

/// How many frames a client must have taken so before it gets a large one.
const STREAK_MIN: u8 = 4;

/// The buffers of all clients.
#[derive(Clone, Debug, Default)]
pub struct FramePool {
    shared: Arc<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    large_free: Mutex<Vec<PageBuffer>>,
    large_out: AtomicUsize,
    small_free: Mutex<Vec<PageBuffer>>,
    /// Set once the file system said that it cannot read without blocking (tmpfs).
    nowait_unsupported: AtomicBool,
}

impl FramePool {
    /// A buffer for the next frame of a client with this pace.
    pub(super) fn take(&self, pace: &mut FramePace) -> Frame {
        let data = if pace.keeps_up() { self.large() } else { None };
        let data = data.unwrap_or_else(|| self.small());
        Frame { data, len: 0, home: self.clone() }
    }

    fn large(&self) -> Option<PageBuffer> {
        let out = &self.shared.large_out;
        let take = |out: usize| (out < LARGE_FRAMES_MAX).then_some(out + 1);
        out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        let reused = self.shared.large_free.lock().pop();
        Some(reused.unwrap_or_else(|| PageBuffer::new(LARGE_BYTES)))
    }

    fn small(&self) -> PageBuffer {
        let reused = self.shared.small_free.lock().pop();
        reused.unwrap_or_else(|| PageBuffer::new(SMALL_BYTES))
    }

    fn give_back(&self, data: PageBuffer) {
        if data.size == LARGE_BYTES {
            self.shared.large_free.lock().push(data);
            self.shared.large_out.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut free = self.shared.small_free.lock();
        if free.len() < SMALL_FRAMES_KEPT {
            free.push(data);
        }
    }

    pub(super) fn can_read_now(&self) -> bool {
        !self.shared.nowait_unsupported.load(Ordering::Relaxed)
    }

    pub(super) fn cannot_read_now(&self) {
        self.shared.nowait_unsupported.store(true, Ordering::Relaxed);
    }
}

/// A buffer that goes back to be used again.
#[derive(Debug)]
pub(super) struct Frame {
    data: PageBuffer,
    len: usize,
    home: FramePool,
}

/// Memory that begins at a page.
#[derive(Debug, Default)]
struct PageBuffer {
    /// A page longer than needed.
    memory: Box<[u8]>,
    begin: usize,
    size: usize,
}

impl PageBuffer {
    fn new(size: usize) -> Self {
        let memory: Box<[u8]> = vec![0; size + PAGE_BYTES].into();
        let begin = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        Self { memory, begin, size }
    }
}

const PAGE_BYTES: usize = 4096;

impl Frame {
    /// Room for at most `max` bytes.
    pub(super) fn room(&mut self, max: u64) -> &mut [u8] {
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(self.data.size);
        let begin = self.data.begin;
        &mut self.data.memory[begin..begin + max]
    }

    /// The first `len` bytes, to be sent.
    pub(super) fn into_bytes(mut self, len: usize) -> Bytes {
        self.len = len;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.data.memory[self.data.begin..self.data.begin + self.len]
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.data));
    }
}

/// Whether one client keeps up.
#[derive(Debug)]
pub(super) struct FramePace {
    last: Option<Instant>,
    streak: u8,
}

impl FramePace {
    pub(super) fn new() -> Self {
        Self { last: None, streak: 0 }
    }

    /// Called once a frame, when the one before has left.
    fn keeps_up(&mut self) -> bool {
        let now = Instant::now();
        let in_time = self.last.is_some_and(|last| now - last < KEEPS_UP);
        self.last = Some(now);
        self.streak = if in_time { self.streak.saturating_add(1) } else { 0 };
        self.streak >= STREAK_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_clients_that_keep_up_get_large_frames_and_only_so_many() {
        let frames = FramePool::default();
        let mut pace = FramePace::new();
        for _ in 0..STREAK_MIN {
            assert_eq!(frames.take(&mut pace).data.size, SMALL_BYTES);
        }
        let held: Vec<_> = (0..LARGE_FRAMES_MAX).map(|_| frames.take(&mut pace)).collect();
        assert!(held.iter().all(|frame| frame.data.size == LARGE_BYTES));
        assert_eq!(frames.take(&mut pace).data.size, SMALL_BYTES, "the budget is spent");

        drop(held);
        assert_eq!(frames.take(&mut pace).data.size, LARGE_BYTES, "and given back");
        tokio::time::advance(KEEPS_UP).await;
        assert_eq!(frames.take(&mut pace).data.size, SMALL_BYTES, "the client was slow");
    }

    #[test]
    fn bytes_show_what_was_read_and_the_buffer_comes_back() {
        let frames = FramePool::default();
        let mut frame = Frame { data: frames.small(), len: 0, home: frames.clone() };
        frame.room(5).copy_from_slice(b"hello");
        let bytes = frame.into_bytes(5);
        assert_eq!(&bytes[..], b"hello");
        drop(bytes);
        assert_eq!(frames.shared.small_free.lock().len(), 1);
    }
}
