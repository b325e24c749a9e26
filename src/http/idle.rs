//! A connection that is cut when nothing has moved on it for too long.
//!
//! A client may read as slowly as it likes, but one that takes no byte and sends none for minutes
//! is gone, or wants to hold what it holds. Both directions count, so that a client which only
//! waits for us is not cut while it is sent something, nor one that sends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{ConnectionLoad, NetworkConnection};

/// A connection with a limit on silence.
pub struct IdleGuard {
    io: NetworkConnection,
    silence_max: Duration,
    moved: Instant,
    load: Option<Arc<ConnectionLoad>>,
    on_first_byte: Option<Box<dyn FnOnce(u8) + Send>>,
    /// Set when a read or write waits; not moved with every byte, which would cost more than the
    /// byte.
    alarm: Pin<Box<Sleep>>,
}

impl IdleGuard {
    /// Cuts `io` when nothing has moved on it for `silence_max`.
    pub fn new(io: NetworkConnection, silence_max: Duration) -> Self {
        let moved = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until(moved + silence_max));
        Self { io, silence_max, moved, load: None, on_first_byte: None, alarm }
    }

    /// Takes as progress over HTTP/2 only that of bodies, which `load` has.
    #[must_use]
    pub fn watching(self, load: Arc<ConnectionLoad>) -> Self {
        Self { load: Some(load), ..self }
    }

    /// Calls `hook` with the first byte that is received.
    #[must_use]
    pub fn on_first_byte(self, hook: impl FnOnce(u8) + Send + 'static) -> Self {
        Self { on_first_byte: Some(Box::new(hook)), ..self }
    }

    /// Notes the outcome of an attempt to move bytes. An attempt that has to wait waits for the
    /// alarm, too.
    fn noted<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.moved = Instant::now();
            return polled;
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let load = self.load.as_ref();
            let since = load.map_or(Some(self.moved), |load| load.silent_since(self.moved));
            let due = since.unwrap_or_else(Instant::now) + self.silence_max;
            if due <= Instant::now() {
                let what = format!("nothing moved for {:?}", self.silence_max);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)));
            }
            self.alarm.as_mut().reset(due);
        }
    }
}

impl AsyncRead for IdleGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if self.on_first_byte.is_some()
            && let Some(first) = buffer.filled().get(before)
        {
            self.on_first_byte.take().into_iter().for_each(|hook| hook(*first));
        }
        self.noted(cx, polled)
    }
}

impl AsyncWrite for IdleGuard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.noted(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.noted(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        // A flush that finds nothing to do has moved nothing.
        if polled.is_ready() { polled } else { self.noted(cx, polled) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.noted(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;

    const MAX: Duration = Duration::from_secs(600);
    const ALMOST: Duration = Duration::from_secs(599);

    /// The descriptor and the frame of a client that is gone are given back.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_after_the_limit() {
        let (_peer, io) = tokio::io::duplex(4);
        let mut guarded = IdleGuard::new(Box::new(io), MAX);
        let began = Instant::now();

        let error = guarded.write_all(b"more than four").await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), MAX.as_secs());
    }

    /// A slow line is no fault: one byte in time is enough, in either direction.
    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_never_cut() {
        let (mut peer, io) = tokio::io::duplex(1);
        let slow = tokio::spawn(async move {
            let mut taken = [0; 1];
            for _ in 0..20 {
                tokio::time::sleep(ALMOST).await;
                peer.read_exact(&mut taken).await.unwrap();
            }
            peer
        });
        let mut guarded = IdleGuard::new(Box::new(io), MAX);

        guarded.write_all(&[7; 20]).await.unwrap();

        let mut peer = slow.await.unwrap();
        peer.write_all(b"x").await.unwrap();
        assert_eq!(guarded.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_that_is_waited_for_is_cut_too() {
        let (_peer, io) = tokio::io::duplex(4);
        let error = IdleGuard::new(Box::new(io), MAX).read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// A client that only pings holds what it holds as well as one that is silent.
    #[tokio::test(start_paused = true)]
    async fn bytes_over_http2_that_are_of_no_body_are_no_progress() {
        let load = Arc::new(ConnectionLoad::unlimited(CancellationToken::new()));
        let (mut peer, io) = tokio::io::duplex(4);
        let mut guarded = IdleGuard::new(Box::new(io), MAX).watching(Arc::clone(&load));
        let pinging = tokio::spawn(async move {
            while peer.write_all(b"ping").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let waiting = load.begin(false).unwrap();
        let read = async |guarded: &mut IdleGuard, times: u32| {
            for _ in 0..times {
                guarded.read_u32().await?;
            }
            io::Result::Ok(())
        };
        read(&mut guarded, 1200).await.expect("the answer is waited for");

        waiting.note_progress();
        let answered = Instant::now();
        let error = read(&mut guarded, 1200).await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(answered.elapsed().as_secs() <= MAX.as_secs() + 1);
        drop(guarded);
        pinging.await.unwrap();
    }
}
