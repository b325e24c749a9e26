//! A client's connection, whose sending side may close before its answer is there.
//!
//! A client may end its side once it has asked (`nc -N`, socat, some health checks), and gets all
//! of its answer. Over TCP that looks like a client that has left: only bytes that are sent to it,
//! or its silence, tell the one from the other. hyper does not read while it answers, so the end is
//! looked for here, whenever the answer is flushed. A client that ends its side after its answer
//! has begun may have left, so that its credential is not used again ([`ClientPresence`]).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::NetworkConnection;

/// Whether a client may have left, while it is answered. Clones are about the same client.
#[derive(Clone, Debug, Default)]
pub struct ClientPresence {
    may_have_left: Arc<AtomicBool>,
}

impl ClientPresence {
    /// Whether it has closed its sending side after its answer had begun.
    pub fn may_have_left(&self) -> bool {
        self.may_have_left.load(Ordering::Relaxed)
    }
}

/// A connection on which the end of the client's side does not end the answer.
pub(super) struct HalfCloseStream {
    io: NetworkConnection,
    presence: ClientPresence,
    /// Bytes of the client's that came while it was answered.
    ahead: Vec<u8>,
    /// Whether the reader waits, and so sees what comes by itself.
    is_reading: bool,
    /// Whether something was written since the last read.
    is_answering: bool,
    /// Ends when a client whose side is closed has taken nothing for too long.
    closed: Option<Pin<Box<Sleep>>>,
}

impl HalfCloseStream {
    pub(super) fn new(io: NetworkConnection, presence: ClientPresence) -> Self {
        Self {
            io,
            presence,
            ahead: Vec::new(),
            is_reading: false,
            is_answering: false,
            closed: None,
        }
    }

    /// Looks for the end of the client's side, where nothing else reads.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.is_reading && self.closed.is_none() && self.ahead.len() < AHEAD_BYTES_MAX {
            let mut space = [0; AHEAD_BYTES_MAX];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                // A client over TLS that closes TCP alone.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Poll::Ready(read) => read?,
            }
            if buffer.filled().is_empty() {
                self.presence.may_have_left.store(self.is_answering, Ordering::Relaxed);
                self.closed = Some(Box::pin(sleep(TAKE_WAIT)));
            }
            self.ahead.extend_from_slice(buffer.filled());
        }
        let is_silent = self.closed.as_mut().is_some_and(|it| it.as_mut().poll(cx).is_ready());
        let reason = "the client has closed its side and takes nothing";
        if is_silent { Err(io::Error::new(io::ErrorKind::TimedOut, reason)) } else { Ok(()) }
    }

    fn written(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let count = ready!(polled)?;
        self.is_answering = true;
        if let Some(silence) = &mut self.closed {
            silence.as_mut().reset(Instant::now() + TAKE_WAIT);
        }
        Poll::Ready(Ok(count))
    }
}

/// The most bytes that are read ahead of a next request. More are left to the socket.
const AHEAD_BYTES_MAX: usize = 256;

/// How long a client whose side is closed may take no byte, or be sent none: longer than anything
/// before an answer's head takes.
const TAKE_WAIT: Duration = Duration::from_secs(30);

impl AsyncRead for HalfCloseStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
        } else if self.closed.is_none() {
            let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
            self.is_reading = polled.is_pending();
            ready!(polled)?;
        }
        self.is_answering = false;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HalfCloseStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
