//! An answer of many lines, sent while they are found.

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::spawn_blocking;

use crate::http::{BodySource, NextBytes, ReplyBody};

/// An answer with one JSON object on each line: those that `find` shows on the blocking pool, until
/// it ends, or is told that the client has gone. An error of it cuts the connection.
pub(super) fn json_lines<T: Serialize>(
    find: impl FnOnce(&mut dyn FnMut(T) -> bool) -> io::Result<()> + Send + 'static,
) -> Response<ReplyBody> {
    let (sender, receiver) = channel(LINES_MAX);
    drop(spawn_blocking(move || {
        let found = find(&mut |object| {
            let mut line = serde_json::to_vec(&object).unwrap_or_default();
            line.push(b'\n');
            sender.blocking_send(Ok(line)).is_ok()
        });
        if let Err(error) = found {
            tracing::warn!(%error, "cannot read the cache for a command");
            // A client that has gone does not mind.
            drop(sender.blocking_send(Err(error)));
        }
    }));
    let body = ReplyBody::of(Box::new(FoundLines { receiver }), None);
    let mut response = Response::new(body);
    let lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, lines);
    response
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
