//! A file's bytes for a body: at once from the page cache, otherwise by the blocking pool.
//!
//! A read with `RWF_NOWAIT` takes bytes that are in memory and never waits for the disk, so it may
//! run on the reactor. Most reads of a cache are such. If it would wait, or the file system does
//! not know the flag, the blocking pool reads.
//!
//! If the connection can send files, bytes that are in memory are not read but sent from there.
//! Sending would wait for the disk, so reads of single bytes find out first how much is in memory.

use std::fs::File;
use std::io;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::Semaphore;

use super::BodyData;
use super::frames::{FramePace, FramePool};
use super::sendfile::{FileRescue, SLICE_BYTES_MAX, SendfileQueue};

/// How files get to one client.
#[derive(Clone, Debug)]
pub struct FileDelivery {
    frames: FramePool,
    outlet: Option<SendfileQueue>,
}

impl FileDelivery {
    /// Read into frames of the common budget.
    pub fn new(frames: FramePool) -> Self {
        Self { frames, outlet: None }
    }

    /// Sent through `outlet` where there is one.
    #[must_use]
    pub fn through(self, outlet: Option<SendfileQueue>) -> Self {
        Self { outlet, ..self }
    }

    /// A reader of `file`.
    pub fn reader(&self, file: &Arc<File>) -> FrameReader {
        let (delivery, pace) = (self.clone(), FramePace::new());
        FrameReader { file: Arc::clone(file), delivery, pace, rescue: None }
    }
}

/// Reads one file for one client.
#[derive(Debug)]
pub struct FrameReader {
    file: Arc<File>,
    delivery: FileDelivery,
    pace: FramePace,
    rescue: Option<FileRescue>,
}

impl FrameReader {
    /// Has `rescue` bring the bytes that the connection cannot read when it sends the file.
    #[must_use]
    pub fn rescued_by(self, rescue: FileRescue) -> Self {
        Self { rescue: Some(rescue), ..self }
    }

    /// Bytes from `at`, at most `max`, if they are in memory. The caller vouches that the client
    /// may see all `max` of them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] when the file is shorter than it was said to be.
    pub fn read_now(&mut self, at: u64, max: u64) -> io::Result<Option<BodyData>> {
        if !self.delivery.frames.can_read_now() {
            return Ok(None);
        }
        if let Some(outlet) = &self.delivery.outlet
            && max >= SENT_MIN
        {
            let len = self.in_memory(at, max)?;
            let send = || outlet.send(&self.file, at, len, self.rescue.clone());
            return Ok((len > 0).then(|| BodyData::File(send())));
        }
        let mut frame = self.delivery.frames.take(&mut self.pace);
        let read = self.try_read(frame.room(max), at)?;
        Ok(read.map(|len| frame.into_bytes(len).into()))
    }

    /// How many of the bytes that a slice may have are in memory, going by every
    /// [`PROBE_STEP`]th and the last.
    fn in_memory(&self, at: u64, max: u64) -> io::Result<usize> {
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(SLICE_BYTES_MAX);
        let mut found = 0;
        for probe in (0..max).step_by(PROBE_STEP).skip(1).chain([max]) {
            if self.try_read(&mut [0], at + probe as u64 - 1)?.is_none() {
                break;
            }
            found = probe;
        }
        Ok(found)
    }

    /// Reads what is in memory; `None` when nothing is.
    fn try_read(&self, room: &mut [u8], at: u64) -> io::Result<Option<usize>> {
        let mut room = [IoSliceMut::new(room)];
        match rustix::io::preadv2(&*self.file, &mut room, at, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => Ok(Some(len)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.delivery.frames.cannot_read_now();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::read_now`], waiting for the disk.
    pub async fn read(&mut self, at: u64, max: u64) -> io::Result<BodyData> {
        let mut frame = self.delivery.frames.take(&mut self.pace);
        let file = Arc::clone(&self.file);
        let permit = READS.acquire().await.map_err(io::Error::other)?;
        let read = tokio::task::spawn_blocking(move || {
            // Held by the thread that reads, even if its reader leaves.
            let _permit = permit;
            let len = file.read_at(frame.room(max), at)?;
            if len == 0 {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(frame.into_bytes(len).into())
            }
        });
        read.await.unwrap_or_else(|_| Err(io::Error::other("the read was cancelled")))
    }
}

static READS: Semaphore = Semaphore::const_new(READS_MAX);

/// How many reads wait for the disk at a time. One that hangs must leave threads for all else.
const READS_MAX: usize = 96;

/// Less than this is cheaper read, and written together with what is before it.
const SENT_MIN: u64 = 8 << 10;

/// Each probe costs a system call, and each byte that is not in memory may let the reactor wait for
/// the disk. The kernel evicts longer runs than this at once.
const PROBE_STEP: usize = 128 << 10;
