//! The cache directory as one process has it: made if need be, its owner's alone, and locked.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::OpenError;
use super::layout::StoreLayout;

/// A cache directory that no other process has.
pub(super) struct LockedDir {
    pub(super) file: Option<File>,
    pub(super) is_writable: bool,
}

pub(super) fn lock_dir(layout: &StoreLayout) -> Result<LockedDir, OpenError> {
    let prepared = make_dirs(layout).and_then(|()| open_lock(layout));
    let is_writable = prepared.is_ok();
    let file = match prepared {
        Ok(lock) => Some(lock),
        Err(OpenError::Io { path, source }) if takes_nothing(&source) => {
            let path = path.display();
            tracing::warn!(%path, error = %source, "the cache cannot be written; passing through");
            File::open(layout.lock()).ok()
        }
        Err(error) => return Err(error),
    };
    if let Some(lock) = &file {
        take_lock(lock, layout)?;
    }
    Ok(LockedDir { file, is_writable })
}

fn make_dir(path: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let made = made.or_else(|error| match fs::metadata(path) {
        // It was there, and could not be looked at for a moment.
        Ok(there) if there.is_dir() => Ok(()),
        Err(fault) if error.kind() == io::ErrorKind::AlreadyExists => Err(fault),
        _ => Err(error),
    });
    made.map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn make_dirs(layout: &StoreLayout) -> Result<(), OpenError> {
    make_dir(layout.dir())?;
    tighten(layout.dir())?;
    // Files in these are removed at a start, so they are nowhere else.
    let swept = [layout.fills(), layout.drafts(), layout.uploads(), layout.index()];
    swept.iter().try_for_each(|dir| refuse_link(dir))?;
    let dirs = [layout.blobs(), layout.fills(), layout.drafts(), layout.uploads()];
    dirs.iter().try_for_each(|dir| make_dir(dir))
}

/// Leaves the directory to its owner alone: content of all repositories is in it.
fn tighten(dir: &Path) -> Result<(), OpenError> {
    let tightened = fs::metadata(dir).and_then(|found| {
        let mode = found.permissions().mode();
        let of_others = mode & 0o077;
        if of_others == 0 {
            return Ok(());
        }
        tracing::warn!(path = %dir.display(), mode = format!("{:o}", mode & 0o7777),
            "others could use the cache directory; its mode is 700 now");
        fs::set_permissions(dir, Permissions::from_mode(0o700))
    });
    tightened.map_err(|source| OpenError::Io { path: dir.to_owned(), source })
}

fn refuse_link(dir: &Path) -> Result<(), OpenError> {
    if fs::symlink_metadata(dir).is_ok_and(|found| found.is_symlink()) {
        let source = io::Error::new(io::ErrorKind::NotADirectory, "it is a symbolic link");
        return Err(OpenError::Io { path: dir.to_owned(), source });
    }
    Ok(())
}

fn open_lock(layout: &StoreLayout) -> Result<File, OpenError> {
    let path = layout.lock();
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    file.map_err(|source| OpenError::Io { path, source })
}

/// Whether the disk is at fault, rather than the configuration.
fn takes_nothing(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
    ];
    kinds.contains(&error.kind()) || Errno::from_io_error(error) == Some(Errno::IO)
}

fn take_lock(file: &File, layout: &StoreLayout) -> Result<(), OpenError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Locked { dir: layout.dir().to_owned() }),
        Err(error) => Err(OpenError::Io { path: layout.lock(), source: error.into() }),
    }
}
