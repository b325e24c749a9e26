//! The body of a request, for code that reads and blocks.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// An archive that a command sends.
pub(super) struct ReceivedArchive {
    pieces: Receiver<io::Result<Bytes>>,
    /// The rest of the piece that came last.
    rest: Bytes,
}

/// The archive, and the end through which its pieces come.
pub(super) fn received_archive() -> (Sender<io::Result<Bytes>>, ReceivedArchive) {
    let (sender, pieces) = channel(PIECES_MAX);
    (sender, ReceivedArchive { pieces, rest: Bytes::new() })
}

impl Read for ReceivedArchive {
    /// Blocks, and not on a thread of the runtime.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Pieces of the connection's buffer that wait to be read.
const PIECES_MAX: usize = 16;
