//! A directory, read as the archive that it would make: one way in for both.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use super::BundleError;
use super::archive::ArchiveWriter;

/// The archive of a directory, made while it is read by a thread of its own.
#[derive(Debug)]
pub struct PackedDir {
    pipe: PipeReader,
    failure: Arc<Mutex<Option<BundleError>>>,
}

impl PackedDir {
    /// Begins to pack a directory: an OCI layout, an unpacked archive, or the tree of a registry.
    /// Links are refused, and not followed.
    ///
    /// # Errors
    ///
    /// If there can be no pipe or thread.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let (pipe, writer) = io::pipe()?;
        let failure = Arc::<Mutex<Option<BundleError>>>::default();
        let (dir, told) = (dir.to_owned(), Arc::clone(&failure));
        let pack = move || pack(&dir, writer, &told);
        thread::Builder::new().name("pack".to_owned()).spawn(pack)?;
        Ok(Self { pipe, failure })
    }
}

impl Read for PackedDir {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if count == 0
            && !buffer.is_empty()
            && let Some(error) = self.failure.lock().take()
        {
            return Err(io::Error::other(error));
        }
        Ok(count)
    }
}

fn pack(dir: &Path, out: PipeWriter, failure: &Mutex<Option<BundleError>>) {
    let is_tree = dir.join("repositories").is_dir() && dir.join("blobs").is_dir();
    let name = if is_tree { "docker/registry/v2" } else { "" };
    let mut archive = ArchiveWriter::new(out);
    let packed = add_dir(&mut archive, dir, name);
    if let Err(error) = packed {
        // Before the reader sees an end.
        *failure.lock() = Some(error);
        return;
    }
    if let Err(error) = archive.finish() {
        // The reader has gone.
        tracing::debug!(%error, "cannot pack a directory");
    }
}

fn add_dir(
    archive: &mut ArchiveWriter<PipeWriter>,
    dir: &Path,
    name: &str,
) -> Result<(), BundleError> {
    let entries = fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?;
    let entries: io::Result<Vec<_>> = entries.collect();
    let mut entries = entries.map_err(|error| unreadable(dir, &error))?;
    // The index and its signature come before the contents.
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.sort_by_key(|entry| (is_dir(entry), entry.file_name()));
    for entry in entries {
        let path = entry.path();
        let file_name = entry.file_name();
        let file_name = file_name.to_str();
        let file_name =
            file_name.ok_or_else(|| BundleError::BadPath(path.display().to_string()))?;
        let name =
            if name.is_empty() { file_name.to_owned() } else { format!("{name}/{file_name}") };
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        if kind.is_dir() {
            // In the tree of a registry: they repeat manifests, and hold pushes in progress.
            if !matches!(file_name, "_layers" | "_uploads") {
                add_dir(archive, &path, &name)?;
            }
        } else if kind.is_file() {
            add_file(archive, &path, &name)?;
        } else {
            let kind = if kind.is_symlink() { "a link" } else { "a device or a socket" };
            return Err(BundleError::NotAFile { name, kind });
        }
    }
    Ok(())
}

fn add_file(
    archive: &mut ArchiveWriter<PipeWriter>,
    path: &PathBuf,
    name: &str,
) -> Result<(), BundleError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let opened = opened.and_then(|file: File| Ok((file.metadata()?.len(), file)));
    let (len, mut file) = opened.map_err(|error| unreadable(path, &error))?;
    archive.file(name, len, &mut file).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> BundleError {
    BundleError::Unreadable(io::Error::other(format!("{}: {error}", path.display())))
}
