//! A client's TCP connection, which sends files where a body has left placeholders.
//!
//! It stands directly on TCP. Whatever lies above it either passes slices through as they are, or
//! copies them, which the account of `sendfile.rs` notices. Over TLS no body is given the
//! [`SendfileQueue`], so there are no placeholders.

use std::fmt;
use std::io;
use std::io::IoSlice;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::sendfile::{RescuedBytes, SendfileQueue, UnsentSlice, is_placeholder};

/// A connection that a client opened.
#[derive(Debug)]
pub struct ClientSocket {
    stream: TcpStream,
    outlet: SendfileQueue,
    /// How fast the client takes what it is sent; `None` once that has been acted upon.
    pace: Option<SocketPace>,
    /// The rest of the front slice, whose file cannot be read.
    rescue: Option<SliceRescue>,
}

/// Bytes that are sent in the place of a file.
struct SliceRescue {
    bytes: RescuedBytes,
    /// Those that came and are not sent.
    front: Bytes,
}

impl fmt::Debug for SliceRescue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceRescue").field("front", &self.front.len()).finish_non_exhaustive()
    }
}

impl ClientSocket {
    /// Nothing has been sent on `stream` yet.
    pub fn new(stream: TcpStream) -> Self {
        let (outlet, pace) = (SendfileQueue::default(), Some(SocketPace::default()));
        Self { stream, outlet, pace, rescue: None }
    }

    /// The queue in which bodies of this connection put files. It may be used only if the layers
    /// above pass slices on as they are, in the order in which bodies yield them: HTTP/1, without
    /// TLS.
    pub fn outlet(&self) -> SendfileQueue {
        self.outlet.clone()
    }

    /// Lets little wait in the kernel for this client, beyond the bytes on their way. Encrypted
    /// bytes take memory of their own there, up to 4 MiB for a client that has stopped reading, and
    /// the kernel has only so much for all connections of the machine: some hundred such clients
    /// would stop them all. Files that are sent as they are lie in the page cache in any case.
    pub fn queue_little(&self) {
        // If that fails, the connection works as before.
        let set = SockRef::from(&self.stream).set_tcp_notsent_lowat(UNSENT_BYTES);
        set.unwrap_or_default();
    }

    /// Notes what the socket took. The kernel lets the buffer of a connection grow to 4 MiB, as one
    /// to a far client needs. To a near one, that much of a queue costs as much again as sending
    /// does: nothing in it is in the cores' caches any more when its turn comes.
    fn took(&mut self, count: usize) {
        let is_near = |pace: &mut SocketPace| pace.is_near(count as u64, Instant::now);
        if self.pace.as_mut().is_some_and(is_near) {
            self.pace = None;
            // If that fails, the connection works as before.
            let set = rustix::net::sockopt::set_socket_send_buffer_size(&self.stream, NEAR_BYTES);
            set.unwrap_or_default();
        }
    }

    /// Writes the bytes before a file so that they wait for its first bytes, and leave in one
    /// packet with them.
    fn poll_write_before_file(
        &self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_socket(cx, || {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let mut nothing = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(&self.stream, slices, &mut nothing, flags)?)
        })
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        placeholder: &[u8],
    ) -> Poll<io::Result<usize>> {
        let unsent = self.outlet.unsent(placeholder)?;
        if self.rescue.is_none() {
            match ready!(self.poll_socket(cx, || self.send(&unsent))) {
                Ok(count) => return Poll::Ready(Ok(self.sent(count))),
                Err(error) if is_of_file(&error) => {
                    let bytes = unsent.rescued().ok_or(error)?;
                    self.rescue = Some(SliceRescue { bytes, front: Bytes::new() });
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let count = ready!(self.poll_send_rescued(cx))?;
        // The bytes after the slice may be readable again.
        self.rescue.take_if(|_| count == unsent.left);
        Poll::Ready(Ok(self.sent(count)))
    }

    fn sent(&mut self, count: usize) -> usize {
        self.outlet.sent(count);
        self.took(count);
        count
    }

    fn poll_send_rescued(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { stream, rescue: Some(rescue), .. } = self else {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        };
        while rescue.front.is_empty() {
            rescue.front = ready!((rescue.bytes)(cx))?;
        }
        let count = ready!(Pin::new(stream).poll_write(cx, &rescue.front))?;
        rescue.front.advance(count);
        Poll::Ready(Ok(count))
    }

    fn send(&self, unsent: &UnsentSlice) -> io::Result<usize> {
        let mut at = unsent.at;
        let sent =
            match rustix::fs::sendfile(&self.stream, &*unsent.file, Some(&mut at), unsent.left) {
                Err(Errno::INVAL | Errno::NOSYS) => self.copy(unsent),
                sent => Ok(sent?),
            }?;
        if sent == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(sent) }
    }

    /// For file systems without `sendfile`.
    fn copy(&self, unsent: &UnsentSlice) -> io::Result<usize> {
        let mut buffer = vec![0; unsent.left.min(COPY_BYTES)];
        let read = unsent.file.read_at(&mut buffer, unsent.at)?;
        Ok(rustix::net::send(&self.stream, &buffer[..read], SendFlags::NOSIGNAL)?)
    }

    /// Tries `write` when the socket has room, as often as it turns out to have none.
    fn poll_socket(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

/// Whether the file is at fault, and not the client: it is too short, or the disk cannot read it.
fn is_of_file(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    error.kind() == io::ErrorKind::UnexpectedEof
        || errno.is_some_and(|errno| [Errno::IO, Errno::UCLEAN, Errno::BADMSG].contains(&errno))
}

/// Bytes that went since some moment.
#[derive(Debug, Default)]
struct SocketPace {
    since: Option<Instant>,
    bytes: u64,
}

impl SocketPace {
    /// Counts bytes; whether the client is near. No more than a buffer is on the way at once, so
    /// what fills many of them in this time has a round trip of a few milliseconds at most.
    fn is_near(&mut self, count: u64, now: impl Fn() -> Instant) -> bool {
        let since = *self.since.get_or_insert_with(&now);
        self.bytes += count;
        if self.bytes < PACE_BYTES {
            return false;
        }
        *self = Self::default();
        now().duration_since(since) <= PACE_TIME
    }
}

/// Many times what a connection's buffer can become, which takes the first bytes of any client at
/// once.
const PACE_BYTES: u64 = 32 << 20;

/// 400 MiB/s, which with the kernel's 4 MiB on the way is a round trip of 10 ms or less. Then half
/// a mebibyte, which the kernel doubles for its own needs, still lets 100 MiB/s through.
const PACE_TIME: Duration = Duration::from_millis(80);

/// The buffer of a connection to a near client. It costs the least CPU of all sizes from 128 KiB to
/// 4 MiB.
const NEAR_BYTES: usize = 512 << 10;

/// The most encrypted bytes that may wait to be sent. With a quarter of it Larder waits so often
/// for a near client that a download takes a third longer.
const UNSENT_BYTES: u32 = 1 << 20;

/// Read on the reactor, where nothing better is known of the file system.
const COPY_BYTES: usize = 64 << 10;

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outlet.check()?;
        let Some(first) = slices.iter().position(is_placeholder) else {
            let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
            self.took(count);
            return Poll::Ready(Ok(count));
        };
        if slices[..first].iter().any(|slice| !slice.is_empty()) {
            return self.poll_write_before_file(cx, &slices[..first]);
        }
        self.poll_send_file(cx, &slices[first])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
