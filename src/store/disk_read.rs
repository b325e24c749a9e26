//! Reads of a file that are to come from the disk, and to leave the page cache as it was.
//!
//! Pages that are in memory are dropped first: they say nothing about the disk. They are in memory
//! again afterwards, since clients use them. Pages that were not in memory do not stay there.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

/// Has later reads of this open file bring no more into memory than is asked for.
pub(super) fn prepare_disk_read(file: &File) {
    // Advice that is not taken changes nothing.
    rustix::fs::fadvise(file, 0, None, Advice::Random).unwrap_or_default();
}

/// Reads into `room` from the offset `at`. Blocks.
///
/// # Errors
///
/// Those of the read.
pub(super) fn read_from_disk(file: &File, room: &mut [u8], at: u64) -> io::Result<usize> {
    let forget = |len: usize| {
        let len = NonZeroU64::new(len as u64);
        rustix::fs::fadvise(file, at, len, Advice::DontNeed).unwrap_or_default();
    };
    let was_in_memory = is_in_memory(file, at);
    if was_in_memory {
        forget(room.len());
    }
    let read = file.read_at(room, at)?;
    if !was_in_memory {
        forget(room.len());
    }
    Ok(read)
}

/// Whether the byte at `at` can be read without the disk. On a file system that cannot tell, all
/// are taken to be in memory.
fn is_in_memory(file: &File, at: u64) -> bool {
    let mut byte = [0];
    let room = &mut [IoSliceMut::new(&mut byte)];
    !matches!(
        rustix::io::preadv2(file, room, at, ReadWriteFlags::NOWAIT),
        Err(Errno::AGAIN | Errno::INTR)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 256 << 10;

    /// Four chunks on a disk, none of them in memory; `None` where that cannot be had.
    fn cold_file() -> Option<File> {
        let file = tempfile::tempfile_in(".").unwrap();
        let bytes = [0, 1, 2, 3].map(|chunk| vec![chunk; CHUNK]).concat();
        file.write_all_at(&bytes, 0).unwrap();
        file.sync_all().unwrap();
        prepare_disk_read(&file);
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let is_cold = !is_in_memory(&file, 0);
        // A look brings a page into memory too.
        file.read_exact_at(&mut [0], 0).unwrap();
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        is_cold.then_some(file)
    }

    #[test]
    fn what_was_not_in_memory_does_not_stay_there_and_what_clients_use_does() {
        let Some(file) = cold_file() else { return };
        let hot = CHUNK as u64;
        file.read_exact_at(&mut vec![0; CHUNK], hot).unwrap();

        let mut room = vec![9; CHUNK];
        for chunk in [0, 1, 2, 3] {
            let read = read_from_disk(&file, &mut room, chunk * hot).unwrap();
            assert_eq!(read, CHUNK);
            assert!(room.iter().all(|byte| u64::from(*byte) == chunk), "chunk {chunk}");
        }

        let in_memory = [0, 1, 2, 3].map(|chunk| is_in_memory(&file, chunk * hot));
        assert_eq!(in_memory, [false, true, false, false]);
    }
}
