//! A file on its way into the store: appended to, in space that was set aside for it.
//!
//! `fallocate` keeps the size, so the length is always the bytes written. `hashed_file.rs` decides
//! when it is written to, and hashes it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt as _, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FallocateFlags, OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;
use tokio::runtime::Handle;

use super::blob_store::{BlobStore, forget_pages};
use super::disk_gate::DiskGates;
use super::eviction::RegistryGroup;
use super::partials::remove_partial;
use super::small_files::absent_is_fine;
use super::space::{SpacePart, SpaceReservation};
use super::stamps::FileId;
use super::sums::{BLOCK_BYTES, BlockSums};
use super::{DigestMismatch, StoredBlob, SumHasher};
use crate::oci::{Algorithm, Digest};

/// The file. All methods block and belong on the blocking pool.
#[derive(Debug)]
pub(super) struct AppendFile {
    file: Arc<File>,
    path: PathBuf,
    blobs: Arc<BlobStore>,
    /// The registry that its bytes are of.
    group: RegistryGroup,
    reservation: Option<SpaceReservation>,
    /// How far the file system has set space aside, or been asked to.
    allocated: u64,
    /// Bytes of it that are counted among the partial files.
    counted: u64,
    len: u64,
    /// Whether the file goes when this is dropped: it is the copy of an upload, or a write or a
    /// sync of it failed. The kernel tells an error of the disk once, so the next sync of such a
    /// file would say nothing, whatever is lost.
    is_temporary: bool,
}

impl AppendFile {
    /// Opens the file with what is in it, or makes it.
    pub(super) fn open(
        path: PathBuf,
        group: RegistryGroup,
        blobs: Arc<BlobStore>,
    ) -> io::Result<Self> {
        let open = || blobs.budget().with_room(0, || options().create(true).open(&path));
        // Nearly always the directory is there, and a client waits.
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                blobs.make_parent(&path)?;
                open()?
            }
            // Earlier builds took the right to write away before a file had its name in `blobs/`.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                remove_partial(&path, blobs.budget().space())?;
                open()?
            }
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("a partial download is not a plain file"));
        }
        let found = file.metadata()?.blocks() * 512;
        cut_at_hole(&file)?;
        let metadata = file.metadata()?;
        let (len, taken) = (metadata.len(), metadata.blocks() * 512);
        blobs.budget().space().count(SpacePart::Partials, found, taken);
        Ok(Self {
            file: Arc::new(file),
            path,
            blobs,
            group,
            reservation: None,
            // An earlier process may have set aside more than it wrote.
            allocated: len.max(taken),
            counted: taken,
            len,
            is_temporary: false,
        })
    }

    /// Makes a file that goes when it is dropped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] when there is such a file.
    pub(super) fn temporary(path: PathBuf, blobs: Arc<BlobStore>) -> io::Result<Self> {
        // The manifest that is pushed after it says which registry it is of.
        let mut file = Self::open(path, RegistryGroup::UNKNOWN, blobs)?;
        if file.len() > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        file.is_temporary = true;
        Ok(file)
    }

    /// The bytes written so far, also by an earlier process.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How long the disk is waited for.
    pub(super) fn gates(&self) -> &Arc<DiskGates> {
        self.blobs.gates()
    }

    /// The file, for those who follow it.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Sets space aside for the file to become `total` bytes long.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] when that would leave less than the floor free.
    pub(super) fn reserve(&mut self, total: u64) -> io::Result<()> {
        if total <= self.allocated {
            return Ok(());
        }
        let more = total - self.allocated;
        let mut reservation = self.blobs.budget().reserve_for(self.group, more)?;
        match rustix::fs::fallocate(&*self.file, FallocateFlags::KEEP_SIZE, self.allocated, more) {
            Ok(()) => {
                self.count(self.file.metadata()?.blocks() * 512);
                reservation.fulfil(more);
            }
            // Without fallocate the promise is kept in memory until the file is done.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        self.allocated = total;
        self.reservation = Some(reservation);
        Ok(())
    }

    /// Counts what the file takes among the partial files; nothing when it is one no longer.
    fn count(&mut self, bytes: u64) {
        self.blobs.budget().space().count(SpacePart::Partials, self.counted, bytes);
        self.counted = bytes;
    }

    /// Writes at the end, reserving in steps where the total was not known.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let end = self.len + bytes.len() as u64;
        if end > self.allocated {
            self.reserve(end.next_multiple_of(STEP_BYTES))?;
        }
        self.file.write_all_at(bytes, self.len).inspect_err(|_| self.is_temporary = true)?;
        self.len = end;
        Ok(())
    }

    /// Hashes what is in it. `moved` is told how much, again and again.
    ///
    /// Bytes that were found in it are read from the disk: the page cache may have what the disk
    /// has lost, and an earlier process been told so.
    pub(super) fn hash(
        &mut self,
        algorithm: Algorithm,
        moved: impl Fn(u64),
    ) -> io::Result<SumHasher> {
        if self.len > 0 {
            self.sync()?;
            forget_pages(&self.file);
        }
        SumHasher::of_file(&self.file, self.len, algorithm, moved)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&*self.file).inspect_err(|_| self.is_temporary = true)?)
    }

    /// Leaves the file to be gone on with, and gives the space back that was set aside for more.
    pub(super) fn leave(mut self) -> io::Result<()> {
        if self.len == 0 || self.is_temporary { self.remove() } else { self.trim() }
    }

    /// Gives back the space that was set aside beyond the end.
    fn trim(&mut self) -> io::Result<()> {
        if self.allocated > self.len {
            self.file.set_len(self.len)?;
            self.count(self.file.metadata()?.blocks() * 512);
            (self.allocated, self.reservation) = (self.len, None);
        }
        Ok(())
    }

    /// Removes the file: its bytes are wrong, or of no more use.
    pub(super) fn discard(mut self) -> io::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> io::Result<()> {
        self.is_temporary = false;
        let removed = remove_if_same(&self.file, &self.path);
        removed.inspect_err(|_| self.blobs.remove_later(self.path.clone()))?;
        self.count(0);
        Ok(())
    }

    /// Checks `hasher`, which has seen every byte. Wrong bytes are removed.
    pub(super) fn prove(
        self,
        digest: &Digest,
        hasher: SumHasher,
    ) -> Result<ProvenFile, DigestMismatch> {
        match StoredBlob::hashed(digest, hasher, self.file(), self.len) {
            Ok((blob, sums)) => Ok(ProvenFile { file: self, blob, sums }),
            Err(mismatch) => {
                if let Err(error) = self.discard() {
                    tracing::warn!(%error, "cannot remove a partial file with wrong bytes");
                }
                Err(mismatch)
            }
        }
    }

    /// Whether the bytes are in the store, and if not, whether they are on disk at least.
    fn keep(mut self, digest: &Digest, sums: &BlockSums) -> (io::Result<()>, bool) {
        if let Err(error) = self.flush() {
            // Before another fill of the blob can find it.
            if let Err(error) = self.remove() {
                tracing::warn!(%digest, %error, "cannot remove a file that the disk has not kept");
            }
            return (Err(error), false);
        }
        (self.name(digest, sums), true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.trim()?;
        self.blobs.stamp(&self.file);
        self.sync()
    }

    fn name(mut self, digest: &Digest, sums: &BlockSums) -> io::Result<()> {
        let target = self.blobs.path(digest);
        self.blobs.make_parent(&target)?;
        let allocated = self.file.metadata()?.blocks() * 512;
        let blobs = Arc::clone(&self.blobs);
        let naming = blobs.budget().naming();
        self.rename(digest, &target)?;
        self.is_temporary = false;
        // Only now: it could not be gone on with if this process ended before. To have the right to
        // write harms nothing but by mistake.
        self.file.set_permissions(Permissions::from_mode(0o400)).unwrap_or_default();
        blobs.kept(digest, self.len, allocated, self.group);
        self.count(0);
        drop(naming);
        if self.len > BLOCK_BYTES {
            self.blobs.put_sums(digest, self.len, sums);
        }
        Ok(())
    }

    /// Renames without replacing: the first file there has the same verified bytes. If that was too
    /// long ago, these are the better ones.
    fn rename(&self, digest: &Digest, to: &Path) -> io::Result<()> {
        let from = &self.path;
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if self.blobs.has_fresh(digest) => fs::remove_file(from),
            // Or a file system without the flag: replacing a verified file by its equal does no
            // harm.
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => fs::rename(from, to),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for AppendFile {
    fn drop(&mut self) {
        if !self.is_temporary {
            return;
        }
        let (file, path) = (Arc::clone(&self.file), std::mem::take(&mut self.path));
        let (blobs, counted) = (Arc::clone(&self.blobs), self.counted);
        let remove = move || match remove_if_same(&file, &path) {
            Ok(()) => blobs.budget().space().count(SpacePart::Partials, counted, 0),
            Err(error) => {
                tracing::warn!(%error, "cannot remove a partial file");
                blobs.remove_later(path);
            }
        };
        // To remove a large file takes its time.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// A file whose bytes are right, and that has no name yet.
#[derive(Debug)]
pub(super) struct ProvenFile {
    file: AppendFile,
    pub(super) blob: StoredBlob,
    sums: BlockSums,
}

impl ProvenFile {
    /// Makes the file the blob of its digest. Blocks.
    ///
    /// The order is what makes a crash harmless: content to disk, then the name, then the
    /// checksums, without which it is only slower to verify again. When another file of the same
    /// digest was first, that one stays and this one is removed.
    pub(super) fn keep(self) -> CommittedBlob {
        let Self { file, blob, sums } = self;
        let (kept, is_synced) = file.keep(blob.digest(), &sums);
        CommittedBlob { blob, kept, is_synced }
    }
}

/// A file whose bytes are right.
#[derive(Debug)]
pub struct CommittedBlob {
    /// The bytes, to be served.
    pub blob: StoredBlob,
    /// Whether they are in the store. If not, this is their last use.
    pub kept: io::Result<()>,
    /// Whether they are on disk. If not, what is read from the file may change at any time.
    pub is_synced: bool,
}

/// Cuts a file at its first hole. Files are written without one; but after a power cut, space that
/// was set aside reads as zeros where what was written had not reached the disk.
fn cut_at_hole(file: &File) -> io::Result<()> {
    // A file system that does not tell, or an empty file.
    let Ok(hole) = rustix::fs::seek(file, SeekFrom::Hole(0)) else { return Ok(()) };
    if hole < file.metadata()?.len() { file.set_len(hole) } else { Ok(()) }
}

/// Removes the file, unless its name is another file's by now: a disk that hangs may end a write
/// long after it was given up.
fn remove_if_same(file: &File, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if FileId::of(&there) == FileId::of(&file.metadata()?) => {
            absent_is_fine(fs::remove_file(path))
        }
        Ok(_) => Ok(()),
        Err(error) => absent_is_fine(Err(error)),
    }
}

/// Unknown lengths are reserved in steps of this size: small beside a layer, large beside the
/// cost of asking.
const STEP_BYTES: u64 = 64 << 20;

fn options() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}
