//! A connection to another host, of which the host's last words are read.
//!
//! A registry that refuses an upload may answer and close while the body is still being sent. The
//! next write then fails, although the answer has arrived. So the writer is not told of a closed
//! connection before the reader has read to the end: it waits, and its request has an answer or
//! ends with the reader's error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose reader is done before its writer learns that it is closed.
#[derive(Debug)]
pub(super) struct OutgoingSocket<S> {
    stream: S,
    is_read_to_end: bool,
    /// The writer that waits for that.
    waiting: Option<Waker>,
}

impl<S> OutgoingSocket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, is_read_to_end: false, waiting: None }
    }

    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &polled {
            Poll::Ready(Err(error)) if is_closed(error) && !self.is_read_to_end => {
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => polled,
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl<S: AsyncRead + Unpin> AsyncRead for OutgoingSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = buffer.remaining();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let is_more = left == 0 || buffer.remaining() < left;
        if matches!(&polled, Poll::Ready(read) if read.is_err() || !is_more) {
            self.is_read_to_end = true;
            self.waiting.take().inspect(Waker::wake_by_ref);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OutgoingSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_writer_learns_that_the_host_has_closed_after_the_reader_has_its_answer() {
        let (near, mut host) = tokio::io::duplex(4);
        let (mut reader, mut writer) = tokio::io::split(OutgoingSocket::new(near));
        host.write_all(b"413").await.unwrap();
        drop(host);
        let writing = tokio::spawn(async move { writer.write_all(&[7; 100]).await });
        tokio::task::yield_now().await;
        assert!(!writing.is_finished(), "the answer is not read yet");

        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();

        assert_eq!(answer, "413");
        let error = writing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
