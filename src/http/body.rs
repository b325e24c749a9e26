//! What an answer's body is made of, and that of a request to an upstream.
//!
//! hyper asks for frames one at a time and only when it has room, so a body here holds one frame
//! at most. A body that ends with an error makes hyper cut the connection (or reset the stream),
//! which is how a client learns that what it has is not whole.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Data;

/// Why a body ends before its end.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The next bytes, or the end.
pub type Next = Result<Option<Data>, BodyError>;

/// Yields the bytes of a body.
pub trait Source: Send {
    /// The next bytes, if that needs no waiting.
    fn next_now(&mut self) -> Option<Next>;

    /// The next bytes.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Next> + Send + '_>>;
}

/// The body of an answer to a client, or of a request to an upstream.
#[derive(Debug)]
pub struct ReplyBody {
    kind: Kind,
    /// What is left, where that is known.
    left: Option<u64>,
}

enum Kind {
    Full(Bytes),
    Idle(Box<dyn Source>),
    Busy(Busy),
    Over,
}

/// A source that waits for its next bytes.
type Busy = Pin<Box<dyn Future<Output = (Box<dyn Source>, Next)> + Send>>;

impl ReplyBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self { kind: Kind::Over, left: Some(0) }
    }

    /// These bytes.
    pub fn full(bytes: Bytes) -> Self {
        Self { left: Some(bytes.len() as u64), kind: Kind::Full(bytes) }
    }

    /// What `source` yields, which is `len` bytes if that is known.
    pub fn of(source: Box<dyn Source>, len: Option<u64>) -> Self {
        Self { kind: Kind::Idle(source), left: len }
    }

    /// The same bytes once more, if they are at hand.
    pub fn again(&self) -> Option<Self> {
        match &self.kind {
            Kind::Full(bytes) => Some(Self::full(bytes.clone())),
            Kind::Over => Some(Self::empty()),
            Kind::Idle(_) | Kind::Busy(_) => None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            match std::mem::replace(&mut self.kind, Kind::Over) {
                Kind::Over => return Poll::Ready(Ok(None)),
                Kind::Full(bytes) => return Poll::Ready(Ok(Some(bytes.into()))),
                Kind::Idle(mut source) => {
                    if let Some(next) = source.next_now() {
                        return Poll::Ready(self.settle(source, next));
                    }
                    self.kind = Kind::Busy(Box::pin(async move {
                        let next = source.next().await;
                        (source, next)
                    }));
                }
                Kind::Busy(mut pending) => {
                    let Poll::Ready((source, next)) = pending.as_mut().poll(cx) else {
                        self.kind = Kind::Busy(pending);
                        return Poll::Pending;
                    };
                    return Poll::Ready(self.settle(source, next));
                }
            }
        }
    }

    fn settle(&mut self, source: Box<dyn Source>, next: Next) -> Next {
        if matches!(next, Ok(Some(_))) {
            self.kind = Kind::Idle(source);
        }
        next
    }
}

impl Body for ReplyBody {
    type Data = Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, BodyError>>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Some(data) = ready!(self.poll_next(cx))? else {
            return match self.left {
                Some(left) => {
                    let error = format!("the body ended {left} bytes before its end");
                    Poll::Ready(Some(Err(error.into())))
                }
                None => Poll::Ready(None),
            };
        };
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Idle(_) => "Idle",
            Self::Busy(_) => "Busy",
            Self::Over => "Over",
        })
    }
}
