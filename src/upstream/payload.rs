//! The body of a request, and how far it is.
//!
//! How long a streamed body takes is its sender's affair. The upstream's silence is bounded: until
//! there is a connection, while it does not take the bytes that are there, and when it has all of
//! them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::http::{BodySource, NextBytes, ReplyBody};

/// The body of a request.
#[derive(Default)]
pub enum ChangePayload {
    /// None.
    #[default]
    Empty,
    /// Bytes at hand, which can be sent again.
    Small(Bytes),
    /// Bytes that come as they are sent.
    Streamed(UploadBody),
}

impl ChangePayload {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Small(bytes) => bytes.is_empty(),
            Self::Streamed(_) => false,
        }
    }

    /// A copy to send again; `None` for a body that can be sent once.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Small(bytes) => Some(Self::Small(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }

    /// The body to send, and the timer of one that is streamed.
    pub(super) fn into_body(self) -> (ReplyBody, Option<UploadStallTimer>) {
        match self {
            Self::Empty => (ReplyBody::empty(), None),
            Self::Small(bytes) => (ReplyBody::full(bytes), None),
            Self::Streamed(UploadBody { source, length }) => {
                let timer = UploadStallTimer::new(length);
                let outgoing = OutgoingBody { source, timer: timer.clone() };
                (ReplyBody::of(Box::new(outgoing), length), Some(timer))
            }
        }
    }
}

/// A body that can be sent once.
pub struct UploadBody {
    source: Box<dyn BodySource>,
    length: Option<u64>,
}

impl UploadBody {
    /// The bytes of `source`, which are `length` if that is known.
    pub fn new(source: Box<dyn BodySource>, length: Option<u64>) -> Self {
        Self { source, length }
    }
}

/// Sees how far a streamed body is. Clones see the same one.
#[derive(Clone)]
pub(super) struct UploadStallTimer {
    state: Arc<UploadState>,
}

struct UploadState {
    progress: Mutex<UploadProgress>,
    length: Option<u64>,
    /// Cancelled when the rest is not wanted.
    stop: CancellationToken,
}

#[derive(Clone, Copy)]
struct UploadProgress {
    phase: UploadPhase,
    since: Instant,
    sent: u64,
}

/// The side that is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UploadPhase {
    /// Neither: the sender broke off.
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

impl UploadPhase {
    /// How long the upstream may take for it; `None` where it is not waited for.
    fn wait_max(self) -> Option<Duration> {
        match self {
            Self::Connecting => Some(CONNECT_WAIT),
            Self::Ended => Some(ANSWER_WAIT),
            Self::Taking => Some(TAKE_WAIT),
            Self::Broken | Self::Sending => None,
        }
    }
}

impl UploadStallTimer {
    fn new(length: Option<u64>) -> Self {
        let progress =
            UploadProgress { phase: UploadPhase::Connecting, since: Instant::now(), sent: 0 };
        let stop = CancellationToken::new();
        Self { state: Arc::new(UploadState { progress: Mutex::new(progress), length, stop }) }
    }

    /// Ends when the upstream has kept the sender waiting for too long; tells how long.
    pub(super) async fn stalled(&self) -> Duration {
        loop {
            let UploadProgress { phase, since, .. } = self.progress();
            let look_again = match phase.wait_max() {
                Some(wait) if since.elapsed() >= wait => return since.elapsed(),
                Some(wait) => since + wait,
                None => Instant::now() + TAKE_WAIT,
            };
            sleep_until(look_again).await;
        }
    }

    /// Whether the upstream has been given all of it.
    pub(super) fn is_sent(&self) -> bool {
        let progress = self.progress();
        progress.phase == UploadPhase::Ended || self.state.length == Some(progress.sent)
    }

    /// Whether it was the sender that broke off.
    pub(super) fn is_broken(&self) -> bool {
        self.progress().phase == UploadPhase::Broken
    }

    /// Ends the body: the rest is not wanted.
    pub(super) fn stop(&self) {
        self.state.stop.cancel();
    }

    fn enter(&self, phase: UploadPhase, bytes: usize) {
        let mut progress = self.state.progress.lock();
        let sent = progress.sent + bytes as u64;
        *progress = UploadProgress { phase, since: Instant::now(), sent };
    }

    fn progress(&self) -> UploadProgress {
        *self.state.progress.lock()
    }
}

/// A streamed body as it is sent.
struct OutgoingBody {
    source: Box<dyn BodySource>,
    timer: UploadStallTimer,
}

impl BodySource for OutgoingBody {
    fn next_now(&mut self) -> Option<NextBytes> {
        None
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async {
            self.timer.enter(UploadPhase::Sending, 0);
            let next = tokio::select! {
                () = self.timer.state.stop.cancelled() => Err("the rest is not wanted".into()),
                next = self.source.next() => next,
            };
            match &next {
                Ok(Some(data)) => self.timer.enter(UploadPhase::Taking, data.len()),
                Ok(None) => self.timer.enter(UploadPhase::Ended, 0),
                Err(_) => self.timer.enter(UploadPhase::Broken, 0),
            }
            if self.timer.is_sent() {
                self.timer.enter(UploadPhase::Ended, 0);
            }
            next
        })
    }
}

/// How long until there is a connection that takes bytes.
const CONNECT_WAIT: Duration = Duration::from_secs(15);

/// How long an upstream may leave bytes lying.
const TAKE_WAIT: Duration = Duration::from_secs(60);

/// How long it may take to answer when it has everything: registries over object stores copy a
/// layer of gigabytes before they confirm it.
const ANSWER_WAIT: Duration = Duration::from_secs(600);
