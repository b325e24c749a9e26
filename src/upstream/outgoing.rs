//! A body on its way to an upstream, sent once as it comes.
//!
//! How long it takes is its sender's affair. What is bounded is the upstream's silence: until there
//! is a connection, while it does not take the bytes that are there, and when it has all of them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::http::{Next, ReplyBody, Source};

/// A body that can be sent once.
pub struct Streamed {
    source: Box<dyn Source>,
    length: Option<u64>,
}

impl Streamed {
    /// What `source` yields, which is `length` bytes if that is known.
    pub fn new(source: Box<dyn Source>, length: Option<u64>) -> Self {
        Self { source, length }
    }

    /// The body to send, and the eye on it.
    pub(super) fn watched(self) -> (ReplyBody, Watch) {
        let moved = Moved { phase: Phase::Connecting, since: Instant::now(), sent: 0 };
        let state = State { moved: Mutex::new(moved), stop: CancellationToken::new() };
        let watch = Watch { state: Arc::new(state), length: self.length };
        let outgoing = Outgoing { source: self.source, watch: watch.clone() };
        (ReplyBody::of(Box::new(outgoing), self.length), watch)
    }
}

/// Sees how far a body is.
#[derive(Clone)]
pub(super) struct Watch {
    state: Arc<State>,
    length: Option<u64>,
}

struct State {
    moved: Mutex<Moved>,
    /// Cancelled when nobody wants the rest.
    stop: CancellationToken,
}

#[derive(Clone, Copy)]
struct Moved {
    phase: Phase,
    since: Instant,
    sent: u64,
}

/// Who is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
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

impl Watch {
    /// Ends when the upstream has kept everybody waiting for too long; tells how long.
    pub(super) async fn stalled(&self) -> Duration {
        loop {
            let Moved { phase, since, .. } = *self.moved();
            let patience = match phase {
                Phase::Connecting => CONNECT_WAIT,
                Phase::Ended => ANSWER_WAIT,
                Phase::Broken | Phase::Sending | Phase::Taking => TAKE_WAIT,
            };
            let is_its_turn = matches!(phase, Phase::Connecting | Phase::Ended | Phase::Taking);
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
        moved.phase == Phase::Ended || self.length == Some(moved.sent)
    }

    /// Whether it was the sender who broke off.
    pub(super) fn is_broken(&self) -> bool {
        self.moved().phase == Phase::Broken
    }

    /// Nobody wants the rest.
    pub(super) fn stop(&self) {
        self.state.stop.cancel();
    }

    fn enter(&self, phase: Phase, bytes: usize) {
        let mut moved = self.moved();
        let sent = moved.sent + bytes as u64;
        *moved = Moved { phase, since: Instant::now(), sent };
    }

    fn moved(&self) -> MutexGuard<'_, Moved> {
        self.state.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body as it is sent.
struct Outgoing {
    source: Box<dyn Source>,
    watch: Watch,
}

impl Source for Outgoing {
    fn next_now(&mut self) -> Option<Next> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = Next> + Send + '_>> {
        Box::pin(async {
            self.watch.enter(Phase::Sending, 0);
            let next = tokio::select! {
                () = self.watch.state.stop.cancelled() => Err("nobody wants the rest".into()),
                next = self.source.next() => next,
            };
            let (phase, bytes) = match &next {
                Ok(Some(data)) => (Phase::Taking, data.len()),
                Ok(None) => (Phase::Ended, 0),
                Err(_) => (Phase::Broken, 0),
            };
            self.watch.enter(phase, bytes);
            if self.watch.is_sent() {
                self.watch.enter(Phase::Ended, 0);
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
