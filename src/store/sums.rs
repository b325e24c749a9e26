//! Checksums of the parts of a blob, so that a part can be checked without reading the rest.
//!
//! They are the digest's own hash, interrupted at the end of each block: the state there proves the
//! block, given the state at its begin, as surely as the digest proves the whole. They cost nothing
//! while a blob is hashed anyway, and once every block is proven, so is the digest.
//!
//! The file that keeps them beside the blob is a convenience. Without it, or if it is not whole,
//! the blob is hashed by its digest, and it is written anew.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use crate::oci::{Algorithm, Digest, DigestHasher};

/// The length of a block in bytes. Hashing one takes half a millisecond where the CPU knows
/// SHA-256, some milliseconds elsewhere; a blob that is not longer has no checksums but its digest.
pub(super) const BLOCK_BYTES: u64 = 1 << 20;

/// The hash at each end of a block, the last one excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockSums {
    algorithm: Algorithm,
    states: Vec<u8>,
}

/// The length of the file of a blob's checksums, about; 0 where there is none.
pub(super) fn file_bytes(digest: &Digest, len: u64) -> u64 {
    let states = (len.div_ceil(BLOCK_BYTES).max(1) - 1) * digest.algorithm().state_len() as u64;
    if states == 0 { 0 } else { states + 256 }
}

/// How many blocks a blob of this length has; the empty blob has one.
pub(super) fn blocks_of(len: u64) -> usize {
    usize::try_from(len.div_ceil(BLOCK_BYTES)).unwrap_or(usize::MAX).max(1)
}

impl BlockSums {
    /// The most that a file of them may have: for blobs of a quarter of a terabyte.
    pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

    /// A hasher that has seen everything before a block.
    pub(super) fn hasher_at(&self, block: usize) -> Option<DigestHasher> {
        if block == 0 {
            return Some(DigestHasher::new(self.algorithm));
        }
        let len = block as u64 * BLOCK_BYTES;
        DigestHasher::resumed(self.algorithm, self.state(block - 1)?, len)
    }

    /// The state at the end of a block; none of the last one's, for which there is the digest.
    pub(super) fn state(&self, block: usize) -> Option<&[u8]> {
        let state_len = self.algorithm.state_len();
        self.states.get(block * state_len..(block + 1) * state_len)
    }

    /// As they are kept on disk.
    pub(super) fn to_bytes(&self, digest: &Digest, len: u64) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&SumsHead::of(digest, len))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.states);
        let seal = Digest::of(Algorithm::Sha256, &bytes);
        bytes.extend_from_slice(seal.hex().as_bytes());
        Ok(bytes)
    }

    /// Reads the file of a blob with this digest and length; `None` if it is torn or of another
    /// blob.
    pub(super) fn read(bytes: &[u8], digest: &Digest, len: u64) -> Option<Self> {
        let (content, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_LEN)?)?;
        if Digest::of(Algorithm::Sha256, content).hex().as_bytes() != seal {
            return None;
        }
        let end = content.iter().position(|byte| *byte == b'\n')?;
        let head: SumsHead = serde_json::from_slice(&content[..end]).ok()?;
        let (algorithm, states) = (digest.algorithm(), content[end + 1..].to_vec());
        let is_complete = states.len() == (blocks_of(len) - 1) * algorithm.state_len();
        (head == SumsHead::of(digest, len) && is_complete).then_some(Self { algorithm, states })
    }
}

/// The first line of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SumsHead {
    digest: String,
    length: u64,
    block: u64,
}

impl SumsHead {
    fn of(digest: &Digest, length: u64) -> Self {
        Self { digest: digest.to_string(), length, block: BLOCK_BYTES }
    }
}

/// The file ends with a SHA-256 of what is before, in hex.
const SEAL_LEN: usize = 64;

/// Large enough that the system call does not matter, small enough to stay in a core's cache.
const READ_BYTES: usize = 256 << 10;

/// Computes a digest, and the checksums of the blocks on the way.
#[derive(Clone, Debug)]
pub struct SumHasher {
    hasher: DigestHasher,
    algorithm: Algorithm,
    len: u64,
    states: Vec<u8>,
}

impl SumHasher {
    /// A hasher that has seen no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        Self { hasher: DigestHasher::new(algorithm), algorithm, len: 0, states: Vec::new() }
    }

    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        loop {
            let room = BLOCK_BYTES - self.len % BLOCK_BYTES;
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            self.hasher.update(now);
            self.len += count as u64;
            if count as u64 == room {
                self.states.extend(self.hasher.state().unwrap_or_default());
            }
            if later.is_empty() {
                return;
            }
            bytes = later;
        }
    }

    /// A hasher that has seen the first `len` bytes of a file. `moved` is told how many, again and
    /// again. Blocks.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is shorter.
    pub fn of_file(
        file: &File,
        len: u64,
        algorithm: Algorithm,
        moved: impl Fn(u64),
    ) -> io::Result<Self> {
        let mut hasher = Self::new(algorithm);
        let mut buffer = vec![0; READ_BYTES];
        while hasher.len < len {
            let room = usize::try_from(len - hasher.len).unwrap_or(READ_BYTES).min(READ_BYTES);
            let read = file.read_at(&mut buffer[..room], hasher.len)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&buffer[..read]);
            moved(read as u64);
        }
        Ok(hasher)
    }

    /// How many bytes it has seen.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has seen none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The hash alone, to be gone on with.
    pub fn into_hasher(self) -> DigestHasher {
        self.hasher
    }

    /// The digest of all bytes seen, and the checksums of their blocks.
    pub(super) fn finish(mut self) -> (Digest, BlockSums) {
        self.states.truncate((blocks_of(self.len) - 1) * self.algorithm.state_len());
        let sums = BlockSums { algorithm: self.algorithm, states: self.states };
        (self.hasher.finish(), sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 1 << 20;

    fn summed(algorithm: Algorithm, bytes: &[u8], pieces: usize) -> (Digest, BlockSums) {
        let mut hasher = SumHasher::new(algorithm);
        bytes.chunks(pieces).for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.len(), bytes.len() as u64);
        hasher.finish()
    }

    #[test]
    fn sums_do_not_depend_on_how_the_bytes_came_and_survive_the_disk() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * BLOCK).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK] {
                let (digest, sums) = summed(algorithm, &bytes[..len], 1000);
                assert_eq!(digest, Digest::of(algorithm, &bytes[..len]));
                assert_eq!(
                    (digest.clone(), sums.clone()),
                    summed(algorithm, &bytes[..len], 3 << 20)
                );

                let len = len as u64;
                let file = sums.to_bytes(&digest, len).unwrap();
                assert_eq!(BlockSums::read(&file, &digest, len), Some(sums));
                assert_eq!(BlockSums::read(&file, &digest, len + 1), None);
                assert_eq!(BlockSums::read(&file, &Digest::of(algorithm, b"other"), len), None);
            }
        }
    }

    #[test]
    fn a_block_is_proven_by_the_states_around_it() {
        let mut bytes: Vec<u8> = (0..=250).cycle().take(3 * BLOCK).collect();
        let (_, sums) = summed(Algorithm::Sha256, &bytes, BLOCK);
        let proves = |sums: &BlockSums, bytes: &[u8]| {
            let mut hasher = sums.hasher_at(1).unwrap();
            hasher.update(&bytes[BLOCK..2 * BLOCK]);
            hasher.state().as_deref() == sums.state(1)
        };
        assert!(proves(&sums, &bytes));
        bytes[2 * BLOCK - 1] ^= 1;
        assert!(!proves(&sums, &bytes));
        assert_eq!(sums.state(2), None, "the last block's is the digest");
    }

    /// Wrong checksums could make a right blob look wrong.
    #[test]
    fn a_file_that_is_not_whole_is_none() {
        let bytes = vec![7; 2 * BLOCK];
        let (digest, sums) = summed(Algorithm::Sha256, &bytes, BLOCK);
        let len = bytes.len() as u64;
        let file = sums.to_bytes(&digest, len).unwrap();
        for cut in [0, 1, SEAL_LEN, file.len() - 1] {
            assert_eq!(BlockSums::read(&file[..cut], &digest, len), None, "cut to {cut}");
        }
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert_eq!(BlockSums::read(&flipped, &digest, len), None, "flipped at {at}");
        }
    }
}
