//! The bytes of an answer, as they come.
//!
//! A body takes as long as the upstream does; silence is bounded, and a drip, which comes to the
//! same. It holds its permit until it has been read or is dropped. Dropped early, its connection
//! is closed: reading on for a reader that has left would cost more than a new connection.
//! Documents that came compressed are decoded.
//!
//! # Out of scope
//!
//! It checks no digest and no length but the answer's own, and does not resume.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::call_span::CallSpan;
use super::coding::{DocumentCoding, GZIP_BYTES_MAX, GzipDocument};
use super::error::UpstreamError;
use super::meter::UpstreamMeter;
use crate::http::{Incoming, root_cause};

/// How long an upstream may be silent in the middle of a body.
const STALL_WAIT: Duration = Duration::from_secs(30);

/// The least that an upstream may bring, in bytes per second. A layer of 10 MiB at less than this
/// takes three hours: no client waits so long, and meanwhile all that want it follow the drip.
const RATE_MIN: u64 = 1 << 10;

/// How long it is waited for altogether before it is judged. Bytes that a slow reader leaves
/// lying are not waited for.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// The bytes of an answer.
pub struct AnswerBody {
    state: BodyState,
    /// The compressed document as far as it has come.
    coded: Option<BytesMut>,
    pace: DripMeter,
    status: StatusCode,
    host: String,
}

enum BodyState {
    /// Broken off. Each further call gets the error again, so that no caller takes it for an end.
    Broken(UpstreamError),
    /// It came compressed and is whole.
    Decoding(GzipDocument),
    /// Read to its end.
    Ended,
    /// There may be more.
    Open {
        bytes: Incoming,
        meter: Arc<UpstreamMeter>,
        permits: Vec<OwnedSemaphorePermit>,
        span: CallSpan,
    },
}

impl AnswerBody {
    pub(super) fn new(
        bytes: Incoming,
        status: StatusCode,
        host: String,
        meter: Arc<UpstreamMeter>,
    ) -> Self {
        let state =
            BodyState::Open { bytes, meter, permits: Vec::new(), span: CallSpan::default() };
        Self { state, coded: None, pace: DripMeter::default(), status, host }
    }

    pub(super) fn empty(host: String) -> Self {
        let (pace, status) = (DripMeter::default(), StatusCode::OK);
        Self { state: BodyState::Ended, coded: None, pace, status, host }
    }

    /// Decodes the body as a document with this coding.
    pub(super) fn coded(self, coding: Option<DocumentCoding>) -> Self {
        Self { coded: (coding == Some(DocumentCoding::Gzip)).then(BytesMut::new), ..self }
    }

    /// Ends the span of its request with it.
    pub(super) fn traced(mut self, of_request: CallSpan) -> Self {
        if let BodyState::Open { span, .. } = &mut self.state {
            *span = of_request;
        }
        self
    }

    /// Keeps the permits of its request until it has been read.
    pub(super) fn hold(&mut self, held: Vec<OwnedSemaphorePermit>) {
        if let BodyState::Open { permits, .. } = &mut self.state {
            *permits = held;
        }
    }

    /// The next bytes, never an empty piece; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Stalled`] after 30 s of silence or of less than 1 KiB/s,
    /// [`UpstreamError::Unreachable`] when the stream breaks or ends before the length that was
    /// announced, [`UpstreamError::Unexpected`] when it cannot be decoded.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        while self.coded.is_some() {
            let received = self.received().await?;
            let Some(coded) = &mut self.coded else { break };
            match received {
                Some(bytes) if bytes.len() > GZIP_BYTES_MAX - coded.len() => {
                    return Err(self.broken(format!(
                        "it is compressed, and longer than {GZIP_BYTES_MAX} bytes even so"
                    )));
                }
                Some(bytes) => coded.extend_from_slice(&bytes),
                None => {
                    let document = GzipDocument::new(std::mem::take(coded).freeze());
                    self.coded = None;
                    match document {
                        Ok(document) => self.state = BodyState::Decoding(document),
                        Err(plain) => return Ok(Some(plain).filter(|it| !it.is_empty())),
                    }
                }
            }
        }
        let BodyState::Decoding(document) = &mut self.state else { return self.received().await };
        // A document of many pieces leaves the reactor to others after each.
        tokio::task::yield_now().await;
        match document.next() {
            Ok(piece) => Ok(Some(piece).filter(|piece| !piece.is_empty())),
            Err(error) => Err(self.broken(format!("it cannot be decoded: {error}"))),
        }
    }

    /// Breaks off for what the upstream sent.
    fn broken(&mut self, reason: String) -> UpstreamError {
        let error = UpstreamError::unexpected(self.host.clone(), self.status, reason);
        self.state = BodyState::Broken(error.clone());
        error
    }

    /// The next bytes as they come.
    async fn received(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        loop {
            let (bytes, meter, span) = match &mut self.state {
                BodyState::Broken(error) => return Err(error.clone()),
                BodyState::Decoding(_) | BodyState::Ended => return Ok(None),
                BodyState::Open { bytes, meter, span, .. } => (bytes, meter, span),
            };
            let host = || self.host.clone();
            let began = Instant::now();
            let next = timeout(STALL_WAIT, bytes.frame()).await;
            let waited = began.elapsed();
            let after = match next {
                Ok(Some(Ok(frame))) => {
                    // Trailers and empty pieces, to which no registry gives a meaning.
                    let bytes = frame.into_data().unwrap_or_default();
                    meter.received_more(bytes.len());
                    span.received_more(bytes.len());
                    if !self.pace.keeps_up(waited, bytes.len() as u64) {
                        BodyState::Broken(UpstreamError::Stalled {
                            host: host(),
                            waited: RATE_WINDOW,
                        })
                    } else if bytes.is_empty() {
                        continue;
                    } else {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => BodyState::Ended,
                Ok(Some(Err(error))) => BodyState::Broken(UpstreamError::Unreachable {
                    host: host(),
                    reason: root_cause(&error),
                }),
                Err(_) => {
                    BodyState::Broken(UpstreamError::Stalled { host: host(), waited: STALL_WAIT })
                }
            };
            self.end_as(after);
        }
    }

    fn end_as(&mut self, after: BodyState) {
        if let (BodyState::Open { span, .. }, BodyState::Broken(error)) = (&mut self.state, &after)
        {
            span.failed("broken", &error.to_string());
        }
        self.state = after;
    }

    /// All bytes, if they are at most `max`.
    ///
    /// # Errors
    ///
    /// As [`AnswerBody::chunk`]; [`UpstreamError::Unexpected`] when there are more.
    pub async fn collect(mut self, max: usize) -> Result<Bytes, UpstreamError> {
        if let BodyState::Open { bytes, .. } = &self.state
            && usize::try_from(bytes.size_hint().lower()).map_or(true, |length| length > max)
        {
            return Err(self.too_long(max));
        }
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.chunk().await? {
            if bytes.len() > max - whole.len() {
                return Err(self.too_long(max));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    fn too_long(self, max: usize) -> UpstreamError {
        let reason = format!("its body is longer than {max} bytes");
        UpstreamError::Unexpected { host: self.host, status: self.status, reason }
    }
}

/// How much came while it was waited for.
#[derive(Debug, Default)]
struct DripMeter {
    waited: Duration,
    bytes: u64,
}

impl DripMeter {
    /// Counts what came after a wait; `false` when a window is over and brought too little.
    fn keeps_up(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < RATE_WINDOW {
            return true;
        }
        let least = RATE_MIN * self.waited.as_secs();
        std::mem::take(self).bytes >= least
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("host", &self.host).finish_non_exhaustive()
    }
}
