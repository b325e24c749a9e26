//! The body of a client's request: read as it comes, and drained when its request is refused.
//!
//! A refusal is sent before the body is read. Over TCP a server that closes with bytes unread
//! resets the connection, and the reset can overtake the refusal; so what a client has begun to
//! send is read and thrown away for a while. A client that waits for leave to send (`Expect:
//! 100-continue`) gets that leave with the first read, and not without one. A client that is waited
//! for sends at a least rate, or its body is broken off: a body holds memory and a connection.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::{Method, Request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use tokio::time::{Instant, timeout, timeout_at};

use super::BodyError;

/// A body that a client sends.
pub struct RequestBody {
    body: Option<Incoming>,
    /// Bytes that have been read; `None` if there was no body from the start.
    received: Option<Arc<AtomicU64>>,
    /// As announced; `None` when only the end will tell.
    length: Option<u64>,
    /// Whether the client sends nothing before it is told to.
    awaits_leave: bool,
    is_drained: bool,
    pace: SenderPace,
}

/// How a sender keeps up with its reader. Time in which nothing is read does not count.
#[derive(Default)]
struct SenderPace {
    /// How long it was waited for in this window.
    waited: Duration,
    /// The bytes that have come in this window.
    bytes: usize,
}

/// Why a body cannot be had whole.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// It broke off.
    #[error("the request's body broke off: {0}")]
    Broken(BodyError),
    /// It has more bytes than may be held.
    #[error("the request's body is longer than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
}

impl RequestBody {
    /// The request, with its body read under the rules of this file.
    pub fn of(request: Request<Incoming>) -> Request<Self> {
        let (head, body) = request.into_parts();
        let length = body.size_hint().exact();
        // To what reads, a body means nothing (RFC 9110, 9.3.1): it is not waited for.
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        let awaits_leave = head.headers.contains_key(EXPECT);
        let body = (!body.is_end_stream()).then_some(body);
        let received = body.is_some().then(Arc::default);
        let pace = SenderPace::default();
        let is_drained = !is_read;
        let body = Self { body, received, length, awaits_leave, is_drained, pace };
        Request::from_parts(head, body)
    }

    /// The count of the bytes that have been read of it; `None` without a body.
    pub fn received(&self) -> Option<Arc<AtomicU64>> {
        self.received.clone()
    }

    /// How long it will be, where that was announced.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next bytes, never an empty piece; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the body broke off, or if the client was waited for during two minutes and has sent less
    /// than 64 KiB in that time.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.awaits_leave = false;
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            let error: BodyError = match self.pace.next_frame(body).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => {
                        if let Some(received) = &self.received {
                            received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        }
                        return Ok(Some(bytes));
                    }
                    // Trailers mean nothing here.
                    Ok(_) | Err(_) => continue,
                },
                Ok(Some(Err(error))) => error.into(),
                Ok(None) => {
                    self.body = None;
                    return Ok(None);
                }
                Err(TooSlow) => TooSlow.into(),
            };
            self.body = None;
            return Err(error);
        }
    }

    /// All of it, if it is at most `max` bytes.
    pub async fn collect(mut self, max: usize) -> Result<Bytes, CollectError> {
        let too_long = CollectError::TooLong { max };
        if self.length.is_some_and(|length| usize::try_from(length).map_or(true, |it| it > max)) {
            return Err(too_long);
        }
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.chunk().await.map_err(CollectError::Broken)? {
            if bytes.len() > max - whole.len() {
                return Err(too_long);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }
}

/// The client sends too slowly.
#[derive(Debug, thiserror::Error)]
#[error("timed out: the client has sent less than {RATE_BYTES_MIN} bytes in {} s", RATE_WINDOW.as_secs())]
struct TooSlow;

impl SenderPace {
    async fn next_frame(
        &mut self,
        body: &mut Incoming,
    ) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, TooSlow> {
        loop {
            let began = Instant::now();
            let left = RATE_WINDOW.saturating_sub(self.waited);
            let frame = timeout(left, body.frame()).await;
            self.waited += began.elapsed();
            if self.waited >= RATE_WINDOW {
                if self.bytes < RATE_BYTES_MIN {
                    return Err(TooSlow);
                }
                *self = Self::default();
            }
            let Ok(frame) = frame else { continue };
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.bytes += data.map_or(0, Bytes::len);
            return Ok(frame);
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.is_drained && !self.awaits_leave {
            // Outlives the answer, which it is for; bounded in bytes and time.
            drop(tokio::spawn(drain(body)));
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Reads what a client goes on sending after it was answered.
async fn drain(mut body: Incoming) {
    let until = Instant::now() + DRAIN_WAIT_MAX;
    let mut left = DRAIN_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The most bytes that are thrown away of one body: more than the buffers between any two machines
/// hold.
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// For how long: time for a refusal to arrive and be acted upon over any line.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// The time in which [`RATE_BYTES_MIN`] bytes have to come: longer than any pause of a client that
/// compresses as it sends.
const RATE_WINDOW: Duration = Duration::from_secs(120);

/// In bytes: half a kilobyte a second, less than any line on which a push would end.
const RATE_BYTES_MIN: usize = 64 << 10;
