//! A stored blob that has to be verified again before its bytes may leave.
//!
//! With checksums of its blocks each block can be proven by itself, in any order, and when all are,
//! the digest is. Without them nothing is proven until all of it was hashed. A checksum can only
//! acquit: where a block does not fit, the digest decides, over what is read from the disk once
//! more.

use parking_lot::Mutex;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::blob_store::{BlobStore, forget_pages, is_damage};
use super::blocking::blocking;
use super::disk_read::{prepare_disk_read, read_from_disk};
use super::stamps::FileId;
use super::sums::{BLOCK_BYTES, BlockSums, blocks_of};
use super::{StoredBlob, SumHasher};
use crate::oci::{Digest, DigestHasher};

/// A stored blob that is due for verification.
#[derive(Debug)]
pub struct StaleBlob {
    blobs: Arc<BlobStore>,
    digest: Digest,
    file: Arc<File>,
    id: FileId,
    len: u64,
    /// Whether bytes are read from the disk, whatever memory has of them.
    is_of_disk: bool,
    state: Mutex<RecheckState>,
    /// Held while bytes are hashed, so that each is hashed once.
    turn: Mutex<()>,
}

/// The verdict about the whole blob so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecheckVerdict {
    /// Not enough.
    Open,
    /// Every byte is right.
    Right,
    /// Some are not. It is stored no longer.
    Wrong,
}

#[derive(Debug)]
struct RecheckState {
    method: RecheckMethod,
    proven: Vec<bool>,
    open: usize,
    verdict: RecheckVerdict,
}

#[derive(Debug)]
enum RecheckMethod {
    /// Block by block.
    Blocks(Arc<BlockSums>),
    /// From the first byte to the last, so far.
    Whole(Box<SumHasher>),
}

impl RecheckMethod {
    fn whole(digest: &Digest) -> Self {
        Self::Whole(new_hasher(digest))
    }
}

fn new_hasher(digest: &Digest) -> Box<SumHasher> {
    Box::new(SumHasher::new(digest.algorithm()))
}

impl StaleBlob {
    pub(super) fn new(
        blobs: Arc<BlobStore>,
        digest: Digest,
        file: File,
        metadata: &Metadata,
        sums: Option<BlockSums>,
    ) -> Self {
        let method = match sums {
            Some(sums) => RecheckMethod::Blocks(Arc::new(sums)),
            None => RecheckMethod::whole(&digest),
        };
        let (id, len) = (FileId::of(metadata), metadata.len());
        let open = blocks_of(len);
        let state =
            RecheckState { method, proven: vec![false; open], open, verdict: RecheckVerdict::Open };
        let (file, state) = (Arc::new(file), Mutex::new(state));
        Self { blobs, digest, file, id, len, is_of_disk: false, state, turn: Mutex::default() }
    }

    /// Reads its bytes from the disk, and leaves memory as it is: nothing is read for a client.
    pub(super) fn of_disk(self) -> Self {
        prepare_disk_read(&self.file);
        Self { is_of_disk: true, ..self }
    }

    /// How many bytes one step reads, at most.
    pub fn step_len(&self) -> u64 {
        self.len.min(BLOCK_BYTES)
    }

    /// The digest that it is stored under.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The file. Its bytes are right as far as [`Self::proven_until`] says.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How long it is, in bytes. It is verified only together with the whole.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this is the same file as the other one.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.digest == other.digest
    }

    /// Whether parts of it can be proven before the whole is.
    pub fn has_parts(&self) -> bool {
        matches!(self.state.lock().method, RecheckMethod::Blocks(_))
    }

    /// The verdict about the whole blob so far.
    pub fn verdict(&self) -> RecheckVerdict {
        self.state.lock().verdict
    }

    /// The blob, if it is right.
    pub fn verified(&self) -> Option<StoredBlob> {
        let is_right = self.verdict() == RecheckVerdict::Right;
        let file = || Arc::clone(&self.file);
        is_right.then(|| StoredBlob::found(self.digest.clone(), file(), self.len))
    }

    /// How far the bytes from `at` on are known to be right; `at` itself if the first is not.
    pub fn proven_until(&self, at: u64) -> u64 {
        let state = self.state.lock();
        let first = block_of(at);
        let count = state.proven.iter().skip(first).take_while(|proven| **proven).count();
        if count == 0 { at } else { ((first + count) as u64 * BLOCK_BYTES).min(self.len).max(at) }
    }

    /// The first byte that is not known to be right, while the verdict is open.
    pub fn first_open(&self) -> Option<u64> {
        let state = self.state.lock();
        let block = state.proven.iter().position(|proven| !proven);
        block
            .filter(|_| state.verdict == RecheckVerdict::Open)
            .map(|block| block as u64 * BLOCK_BYTES)
    }

    /// Hashes at most one block: the one at `at`, or, where that proves nothing, the next one of
    /// the whole. The caller repeats it until the part that it wants is proven, or the verdict is
    /// there.
    ///
    /// # Errors
    ///
    /// The file cannot be read now. This is no verdict.
    pub async fn step(self: &Arc<Self>, at: u64) -> io::Result<RecheckVerdict> {
        let this = Arc::clone(self);
        blocking(move || this.step_now(at)).await
    }

    fn step_now(&self, at: u64) -> io::Result<RecheckVerdict> {
        let _turn = self.turn.lock();
        let mut state = self.state.lock();
        let is_proven = state.proven.get(block_of(at)).is_none_or(|proven| *proven);
        if is_proven || state.verdict != RecheckVerdict::Open {
            return Ok(state.verdict);
        }
        match &mut state.method {
            RecheckMethod::Blocks(sums) => {
                let sums = Arc::clone(sums);
                drop(state);
                self.prove(&sums, block_of(at));
            }
            RecheckMethod::Whole(hasher) => {
                // Until it is put back, a failure means to begin anew.
                let hasher = std::mem::replace(hasher, new_hasher(&self.digest));
                drop(state);
                self.go_on(hasher)?;
            }
        }
        Ok(self.verdict())
    }

    fn prove(&self, sums: &BlockSums, block: usize) {
        let proven = self.fits(sums, block);
        let mut state = self.state.lock();
        if !matches!(proven, Ok(true)) {
            let error = proven.err().map(tracing::field::display);
            tracing::warn!(digest = %self.digest, block, error, "checksum mismatch in a stored blob; verifying it as a whole");
            // The mismatch may come from pages in memory, so the file is read from the disk again.
            forget_pages(&self.file);
            state.method = RecheckMethod::whole(&self.digest);
            return;
        }
        state.proven[block] = true;
        state.open -= 1;
        if state.open == 0 {
            state.verdict = RecheckVerdict::Right;
            drop(state);
            self.blobs.mark_verified(&self.file);
        }
    }

    fn fits(&self, sums: &BlockSums, block: usize) -> io::Result<bool> {
        let Some(mut hasher) = sums.hasher_at(block) else { return Ok(false) };
        self.read(block as u64 * BLOCK_BYTES, |bytes| hasher.update(bytes))?;
        Ok(match sums.state(block) {
            Some(state) => hasher.state().as_deref() == Some(state),
            None => DigestHasher::finish(hasher) == self.digest,
        })
    }

    fn go_on(&self, mut hasher: Box<SumHasher>) -> io::Result<()> {
        let read = self.read(hasher.len(), |bytes| hasher.update(bytes));
        match read {
            Ok(()) if hasher.len() < self.len => {
                self.state.lock().method = RecheckMethod::Whole(hasher);
            }
            Ok(()) => {
                let (got, sums) = hasher.finish();
                if got != self.digest {
                    self.condemn(&format!("the bytes are {got}"));
                    return Ok(());
                }
                let mut state = self.state.lock();
                state.proven.fill(true);
                (state.open, state.verdict) = (0, RecheckVerdict::Right);
                drop(state);
                if self.len > BLOCK_BYTES {
                    self.blobs.put_sums(&self.digest, self.len, &sums);
                }
                self.blobs.mark_verified(&self.file);
            }
            Err(error) if is_damage(&error) => self.condemn(&error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn condemn(&self, why: &str) {
        let mut state = self.state.lock();
        state.proven.fill(false);
        state.verdict = RecheckVerdict::Wrong;
        drop(state);
        self.blobs.remove_corrupt(&self.digest, self.id, why);
    }

    /// Shows the bytes of the block that begins at `at`.
    fn read(&self, at: u64, mut show: impl FnMut(&[u8])) -> io::Result<()> {
        let end = (at + BLOCK_BYTES).min(self.len);
        let mut buffer = vec![0; READ_BYTES];
        let mut at = at;
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(usize::MAX).min(READ_BYTES);
            let room = &mut buffer[..room];
            let read = if self.is_of_disk {
                read_from_disk(&self.file, room, at)
            } else {
                self.file.read_at(room, at)
            };
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    show(&buffer[..read]);
                    at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn block_of(at: u64) -> usize {
    usize::try_from(at / BLOCK_BYTES).unwrap_or(usize::MAX)
}

/// Large enough that the system call does not matter, small enough to stay in a core's cache.
const READ_BYTES: usize = 256 << 10;
