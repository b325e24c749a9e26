//! Small files: read whole, and replaced whole by a rename, so that a reader sees the old or the
//! new.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::disk_gate::DiskGates;
use super::partials::remove_partial;
use super::space::{FreeSpace, SpacePart};

/// The directory in which files are written before they are renamed into place.
#[derive(Debug)]
pub(super) struct DraftDir {
    dir: PathBuf,
    space: FreeSpace,
    gates: Arc<DiskGates>,
    number: AtomicU64,
    /// Files without any use that could not be removed so far. They count as partial files.
    left: Mutex<Vec<PathBuf>>,
}

/// All methods block, but [`DraftDir::next_number`] and [`DraftDir::gates`].
impl DraftDir {
    pub(super) fn new(dir: PathBuf, space: FreeSpace) -> Self {
        let number = AtomicU64::new(0);
        Self { dir, space, gates: Arc::default(), number, left: Mutex::default() }
    }

    /// How long the disk is waited for, wherever the store does.
    pub(super) fn gates(&self) -> &Arc<DiskGates> {
        &self.gates
    }

    /// A number that no other file of this process has.
    pub(super) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a file with these bytes at `target`, over an older one. `finish` has it before its
    /// name.
    pub(super) fn replace(
        &self,
        target: &Path,
        bytes: &[u8],
        finish: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        self.gates.check()?;
        self.space.make_parent(target)?;
        self.remove_left();
        let (mut file, draft) = self.open()?;
        let replaced = file
            .write_all(bytes)
            .and_then(|()| finish(&file))
            .and_then(|()| fs::rename(&draft, target));
        if replaced.is_err() && absent_is_fine(fs::remove_file(&draft)).is_err() {
            let taken = file.metadata().map_or(0, |metadata| metadata.blocks() * 512);
            self.space.count(SpacePart::Partials, 0, taken);
            self.remove_later(draft);
        }
        replaced
    }

    fn open(&self) -> io::Result<(File, PathBuf)> {
        let draft = self.dir.join(self.next_number().to_string());
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.space.make_parent(&draft)?;
                open()?
            }
            opened => opened?,
        };
        Ok((file, draft))
    }

    /// Removes a file that counts as a partial one once the disk allows it: before the next draft,
    /// when downloads are swept, or at the next start.
    pub(super) fn remove_later(&self, path: PathBuf) {
        let mut left = self.left.lock();
        if left.len() < LEFT_MAX {
            left.push(path);
        }
    }

    /// Removes what could not be removed before.
    pub(super) fn remove_left(&self) {
        let left = std::mem::take(&mut *self.left.lock());
        let failed = left.into_iter().filter(|path| remove_partial(path, &self.space).is_err());
        failed.for_each(|path| self.remove_later(path));
    }

    /// Removes the drafts of a killed process. One that stays costs a few bytes and later a name,
    /// which is why numbers go on above it.
    pub(super) fn clear(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a draft");
                let name = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
                self.number.fetch_max(name.map_or(0, |name| name + 1), Ordering::Relaxed);
            }
        }
    }
}

/// The file's first `max` bytes; `None` when there is no such file. A link is not followed.
pub(super) fn read_small(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open_to_read(path, OFlags::empty()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Opens a file for reading, never a link or a FIFO that blocks.
pub(super) fn open_to_read(path: &Path, flags: OFlags) -> io::Result<File> {
    // A FIFO in the place of the file must not block us.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// As [`open_to_read`], so that reading does not count as a use, where the file system allows that.
pub(super) fn open_untouched(path: &Path) -> io::Result<File> {
    match open_to_read(path, OFlags::NOATIME) {
        // Only the owner of the file may ask for that.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_to_read(path, OFlags::empty())
        }
        opened => opened,
    }
}

/// A file as [`read_untouched`] finds it.
#[derive(Debug)]
pub(super) struct UntouchedFile {
    pub(super) bytes: Vec<u8>,
    /// When it was last read or written, before this.
    pub(super) used_at: SystemTime,
}

/// The file's first `max` bytes, read so that it does not count as used, where the file system
/// allows that; `None` when there is no such file.
pub(super) fn read_untouched(path: &Path, max: u64) -> io::Result<Option<UntouchedFile>> {
    let file = match open_untouched(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let used_at = used_at(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(UntouchedFile { bytes, used_at }))
}

/// When a file was last used, as its times have it: most file systems note a day's first read.
pub(super) fn used_at(metadata: &Metadata) -> SystemTime {
    let times = [metadata.accessed(), metadata.modified()];
    times.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// How many files are remembered that could not be removed. Those beyond stay until the next start.
const LEFT_MAX: usize = 1 << 10;

/// Turns the error that a file does not exist into success, for callers that remove it.
pub(super) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
