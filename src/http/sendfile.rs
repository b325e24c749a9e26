//! Parts of files that go to a client without being read: the placeholder that a body yields in
//! their place, and the rules by which no client ever gets the placeholder.
//!
//! hyper writes what a body yields, and can only be given memory. So a body yields a [`FileSlice`],
//! a placeholder of the right length, and leaves in the connection's [`SendfileQueue`] which bytes
//! of which file are meant. The connection ([`ClientSocket`](super::ClientSocket)) knows
//! placeholders by their address and has the kernel send the file in their place.
//!
//! A placeholder that is copied cannot be known any more, and its zeros would be sent. So that this
//! cannot happen, whatever hyper does or will do, every byte is accounted for:
//!
//! 1. The slices of a connection are sent in the order in which they were yielded; a placeholder
//!    that is written must be the front one, and whole but for what was sent of it.
//! 2. The bytes that the kernel took of a file are credit. hyper takes note of what was written by
//!    advancing the slice, which uses the credit up. One that is advanced without credit was
//!    copied.
//! 3. A write finds no credit left over: hyper has taken note of every write before the next.
//! 4. A slice that is dropped before its end was not sent.
//!
//! Whatever breaks one of these is a fault of the connection, on which nothing is written from
//! then on. A copy is made before it is written, so the fault comes first, and the client sees an
//! answer that is cut.
//!
//! The caller of [`SendfileQueue::send`] has decided that these bytes may be sent.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::io::IoSlice;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

/// The longest slice. Each write wakes the client, so long ones are cheap; and a client that stops
/// reading costs nothing but the slice.
pub(super) const SLICE_BYTES_MAX: usize = 1 << 20;

/// The memory that placeholders point to, and nothing else does. It is never touched, so it costs
/// addresses and no memory.
static PLACE: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; SLICE_BYTES_MAX].into());

/// The files that one connection has to send. Clones are the same outlet.
#[derive(Clone, Debug, Default)]
pub struct SendfileQueue {
    queue: Arc<Mutex<QueueState>>,
}

#[derive(Debug, Default)]
struct QueueState {
    slices: VecDeque<UnsentSlice>,
    /// Bytes that the kernel took from files and that hyper has not taken note of.
    credit: usize,
    fault: Option<&'static str>,
}

/// The rest of a slice, which is still to be sent.
#[derive(Clone, Debug)]
pub(super) struct UnsentSlice {
    pub(super) file: Arc<File>,
    /// The offset in the file.
    pub(super) at: u64,
    pub(super) left: usize,
    /// The way to the bytes if the file cannot be read.
    pub(super) rescue: Option<FileRescue>,
    /// The present address of the placeholder.
    place: usize,
}

/// Brings the bytes of a file, from an offset to another, that the file itself does not. Clones are
/// the same way.
#[derive(Clone)]
pub struct FileRescue(Arc<RescueFn>);

type RescueFn = dyn Fn(u64, u64) -> RescuedBytes + Send + Sync;

/// Polled for the next bytes. The end comes as an error, for it is not asked for.
pub type RescuedBytes = Box<dyn FnMut(&mut Context<'_>) -> Poll<io::Result<Bytes>> + Send>;

impl FileRescue {
    /// `open` begins to bring the bytes from its first offset to its second.
    pub fn new(open: impl Fn(u64, u64) -> RescuedBytes + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }
}

impl UnsentSlice {
    /// The bytes in the place of what is left, if there is a way to them.
    pub(super) fn rescued(&self) -> Option<RescuedBytes> {
        let rescue = self.rescue.as_ref()?;
        Some(rescue.0(self.at, self.at + self.left as u64))
    }
}

impl fmt::Debug for FileRescue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileRescue")
    }
}

/// Stands for bytes of a file in what a body yields.
#[derive(Debug)]
pub struct FileSlice {
    outlet: SendfileQueue,
    place: usize,
    left: usize,
}

impl SendfileQueue {
    /// Has `len` bytes of `file` sent, from `at` on, where the slice is written. They are all
    /// there, and may be seen by the client. At most [`SLICE_BYTES_MAX`].
    pub(super) fn send(
        &self,
        file: &Arc<File>,
        at: u64,
        len: usize,
        rescue: Option<FileRescue>,
    ) -> FileSlice {
        let left = len.min(SLICE_BYTES_MAX);
        let unsent = UnsentSlice { file: Arc::clone(file), at, left, rescue, place: 0 };
        self.queue().slices.push_back(unsent);
        FileSlice { outlet: self.clone(), place: 0, left }
    }

    /// Whether anything may be written.
    ///
    /// # Errors
    ///
    /// When the account is not in order.
    pub(super) fn check(&self) -> io::Result<()> {
        let mut queue = self.queue();
        if queue.credit > 0 {
            queue.fault("bytes of a file were sent and not taken note of");
        }
        queue.fault.map_or(Ok(()), |fault| Err(io::Error::other(fault)))
    }

    /// The bytes of the file that have to be sent in place of `placeholder`.
    ///
    /// # Errors
    ///
    /// When it is not the next one.
    pub(super) fn unsent(&self, placeholder: &[u8]) -> io::Result<UnsentSlice> {
        let mut queue = self.queue();
        let is_it = |front: &&UnsentSlice| {
            let place = &PLACE[front.place..][..front.left];
            place.as_ptr() == placeholder.as_ptr() && place.len() == placeholder.len()
        };
        if let Some(front) = queue.slices.front().filter(is_it) {
            return Ok(front.clone());
        }
        queue.fault("a placeholder was written that is not the next");
        Err(io::Error::other("a placeholder was written that is not the next"))
    }

    /// The kernel has taken `count` bytes of the front slice.
    pub(super) fn sent(&self, count: usize) {
        let mut queue = self.queue();
        let Some(front) = queue.slices.front_mut().filter(|front| count <= front.left) else {
            return queue.fault("more of a file was sent than there was to send");
        };
        front.at += count as u64;
        front.place += count;
        front.left -= count;
        if front.left == 0 {
            queue.slices.pop_front();
        }
        queue.credit += count;
    }

    fn queue(&self) -> MutexGuard<'_, QueueState> {
        self.queue.lock()
    }
}

impl QueueState {
    fn fault(&mut self, fault: &'static str) {
        if self.fault.is_none() {
            self.fault = Some(fault);
        }
    }
}

/// Whether any byte of `slice` is a placeholder's.
pub(super) fn is_placeholder(slice: &IoSlice<'_>) -> bool {
    let (own, place) = (slice.as_ptr_range(), PLACE.as_ptr_range());
    !slice.is_empty() && own.start < place.end && place.start < own.end
}

/// Always in one part, which is what hyper writes rightly (hyper#4132).
impl Buf for FileSlice {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        &PLACE[self.place..][..self.left]
    }

    fn advance(&mut self, count: usize) {
        let mut queue = self.outlet.queue();
        match queue.credit.checked_sub(count) {
            Some(credit) if count <= self.left => queue.credit = credit,
            _ => queue.fault("a placeholder was copied"),
        }
        drop(queue);
        let count = count.min(self.left);
        self.place += count;
        self.left -= count;
    }
}

impl Drop for FileSlice {
    fn drop(&mut self) {
        if self.left > 0 {
            self.outlet.queue().fault("a part of a file was not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice of ten bytes, the connection's side of it, and what is written for it.
    fn ten() -> (SendfileQueue, FileSlice) {
        let outlet = SendfileQueue::default();
        let slice = outlet.send(&Arc::new(tempfile::tempfile().unwrap()), 5, 10, None);
        (outlet, slice)
    }

    #[test]
    fn a_slice_that_is_sent_in_parts_is_in_order() {
        let (outlet, mut slice) = ten();
        let unsent = outlet.unsent(slice.chunk()).unwrap();
        assert_eq!((unsent.at, unsent.left), (5, 10));
        outlet.sent(4);
        slice.advance(4);
        outlet.check().unwrap();
        let unsent = outlet.unsent(slice.chunk()).unwrap();
        assert_eq!((unsent.at, unsent.left), (9, 6));
        outlet.sent(6);
        slice.advance(6);
        drop(slice);
        outlet.check().unwrap();
        assert!(outlet.queue().slices.is_empty());
    }

    /// As hyper copies a buffer: it reads a part, then advances.
    #[test]
    fn a_copied_slice_stops_the_connection() {
        let (outlet, mut slice) = ten();
        let copy = slice.copy_to_bytes(10);
        assert!(!is_placeholder(&IoSlice::new(&copy)), "nobody could know it");
        assert_eq!(outlet.check().unwrap_err().to_string(), "a placeholder was copied");
    }

    #[test]
    fn a_copy_beside_one_that_is_sent_stops_it_too() {
        let (outlet, mut slice) = ten();
        outlet.unsent(slice.chunk()).unwrap();
        outlet.sent(4);
        slice.advance(5);
        outlet.check().unwrap_err();
    }

    #[test]
    fn a_write_that_was_not_taken_note_of_stops_it() {
        let (outlet, slice) = ten();
        outlet.unsent(slice.chunk()).unwrap();
        outlet.sent(4);
        outlet.check().unwrap_err();
    }

    #[test]
    fn a_slice_that_is_dropped_stops_it() {
        let (outlet, slice) = ten();
        drop(slice);
        outlet.check().unwrap_err();
    }

    #[test]
    fn a_placeholder_out_of_order_or_in_parts_is_refused() {
        let (outlet, first) = ten();
        let second = outlet.send(&Arc::new(tempfile::tempfile().unwrap()), 0, 7, None);
        outlet.unsent(second.chunk()).unwrap_err();

        for wrong in [&first.chunk()[1..], &first.chunk()[..9], &[]] {
            let (outlet, _slice) = ten();
            outlet.unsent(wrong).unwrap_err();
            outlet.check().unwrap_err();
        }
        SendfileQueue::default().unsent(first.chunk()).unwrap_err();
    }

    #[test]
    fn a_placeholder_is_known_by_any_of_its_bytes() {
        let (_outlet, slice) = ten();
        assert!(is_placeholder(&IoSlice::new(slice.chunk())));
        assert!(is_placeholder(&IoSlice::new(&PLACE[SLICE_BYTES_MAX - 1..])));
        assert!(!is_placeholder(&IoSlice::new(&[0; 16])));
        assert!(!is_placeholder(&IoSlice::new(&PLACE[3..3])));
    }
}
