//! The body of an answer to a client, or of a request to an upstream.
//!
//! hyper asks for frames one at a time and only when it has room, so a body here holds one frame
//! at most. A body that ends with an error makes hyper cut the connection (or reset the stream),
//! which is how a client learns that its bytes are not the whole.
//!
//! A source of bytes implements [`BodySource`] and not [`http_body::Body`]. It is then two plain
//! functions: one that yields what needs no waiting, such as a read from the page cache, without
//! an allocation; and one async function, where a `Body` would need a state machine by hand.
//! [`ReplyBody`] is the one `Body` over all sources, and checks that each has as many bytes as were
//! announced.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::BodyData;
use super::sendfile::RescuedBytes;

/// Why a body ends before its end.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The next bytes; `None` at the end.
pub type NextBytes = Result<Option<BodyData>, BodyError>;

/// Yields the bytes of a body.
pub trait BodySource: Send {
    /// The next bytes, if they are at hand. `None` means that [`BodySource::next`] is to be
    /// awaited.
    fn next_now(&mut self) -> Option<NextBytes>;

    /// The next bytes, waited for.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>>;
}

/// The body of an answer to a client, or of a request to an upstream.
#[derive(Debug)]
pub struct ReplyBody {
    kind: BodyKind,
    /// How many bytes are left, if that is known.
    left: Option<u64>,
}

enum BodyKind {
    Full(Bytes),
    Idle(Box<dyn BodySource>),
    Busy(BusySource),
    Over,
}

/// A source that waits for its next bytes.
type BusySource = Pin<Box<dyn Future<Output = (Box<dyn BodySource>, NextBytes)> + Send>>;

impl ReplyBody {
    /// No bytes.
    pub fn empty() -> Self {
        Self { kind: BodyKind::Over, left: Some(0) }
    }

    /// These bytes.
    pub fn full(bytes: Bytes) -> Self {
        Self { left: Some(bytes.len() as u64), kind: BodyKind::Full(bytes) }
    }

    /// The bytes of `source`, which are `len` if that is known.
    pub fn of(source: Box<dyn BodySource>, len: Option<u64>) -> Self {
        Self { kind: BodyKind::Idle(source), left: len }
    }

    /// The bytes in the place of a part of a file, for a connection that cannot read that.
    pub fn into_rescued_bytes(mut self) -> RescuedBytes {
        Box::new(move |cx| {
            let frame = ready!(Pin::new(&mut self).poll_frame(cx));
            let data = frame.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
            Poll::Ready(match data.into_data() {
                Ok(BodyData::Memory(bytes)) => Ok(bytes),
                _ => Err(io::Error::other("a part of a file came in the place of one")),
            })
        })
    }

    /// A second body with the same bytes, if they are at hand.
    pub fn again(&self) -> Option<Self> {
        match &self.kind {
            BodyKind::Full(bytes) => Some(Self::full(bytes.clone())),
            BodyKind::Over => Some(Self::empty()),
            BodyKind::Idle(_) | BodyKind::Busy(_) => None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<NextBytes> {
        loop {
            match std::mem::replace(&mut self.kind, BodyKind::Over) {
                BodyKind::Over => return Poll::Ready(Ok(None)),
                BodyKind::Full(bytes) => return Poll::Ready(Ok(Some(bytes.into()))),
                BodyKind::Idle(mut source) => {
                    if let Some(next) = source.next_now() {
                        return Poll::Ready(self.settle(source, next));
                    }
                    self.kind = BodyKind::Busy(Box::pin(async move {
                        let next = source.next().await;
                        (source, next)
                    }));
                }
                BodyKind::Busy(mut pending) => {
                    let Poll::Ready((source, next)) = pending.as_mut().poll(cx) else {
                        self.kind = BodyKind::Busy(pending);
                        return Poll::Pending;
                    };
                    return Poll::Ready(self.settle(source, next));
                }
            }
        }
    }

    fn settle(&mut self, source: Box<dyn BodySource>, next: NextBytes) -> NextBytes {
        if matches!(next, Ok(Some(_))) {
            self.kind = BodyKind::Idle(source);
        }
        next
    }
}

impl Body for ReplyBody {
    type Data = BodyData;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<BodyData>, BodyError>>> {
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

impl fmt::Debug for BodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Idle(_) => "Idle",
            Self::Busy(_) => "Busy",
            Self::Over => "Over",
        })
    }
}
