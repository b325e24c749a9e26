//! Opening the store: make the directories, take the lock, sweep what is left over.
//!
//! Nothing here walks the store: a start looks at `fills/` and nowhere else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{FlockOperation, OFlags};

use super::layout::Layout;
use super::records::read_small;
use super::space::Space;
use super::{OpenError, Options, Partial, StoredBlob, Verified};
use crate::oci::{Digest, RegistryName};

/// A cache directory in use by this process.
#[derive(Debug)]
pub struct Store {
    pub(super) layout: Layout,
    pub(super) space: Space,
    options: Options,
    drafts: AtomicU64,
    /// Locked as long as the store is open.
    _lock: File,
}

/// All methods block and belong on the blocking pool.
impl Store {
    /// Opens the directory, making it if need be.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let layout = Layout::new(options.dir.clone());
        make_dir(layout.dir())?;
        let lock = take_lock(&layout)?;
        for dir in [layout.blobs(), layout.fills(), layout.drafts()] {
            make_dir(&dir)?;
        }
        let space = Space::new(layout.dir(), options.min_free);
        let store = Self { layout, space, options, drafts: AtomicU64::new(0), _lock: lock };
        store.clear_drafts();
        Ok(store)
    }

    /// Opens a blob; `None` when it is not stored.
    pub fn blob(&self, digest: &Digest) -> io::Result<Option<StoredBlob>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.layout.blob(digest);
        let open =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let file = match open {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        Ok(Some(StoredBlob::found(digest.clone(), file, metadata.len())))
    }

    /// Opens the partial file for a blob of a registry, with what an earlier fill left in it.
    ///
    /// The caller sees to it that one fill at a time has it.
    pub fn partial(&self, registry: &RegistryName, digest: &Digest) -> io::Result<Partial> {
        let path = self.layout.fill(registry, digest);
        Partial::open(path, self.layout.blob(digest), digest.clone(), self.space.clone())
    }

    /// Reads a small blob and verifies it; `None` when it is not stored or longer than `max`.
    ///
    /// Content that does not match is removed, so that it is fetched anew.
    pub fn small(&self, digest: &Digest, max: u64) -> io::Result<Option<Verified<Bytes>>> {
        let Some(bytes) = self.read_blob(digest, max)? else { return Ok(None) };
        if let Ok(verified) = Verified::check(digest, bytes) {
            return Ok(Some(verified));
        }
        tracing::error!(%digest, "stored content does not match its digest; removed");
        fs::remove_file(self.layout.blob(digest))?;
        Ok(None)
    }

    /// Stores small verified content. To have it already is success.
    pub fn put_small(&self, content: &Verified<Bytes>) -> io::Result<()> {
        let target = self.layout.blob(content.digest());
        if target.try_exists()? {
            return Ok(());
        }
        let _reservation = self.space.reserve(content.content().len() as u64)?;
        let (file, draft) = self.draft()?;
        let written = io::Write::write_all(&mut &file, content.content())
            .and_then(|()| Ok(rustix::fs::fdatasync(&file)?))
            .and_then(|()| target.parent().map_or(Ok(()), fs::create_dir_all))
            .and_then(|()| fs::rename(&draft, &target));
        if written.is_err() {
            // Best effort: what stays is cleared at the next start.
            drop(fs::remove_file(&draft));
        }
        written
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

    pub(super) fn read_blob(&self, digest: &Digest, max: u64) -> io::Result<Option<Bytes>> {
        let bytes = read_small(&self.layout.blob(digest), max + 1)?;
        Ok(bytes.filter(|bytes| bytes.len() as u64 <= max).map(Bytes::from))
    }

    /// A new file beside the place that it will be renamed to.
    pub(super) fn draft(&self) -> io::Result<(File, std::path::PathBuf)> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let path = self.layout.drafts().join(number.to_string());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((file, path))
    }

    /// What a killed process left. Failing to clear costs a few bytes and later a name, which
    /// is why numbers go on above what stays.
    fn clear_drafts(&self) {
        let Ok(entries) = fs::read_dir(self.layout.drafts()) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot clear a draft");
                let name = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
                self.drafts.fetch_max(name.map_or(0, |name| name + 1), Ordering::Relaxed);
            }
        }
    }
}

fn make_dir(path: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn take_lock(layout: &Layout) -> Result<File, OpenError> {
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
