//! An answer of many lines, sent while they are found.

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use crate::http::{BodySource, NextBytes, ReplyBody};

/// The lines of an answer, as far as they are found.
pub(super) struct LineSender {
    sender: Sender<io::Result<Vec<u8>>>,
}

impl LineSender {
    /// Adds an object. Returns whether the client is still there.
    pub(super) async fn send(&self, object: &impl Serialize) -> bool {
        self.sender.send(Ok(line(object))).await.is_ok()
    }

    /// Whether the client has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Cuts the connection.
    pub(super) async fn fail(&self, error: io::Error) {
        warn(&error);
        // A client that has gone does not mind.
        drop(self.sender.send(Err(error)).await);
    }
}

/// An answer whose lines are still to be found.
pub(super) fn open_lines() -> (LineSender, Response<ReplyBody>) {
    let (sender, receiver) = channel(LINES_MAX);
    let body = ReplyBody::of(Box::new(FoundLines { receiver }), None);
    let mut response = Response::new(body);
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, lines);
    (LineSender { sender }, response)
}

/// An answer with one JSON object on each line: those that `find` shows on the blocking pool, until
/// it ends, or is told that the client has gone. An error of it cuts the connection.
pub(super) fn json_lines<T: Serialize>(
    find: impl FnOnce(&mut dyn FnMut(T) -> bool) -> io::Result<()> + Send + 'static,
) -> Response<ReplyBody> {
    let (LineSender { sender }, response) = open_lines();
    drop(spawn_blocking(move || {
        let found = find(&mut |object| sender.blocking_send(Ok(line(&object))).is_ok());
        if let Err(error) = found {
            warn(&error);
            drop(sender.blocking_send(Err(error)));
        }
    }));
    response
}

fn line(object: &impl Serialize) -> Vec<u8> {
    // Structs of strings, numbers and lists of such always serialise.
    let mut line = serde_json::to_vec(object).unwrap_or_default();
    line.push(b'\n');
    line
}

fn warn(error: &io::Error) {
    tracing::warn!(%error, "cannot read the cache for a command");
}

struct FoundLines {
    receiver: Receiver<io::Result<Vec<u8>>>,
}

impl FoundLines {
    /// The first line, and those that are there by now.
    fn with_others(&mut self, first: io::Result<Vec<u8>>) -> NextBytes {
        let mut bytes = first?;
        while bytes.len() < BYTES_AT_ONCE
            && let Ok(line) = self.receiver.try_recv()
        {
            bytes.extend_from_slice(&line?);
        }
        Ok(Some(Bytes::from(bytes).into()))
    }
}

impl BodySource for FoundLines {
    fn next_now(&mut self) -> Option<NextBytes> {
        let first = self.receiver.try_recv().ok()?;
        Some(self.with_others(first))
    }

    fn next(&mut self) -> Pin<Box<dyn Future<Output = NextBytes> + Send + '_>> {
        Box::pin(async move {
            match self.receiver.recv().await {
                Some(first) => self.with_others(first),
                None => Ok(None),
            }
        })
    }
}

/// Lines that were found and not sent: a client that reads slowly stops the search.
const LINES_MAX: usize = 256;

/// Bytes after which lines that are there wait for the next frame.
const BYTES_AT_ONCE: usize = 32 << 10;
