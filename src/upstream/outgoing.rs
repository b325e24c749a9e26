//! A body on its way to an upstream, sent once as it comes.
//!
//! How long it takes is its sender's affair. What is bounded is the upstream's silence: until there
//! is a connection, while it does not take the bytes that are there, and when it has all of them.

use parking_lot::{Mutex, MutexGuard};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::http::{BodySource, NextBytes, ReplyBody};

/// A body that can be sent once.
pub struct UploadBody {
    source: Box<dyn BodySource>,
    length: Option<u64>,
}

impl UploadBody {
    /// What `source` yields, which is `length` bytes if that is known.
    pub fn new(source: Box<dyn BodySource>, length: Option<u64>) -> Self {
        Self { source, length }
    }

    /// The body to send, and the eye on it.
    pub(super) fn watched(self) -> (ReplyBody, UploadStallTimer) {
        let moved =
            UploadProgress { phase: UploadPhase::Connecting, since: Instant::now(), sent: 0 };
        let state = UploadState { moved: Mutex::new(moved), stop: CancellationToken::new() };
        let watch = UploadStallTimer { state: Arc::new(state), length: self.length };
        let outgoing = OutgoingBody { source: self.source, watch: watch.clone() };
        (ReplyBody::of(Box::new(outgoing), self.length), watch)
    }
}

/// Sees how far a body is.
#[derive(Clone)]
pub(super) struct UploadStallTimer {
    state: Arc<UploadState>,
    length: Option<u64>,
}

struct UploadState {
    moved: Mutex<UploadProgress>,
    /// Cancelled when nobody wants the rest.
    stop: CancellationToken,
}

#[derive(Clone, Copy)]
struct UploadProgress {
    phase: UploadPhase,
    since: Instant,
    sent: u64,
}

/// Who is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UploadPhase {
    /// Nobody any more: the sender broke off.
    Broken,
    /// The upstream, to accept a connection.
    Connecting,
    /// The upstream, to answer: it has everything.
    Ended,
    /// The sender, for more bytes.
    Sending,
    /// The upstream, to take bytes.
    Taking,
}

impl UploadStallTimer {
    /// Ends when the upstream has kept everybody waiting for too long; tells how long.
    pub(super) async fn stalled(&self) -> Duration {
        loop {
            let UploadProgress { phase, since, .. } = *self.moved();
            let patience = match phase {
                UploadPhase::Connecting => CONNECT_WAIT,
                UploadPhase::Ended => ANSWER_WAIT,
                UploadPhase::Broken | UploadPhase::Sending | UploadPhase::Taking => TAKE_WAIT,
            };
            let is_its_turn =
                matches!(phase, UploadPhase::Connecting | UploadPhase::Ended | UploadPhase::Taking);
            if is_its_turn && since.elapsed() >= patience {
                return since.elapsed();
            }
            let look_again = if is_its_turn { since } else { Instant::now() };
            sleep_until(look_again + patience).await;
        }
    }

    /// Whether the upstream has been given all of it.
    pub(super) fn is_sent(&self) -> bool {
        let moved = *self.moved();
        moved.phase == UploadPhase::Ended || self.length == Some(moved.sent)
    }

    /// Whether it was the sender who broke off.
    pub(super) fn is_broken(&self) -> bool {
        self.moved().phase == UploadPhase::Broken
    }

    /// Nobody wants the rest.
    pub(super) fn stop(&self) {
        self.state.stop.cancel();
    }

    fn enter(&self, phase: UploadPhase, bytes: usize) {
        let mut moved = self.moved();
        let sent = moved.sent + bytes as u64;
        *moved = UploadProgress { phase, since: Instant::now(), sent };
    }

    fn moved(&self) -> MutexGuard<'_, UploadProgress> {
        self.state.moved.lock()
    }
}

/// The body as it is sent.
struct OutgoingBody {
    source: Box<dyn BodySource>,
    watch: UploadStallTimer,
}

impl BodySource for OutgoingBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async {
            self.watch.enter(UploadPhase::Sending, 0);
            let next = tokio::select! {
                () = self.watch.state.stop.cancelled() => Err("nobody wants the rest".into()),
                next = self.source.next() => next,
            };
            let (phase, bytes) = match &next {
                Ok(Some(data)) => (UploadPhase::Taking, data.len()),
                Ok(None) => (UploadPhase::Ended, 0),
                Err(_) => (UploadPhase::Broken, 0),
            };
            self.watch.enter(phase, bytes);
            if self.watch.is_sent() {
                self.watch.enter(UploadPhase::Ended, 0);
            }
            next
        })
    }
}

/// How long until there is a connection that takes bytes.
const CONNECT_WAIT: Duration = Duration::from_secs(15);

/// How long an upstream may leave bytes lying.
const TAKE_WAIT: Duration = Duration::from_secs(60);

/// How long it may take to answer when it has everything: registries over object stores copy a layer
/// of gigabytes before they confirm it.
const ANSWER_WAIT: Duration = Duration::from_secs(600);
