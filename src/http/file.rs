//! Reading a file for a body: from the page cache at once, from the disk on the blocking pool.
//!
//! A read with `RWF_NOWAIT` takes what is in memory without ever waiting for the disk, so it may
//! run on the reactor. Most reads of a cache are such. Where it would wait, or the file system
//! does not know the flag, the blocking pool reads.

use std::fs::File;
use std::io;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

use super::frames::{Frames, Pace};

/// Reads one file for one client.
#[derive(Debug)]
pub struct FrameReader {
    file: Arc<File>,
    frames: Frames,
    pace: Pace,
}

impl FrameReader {
    /// Reads `file` into frames of the common budget.
    pub fn new(file: Arc<File>, frames: Frames) -> Self {
        Self { file, frames, pace: Pace::new() }
    }

    /// The bytes from `at`, at most `max` and at most a frame, if they are in memory.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] when the file is shorter than it was said to be.
    pub fn read_now(&mut self, at: u64, max: u64) -> io::Result<Option<Bytes>> {
        if !self.frames.can_read_now() {
            return Ok(None);
        }
        let mut frame = self.frames.take(&mut self.pace);
        let mut room = [IoSliceMut::new(frame.room(max))];
        let read = rustix::io::preadv2(&*self.file, &mut room, at, ReadWriteFlags::NOWAIT);
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => Ok(Some(frame.into_bytes(len))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.frames.cannot_read_now();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::read_now`], waiting for the disk.
    pub async fn read(&mut self, at: u64, max: u64) -> io::Result<Bytes> {
        let mut frame = self.frames.take(&mut self.pace);
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let len = file.read_at(frame.room(max), at)?;
            if len == 0 {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(frame.into_bytes(len))
            }
        });
        read.await.unwrap_or_else(|_| Err(io::Error::other("the read was cancelled")))
    }
}
