//! Opening the store: make the directories, take the lock, sweep what is left over.
//!
//! Nothing here walks the store: a start looks at `fills/` and `uploads/` and nowhere else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::FlockOperation;

use super::append_file::AppendFile;
use super::blob_store::BlobStore;
use super::blocking::blocking;
use super::content::ContentStore;
use super::hashed_file::HashedFile;
use super::index::StoreIndex;
use super::layout::StoreLayout;
use super::record_files::RecordFiles;
use super::record_store::{PutCondition, RecordName, RecordStore, RecordVersion};
use super::repository::RepositoryStore;
use super::repository_records::RepositoryRecords;
use super::small_files::DraftDir;
use super::space::{DiskSpace, FreeSpace};
use super::stamps::VerifiedStamps;
use super::{
    BootClock, IndexReport, IndexRow, OpenError, PartialBlob, RecheckCounts, StoreOptions,
    StoredState, VerifiedContent,
};
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName};

/// What a store says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreReport {
    /// How much is stored, and whether that can be believed.
    pub index: IndexReport,
    /// What verification at rest has come to.
    pub verification: RecheckCounts,
}

/// A cache directory in use by this process.
#[derive(Debug)]
pub struct Store {
    pub(super) layout: StoreLayout,
    pub(super) space: FreeSpace,
    pub(super) blobs: Arc<BlobStore>,
    pub(super) records: Arc<dyn RecordStore>,
    pub(super) drafts: Arc<DraftDir>,
    options: StoreOptions,
    /// Locked as long as the store is open.
    _lock: File,
}

/// All methods block and belong on the blocking pool.
impl Store {
    /// Opens the directory, making it if need be.
    pub fn open(options: StoreOptions, machine: BootClock) -> Result<Self, OpenError> {
        let layout = StoreLayout::new(options.dir.clone());
        make_dir(layout.dir())?;
        let lock = take_lock(&layout)?;
        for dir in [layout.blobs(), layout.fills(), layout.drafts(), layout.uploads()] {
            make_dir(&dir)?;
        }
        let space = FreeSpace::new(layout.dir(), options.min_free);
        let index = StoreIndex::start(&layout, options.index.clone(), Arc::clone(&machine.clock));
        let stamps = VerifiedStamps::new(machine.boot, machine.clock, options.verify_every);
        let drafts = Arc::new(DraftDir::new(layout.drafts()));
        drafts.clear();
        let records = RecordFiles::new(layout.clone(), space.clone(), Arc::clone(&drafts));
        let (blobs, records) = (
            BlobStore::new(layout.clone(), stamps, index, space.clone(), Arc::clone(&drafts)),
            Arc::new(records),
        );
        Self::clear_uploads(&layout);
        let blobs = Arc::new(blobs);
        Ok(Self { layout, space, blobs, records, drafts, options, _lock: lock })
    }

    /// The records of a repository. Does not block.
    pub fn repository(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> RepositoryStore {
        RepositoryStore::new(self.records(registry, repository))
    }

    pub(super) fn records(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> RepositoryRecords {
        RepositoryRecords {
            records: Arc::clone(&self.records),
            blobs: Arc::clone(&self.blobs),
            registry: registry.clone(),
            repository: repository.clone(),
        }
    }

    /// The key that this directory's uploads are sealed with; `fresh` from now on, if there is none
    /// of that length.
    pub fn session_key(&self, fresh: Vec<u8>) -> io::Result<Vec<u8>> {
        let name = RecordName::session_key();
        loop {
            let found = self.records.get(&name, fresh.len() as u64 + 1)?;
            let version = match found {
                Some(found) if found.bytes.len() == fresh.len() => return Ok(found.bytes.into()),
                Some(found) => found.version,
                None => RecordVersion::ABSENT,
            };
            if self.records.put(&name, &fresh, PutCondition::IfVersion(version))? {
                return Ok(fresh);
            }
        }
    }

    /// The room on the store's file system.
    pub fn room(&self) -> io::Result<DiskSpace> {
        self.space.room()
    }

    /// Opens a blob; `None` when it is not stored. Costs the same whether it is due or not.
    pub fn blob(&self, digest: &Digest) -> io::Result<Option<StoredState>> {
        self.blobs.find(digest)
    }

    /// Opens the partial file for a blob of a registry, with what an earlier fill left in it.
    ///
    /// The caller sees to it that one fill at a time has it.
    pub fn partial(&self, registry: &RegistryName, digest: &Digest) -> io::Result<PartialBlob> {
        let path = self.layout.fill(registry, digest);
        PartialBlob::open(path, digest.clone(), self.space.clone(), Arc::clone(&self.blobs))
    }

    /// Opens the file that a blob of a registry is downloaded to, with what an earlier fill left in
    /// it. It is local to this machine. The caller sees to it that one fill at a time has it.
    pub async fn open_fill(
        &self,
        registry: &RegistryName,
        digest: &Digest,
    ) -> io::Result<HashedFile> {
        let (path, algorithm) = (self.layout.fill(registry, digest), digest.algorithm());
        let (space, blobs) = (self.space.clone(), Arc::clone(&self.blobs));
        let open = move || AppendFile::open(path, space, blobs);
        Ok(HashedFile::resumed(blocking(open).await?, algorithm))
    }

    /// Opens an empty file for the copy of an upload, to be hashed by `algorithm` as it comes. It
    /// is local to this machine, and removed when it is dropped.
    pub async fn open_upload(&self, algorithm: Algorithm) -> io::Result<HashedFile> {
        let path = self.layout.upload(self.drafts.next_number());
        let (space, blobs) = (self.space.clone(), Arc::clone(&self.blobs));
        let open = move || AppendFile::temporary(path, space, blobs);
        Ok(HashedFile::empty(blocking(open).await?, algorithm))
    }

    /// Removes the copies of uploads that a killed process left.
    fn clear_uploads(layout: &StoreLayout) {
        let Ok(entries) = fs::read_dir(layout.uploads()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a copy of an upload");
            }
        }
    }

    /// The content. Does not block.
    pub fn content(&self) -> ContentStore {
        ContentStore::new(Arc::clone(&self.blobs))
    }

    /// Reads a small blob and verifies it; `None` when it is not stored or longer than `max`.
    ///
    /// Content that does not match is removed, so that it is fetched anew.
    pub fn small(&self, digest: &Digest, max: u64) -> io::Result<Option<VerifiedContent<Bytes>>> {
        self.blobs.small(digest, max)
    }

    /// Stores small verified content. To have it already is success.
    pub fn put_small(&self, content: &VerifiedContent<Bytes>) -> io::Result<()> {
        self.blobs.put_small(content)
    }

    /// Removes partial downloads that nobody has gone on with for `fill_keep`, except those
    /// for which `in_use` says otherwise. Returns how many.
    pub fn sweep(&self, now: SystemTime, in_use: impl Fn(&Path) -> bool) -> io::Result<usize> {
        let mut swept = 0;
        for registry in fs::read_dir(self.layout.fills())? {
            let registry = registry?.path();
            if registry == self.layout.drafts() || !registry.is_dir() {
                continue;
            }
            for partial in fs::read_dir(registry)? {
                let partial = partial?;
                let modified = partial.metadata()?.modified()?;
                let age = now.duration_since(modified).unwrap_or_default();
                if age > self.options.fill_keep && !in_use(&partial.path()) {
                    fs::remove_file(partial.path())?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Where the partial file of a blob lies, to be recognised in [`Store::sweep`].
    pub fn partial_path(&self, registry: &RegistryName, digest: &Digest) -> std::path::PathBuf {
        self.layout.fill(registry, digest)
    }

    /// Notes that something was asked for, whatever it was served from. Does not block.
    pub fn used(&self, row: IndexRow<'_>) {
        self.blobs.index().used(row);
    }

    /// What the store says of itself. Does not block.
    pub fn report(&self) -> StoreReport {
        let (index, verification) = (self.blobs.index().report(), self.blobs.verification());
        StoreReport { index, verification }
    }

    /// Has the index written and closed, and waits for that, a few seconds.
    pub fn close_index(&self) {
        self.blobs.index().stop();
    }
}

fn make_dir(path: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn take_lock(layout: &StoreLayout) -> Result<File, OpenError> {
    let path = layout.lock();
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(OpenError::Locked { dir: layout.dir().to_owned() })
        }
        Err(error) => Err(OpenError::Io { path, source: error.into() }),
    }
}
