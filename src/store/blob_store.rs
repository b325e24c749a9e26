//! How content comes to have a name in `blobs/`, is found there, and loses the name again.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{Advice, OFlags};
use rustix::io::Errno;

use super::disk_gate::DiskGates;
use super::eviction::{DiskBudget, RegistryGroup};
use super::index::{IndexRow, StoreIndex};
use super::layout::StoreLayout;
use super::small_files::{DraftDir, open_to_read, open_untouched, read_small};
use super::stamps::{FileId, VerifiedStamps};
use super::sums::BlockSums;
use super::verify::VerifiedContent;
use crate::oci::Digest;

/// The content of a store. Shared with the downloads on their way into it.
#[derive(Debug)]
pub(super) struct BlobStore {
    layout: StoreLayout,
    stamps: VerifiedStamps,
    index: Arc<StoreIndex>,
    budget: Arc<DiskBudget>,
    drafts: Arc<DraftDir>,
    /// Content that was removed because its bytes are wrong, or set aside because they cannot be
    /// read, and has not come back since. Locked while content is removed, so that its replacement
    /// is not taken for it.
    condemned: Mutex<HashMap<Digest, FileId>>,
    checked: AtomicU64,
    bad: AtomicU64,
    healed: AtomicU64,
}

/// Results of verification at rest since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecheckCounts {
    /// Stored contents that were hashed again and are right.
    pub checked: u64,
    /// Those that are not, and were removed.
    pub bad: u64,
    /// Those of the latter that were fetched anew.
    pub healed: u64,
}

/// All methods block.
impl BlobStore {
    pub(super) fn new(
        layout: StoreLayout,
        stamps: VerifiedStamps,
        index: Arc<StoreIndex>,
        budget: Arc<DiskBudget>,
        drafts: Arc<DraftDir>,
    ) -> Self {
        Self {
            layout,
            stamps,
            index,
            budget,
            drafts,
            condemned: Mutex::default(),
            checked: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            healed: AtomicU64::new(0),
        }
    }

    /// The index of what is stored.
    pub(super) fn index(&self) -> &StoreIndex {
        &self.index
    }

    /// How long the disk is waited for.
    pub(super) fn gates(&self) -> &Arc<DiskGates> {
        self.drafts.gates()
    }

    /// The space, and what is evicted for it.
    pub(super) fn budget(&self) -> &Arc<DiskBudget> {
        &self.budget
    }

    pub(super) fn verification(&self) -> RecheckCounts {
        RecheckCounts {
            checked: self.checked.load(Ordering::Relaxed),
            bad: self.bad.load(Ordering::Relaxed),
            healed: self.healed.load(Ordering::Relaxed),
        }
    }

    /// Opens the file of a blob; `None` when it is not stored, or was found wrong and is still
    /// there.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<Option<(File, Metadata)>> {
        self.open_by(digest, |path| open_to_read(path, OFlags::empty()))
    }

    /// As [`Self::open`], so that it does not count as a use of the blob.
    pub(super) fn open_untouched(&self, digest: &Digest) -> io::Result<Option<(File, Metadata)>> {
        self.open_by(digest, open_untouched)
    }

    fn open_by(
        &self,
        digest: &Digest,
        open: impl FnOnce(&Path) -> io::Result<File>,
    ) -> io::Result<Option<(File, Metadata)>> {
        let file = match open(&self.layout.blob(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let is_wrong = self.condemned.lock().get(digest) == Some(&FileId::of(&metadata));
        Ok((metadata.is_file() && !is_wrong).then_some((file, metadata)))
    }

    /// Whether a file's content was verified in this run of the machine, and not too long ago.
    pub(super) fn is_fresh(&self, metadata: &Metadata) -> bool {
        self.stamps.is_fresh(metadata)
    }

    /// Reads a small blob and verifies it, whether it is due or not; `None` when it is not stored,
    /// or longer than `max`.
    pub(super) fn small(
        &self,
        digest: &Digest,
        max: u64,
    ) -> io::Result<Option<VerifiedContent<Bytes>>> {
        let Some((file, metadata)) = self.open(digest)? else { return Ok(None) };
        if metadata.len() > max {
            return Ok(None);
        }
        let read = || -> io::Result<_> {
            let mut bytes = vec![0; usize::try_from(metadata.len()).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(VerifiedContent::check(digest, Bytes::from(bytes)))
        };
        let mut verified = read();
        if !matches!(verified, Ok(Ok(_))) {
            forget_pages(&file);
            verified = read();
        }
        let why = match verified {
            Ok(Ok(verified)) => {
                if !self.is_fresh(&metadata) {
                    self.mark_verified(&file);
                }
                return Ok(Some(verified));
            }
            Ok(Err(mismatch)) => mismatch.to_string(),
            Err(error) if is_damage(&error) => error.to_string(),
            Err(error) => return Err(error),
        };
        self.remove_corrupt(digest, FileId::of(&metadata), &why);
        Ok(None)
    }

    /// Stores small verified content of a registry. To have it already is success.
    pub(super) fn put_small(
        &self,
        content: &VerifiedContent<Bytes>,
        group: RegistryGroup,
    ) -> io::Result<()> {
        let (digest, bytes) = (content.digest(), content.content());
        // Content that is due to be verified is as well replaced by bytes that just were.
        if self.has_fresh(digest) {
            return Ok(());
        }
        let len = bytes.len() as u64;
        let _reservation = self.budget.reserve_for(group, len)?;
        self.drafts.replace(&self.layout.blob(digest), bytes, |file| {
            self.stamp(file);
            Ok(rustix::fs::fdatasync(file)?)
        })?;
        self.kept(digest, len, len, group);
        Ok(())
    }

    /// Makes the directory of a file, evicting blobs if the disk is full.
    pub(super) fn make_parent(&self, path: &Path) -> io::Result<()> {
        self.budget.with_room(0, || self.budget.space().make_parent(path))
    }

    /// The path of a blob.
    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        self.layout.blob(digest)
    }

    /// Whether a blob is stored and not due.
    pub(super) fn has_fresh(&self, digest: &Digest) -> bool {
        let open = self.open(digest);
        open.is_ok_and(|open| open.is_some_and(|(_, metadata)| self.is_fresh(&metadata)))
    }

    /// Removes a copy of an upload later, once the disk allows it. A download is left as it is: the
    /// next fill goes on with it.
    pub(super) fn remove_later(&self, path: PathBuf) {
        if path.parent() == Some(&self.layout.uploads()) {
            self.drafts.remove_later(path);
        }
    }

    /// Notes that all of a file that is about to be named was verified.
    pub(super) fn stamp(&self, file: &File) {
        self.stamps.put(file);
    }

    /// Notes that a blob of this length, for which the disk has allocated so much, has its name.
    pub(super) fn kept(&self, digest: &Digest, len: u64, allocated: u64, group: RegistryGroup) {
        self.budget.catalog().stored(digest, len, allocated, group);
        self.index.kept(IndexRow::Blob(digest), len);
        if self.condemned.lock().remove(digest).is_some() {
            self.healed.fetch_add(1, Ordering::Relaxed);
            tracing::info!(%digest, "corrupt blob replaced: fetched again and verified");
        }
    }

    /// Notes that all of a stored file was verified again.
    pub(super) fn mark_verified(&self, file: &File) {
        if self.gates().check().is_ok() {
            self.stamps.put(file);
        }
        self.checked.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes its name from a file whose bytes are wrong, so that they are fetched anew. They are of
    /// no use, and would take space that is not accounted for.
    pub(super) fn remove_corrupt(&self, digest: &Digest, file: FileId, why: &str) {
        let mut condemned = self.condemned.lock();
        if condemned.get(digest) == Some(&file) {
            return;
        }
        let path = self.layout.blob(digest);
        let is_still_there =
            fs::symlink_metadata(&path).is_ok_and(|metadata| FileId::of(&metadata) == file);
        if !is_still_there {
            return;
        }
        self.bad.fetch_add(1, Ordering::Relaxed);
        // First: without the blob they would be a file for nothing.
        drop(fs::remove_file(self.layout.sums(digest)));
        match fs::remove_file(&path) {
            Ok(()) => {
                self.index.gone(IndexRow::Blob(digest));
                self.budget.catalog().removed(digest);
                tracing::error!(%digest, reason = why, "corrupt blob removed; it is fetched again on demand");
            }
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, reason = why, %error, "cannot remove a corrupt blob");
            }
        }
        condemn(&mut condemned, digest, file);
    }

    /// Has a file that cannot be read count as missing, until it is replaced. It stays, for all
    /// that is known is that it cannot be read now.
    pub(super) fn set_aside(&self, digest: &Digest, file: FileId, why: &str) {
        if condemn(&mut self.condemned.lock(), digest, file) {
            self.bad.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%digest, reason = why, "stored content cannot be read; set aside");
        }
    }

    /// Has a file that was set aside count as stored again.
    pub(super) fn take_back(&self, digest: &Digest) {
        self.condemned.lock().remove(digest);
    }

    /// Keeps the checksums of a blob that is stored. Without them it is only slower to check.
    pub(super) fn put_sums(&self, digest: &Digest, len: u64, sums: &BlockSums) {
        let path = self.layout.sums(digest);
        let bytes = sums.to_bytes(digest, len).map_err(io::Error::from);
        let put = bytes.and_then(|bytes| {
            // They were counted with the blob, and may be what is too much.
            let _reservation = self.budget.reserve(0)?;
            let _naming = self.budget.naming();
            // It may have been evicted meanwhile.
            if !self.layout.blob(digest).try_exists()? {
                return Ok(());
            }
            self.drafts.replace(&path, &bytes, |_| Ok(()))
        });
        if let Err(error) = put {
            tracing::debug!(%digest, %error, "cannot keep the checksums of a blob");
        }
    }

    /// The checksums of a blob, if they are kept and whole.
    pub(super) fn sums(&self, digest: &Digest, len: u64) -> Option<BlockSums> {
        let bytes = read_small(&self.layout.sums(digest), BlockSums::FILE_BYTES_MAX);
        BlockSums::read(&bytes.ok()??, digest, len)
    }
}

/// Whether that is news.
fn condemn(condemned: &mut HashMap<Digest, FileId>, digest: &Digest, file: FileId) -> bool {
    if condemned.len() >= CONDEMNED_MAX {
        condemned.clear();
    }
    condemned.insert(digest.clone(), file) != Some(file)
}

/// Whether the disk says that what was written is lost, rather than that it cannot be read now:
/// the file is too short, or a checksum of the disk's or the file system's own is wrong.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    error.kind() == io::ErrorKind::UnexpectedEof
        || errno.is_some_and(|errno| [Errno::IO, Errno::UCLEAN, Errno::BADMSG].contains(&errno))
}

/// Has what is read next come from the disk: what is wrong may be the memory that it was kept in.
pub(super) fn forget_pages(file: &File) {
    // Advice that is not taken changes nothing.
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).unwrap_or_default();
}

/// How many digests are remembered whose content proved wrong, to be told when it is right again.
const CONDEMNED_MAX: usize = 1 << 14;
