//! The load of one connection: its requests in flight, and when bytes of their bodies last moved.
//!
//! Each connection may have one request in flight. Further ones, over HTTP/2, take extra streams,
//! of which one client and all clients together have a number: each holds a file, a frame, and what
//! the client's window does not let out. A request is in flight until its last byte has left, even
//! if its body has ended: bytes that wait for a window are held as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The extra streams that are in use: those of a client, and those of all clients.
#[derive(Clone, Debug)]
pub(super) struct ExtraStreams {
    pub(super) of_client: Arc<AtomicUsize>,
    pub(super) of_all: Arc<AtomicUsize>,
    /// The most that all clients may have.
    pub(super) max: usize,
}

impl Default for ExtraStreams {
    fn default() -> Self {
        let (of_client, of_all) = Default::default();
        Self { of_client, of_all, max: usize::MAX }
    }
}

impl ExtraStreams {
    fn take(&self) -> bool {
        let max_of_client = EXTRA_STREAMS_MAX.min(share_of_one(self.max));
        let is_taken = add_below(&self.of_client, max_of_client);
        if is_taken && !add_below(&self.of_all, self.max) {
            self.of_client.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        is_taken
    }

    fn give_back(&self) {
        self.of_client.fetch_sub(1, Ordering::Relaxed);
        self.of_all.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add_below(count: &AtomicUsize, max: usize) -> bool {
    let add = |count: usize| (count < max).then_some(count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

/// The most of `all` places that one client may hold, so that others find some.
pub(super) fn share_of_one(all: usize) -> usize {
    all.saturating_sub(all / OTHERS_SHARE).max(1)
}

/// One client leaves a quarter of the places to others.
const OTHERS_SHARE: usize = 4;

/// Streams of one client beyond one for each of its connections. With 100 KiB each, they hold 50
/// MiB; ten nodes behind one address need half of them.
const EXTRA_STREAMS_MAX: usize = 512;

/// After a stop, the time for the first request of a connection that is open by then: clients take
/// a closed one for a failure, unless they have used it before.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(2);

/// The load of one connection.
#[derive(Debug)]
pub struct ConnectionLoad {
    extra: ExtraStreams,
    /// Whether the one request that each connection may have is in flight.
    has_own: AtomicBool,
    requests: AtomicUsize,
    /// Requests whose answers have not begun.
    waiting: AtomicUsize,
    began: Instant,
    /// In milliseconds from `began`.
    moved: AtomicU64,
    /// Whether a request came over HTTP/1, where each byte on the connection is progress.
    is_http1: AtomicBool,
    /// Whether it is closed in favour of others, with no request finished.
    is_ended: AtomicBool,
    /// Cancelled when no more requests are to be taken.
    stop: CancellationToken,
    has_begun: AtomicBool,
    first_request: Notify,
}

impl ConnectionLoad {
    /// The load of a connection of which there may be any number, until `stop` is cancelled.
    pub fn unlimited(stop: CancellationToken) -> Self {
        Self::new(ExtraStreams::default(), stop)
    }

    pub(super) fn new(extra: ExtraStreams, stop: CancellationToken) -> Self {
        Self {
            extra,
            has_own: AtomicBool::default(),
            requests: AtomicUsize::default(),
            waiting: AtomicUsize::default(),
            began: Instant::now(),
            moved: AtomicU64::default(),
            is_http1: AtomicBool::default(),
            is_ended: AtomicBool::default(),
            stop,
            has_begun: AtomicBool::default(),
            first_request: Notify::new(),
        }
    }

    /// Counts one more request; `None` if its client, or all clients, have as many as they may.
    /// Over HTTP/1 a connection has one after the other.
    pub(super) fn begin(self: &Arc<Self>, is_http1: bool) -> Option<RequestPermit> {
        let is_extra = !is_http1 && self.has_own.swap(true, Ordering::Relaxed);
        if is_extra && !self.extra.take() {
            return None;
        }
        if is_http1 {
            self.is_http1.store(true, Ordering::Relaxed);
        }
        if !self.has_begun.load(Ordering::Relaxed) {
            self.has_begun.store(true, Ordering::Relaxed);
            self.first_request.notify_one();
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.note_progress();
        Some(RequestPermit { load: Arc::clone(self), is_extra, is_waiting: AtomicBool::new(true) })
    }

    fn note_progress(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// The time for which no byte of a body has moved, and no request begun or ended.
    pub(super) fn quiet_for(&self) -> Duration {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(moved)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Whether every request has an answer that has begun.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0
    }

    /// Has the connection closed at once.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.stop.cancel();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Ends when the connection is to take no more requests.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Ends when a connection that has had no request yet is closed: a while after the stop, as
    /// its client may be about to send one, and at once if it makes room for others.
    pub async fn closed_unused(&self) {
        self.stopped().await;
        if !self.is_ended() {
            sleep(FIRST_REQUEST_WAIT).await;
        }
    }

    /// Ends when the connection is to take no further request: after a stop, and at least one
    /// request, or as [`Self::closed_unused`].
    pub(super) async fn closing(&self) {
        self.stopped().await;
        if !self.has_begun.load(Ordering::Relaxed) {
            tokio::select! {
                () = self.first_request.notified() => {}
                () = self.closed_unused() => {}
            }
        }
    }

    /// When the silence of the connection began, if it depends on the client alone. `moved` is when
    /// bytes last moved on it, which says nothing over HTTP/2: PINGs, and window updates that
    /// let nothing out, are no progress.
    pub(super) fn silent_since(&self, moved: Instant) -> Option<Instant> {
        if self.is_http1.load(Ordering::Relaxed) {
            return Some(moved);
        }
        let of_bodies = self.began + Duration::from_millis(self.moved.load(Ordering::Relaxed));
        self.waits_for_client().then_some(of_bodies)
    }
}

/// A request in flight, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct RequestPermit {
    load: Arc<ConnectionLoad>,
    is_extra: bool,
    is_waiting: AtomicBool,
}

impl RequestPermit {
    /// The answer has begun: the client is not kept waiting any more.
    pub(super) fn note_answer(&self) {
        if self.is_waiting.load(Ordering::Relaxed) && self.is_waiting.swap(false, Ordering::Relaxed)
        {
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Bytes of the body have moved.
    pub(super) fn note_progress(&self) {
        self.note_answer();
        self.load.note_progress();
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.note_progress();
        self.load.requests.fetch_sub(1, Ordering::Relaxed);
        if self.is_extra {
            self.load.extra.give_back();
        } else {
            self.load.has_own.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_has_one_request_for_each_connection_and_so_many_more() {
        let extra = ExtraStreams { max: 8, ..ExtraStreams::default() };
        let stop = CancellationToken::new();
        let load = || Arc::new(ConnectionLoad::new(extra.clone(), stop.clone()));
        let (one, two) = (load(), load());
        let mut held: Vec<_> = std::iter::from_fn(|| one.begin(false)).collect();
        assert_eq!(held.len(), 1 + 6, "a quarter is left to others");
        held.push(two.begin(false).expect("its own"));
        assert!(two.begin(false).is_none());

        let of_client = Arc::default();
        let of_other = ExtraStreams { of_client, ..extra.clone() };
        let other = Arc::new(ConnectionLoad::new(of_other, stop.clone()));
        let of_other: Vec<_> = std::iter::from_fn(|| other.begin(false)).collect();
        assert_eq!(of_other.len(), 1 + 2, "the rest");

        drop((held, of_other));
        assert!(one.is_idle() && two.is_idle() && other.is_idle());
        assert_eq!(extra.of_all.load(Ordering::Relaxed), 0);
        assert_eq!(extra.of_client.load(Ordering::Relaxed), 0);
    }
}
