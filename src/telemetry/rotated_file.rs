//! A file of lines that is renamed at a size, with some old ones kept beside it.
//!
//! It has whole lines only: a line that the disk took in part is taken out again. The caller knows
//! what the lines are, and what becomes of those that were refused.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags};

/// The size at which a file is renamed, and how many old ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationLimits {
    /// The size in bytes; `None` for none.
    pub max_size: Option<u64>,
    /// Old files: `.1` is the newest.
    pub keep: usize,
}

/// A file of lines.
#[derive(Debug)]
pub struct RotatedFile {
    path: PathBuf,
    limits: RotationLimits,
    /// `None` after a failure, until it can be opened.
    file: Option<File>,
    len: u64,
}

/// Lines that the disk did not take.
#[derive(Debug, thiserror::Error)]
#[error("the disk does not take lines")]
pub struct RefusedLines {
    /// The number of bytes, all of whole lines, that it has taken before.
    pub written: usize,
    /// Why not the others.
    #[source]
    pub source: io::Error,
}

impl RotatedFile {
    /// Opens the file at `path` to append to it; makes it if there is none. Fails as well if files
    /// could not be renamed there later.
    pub fn open(path: PathBuf, limits: RotationLimits) -> io::Result<Self> {
        if let Some(dir) = path.parent().filter(|_| limits.max_size.is_some()) {
            rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK)?;
        }
        let mut this = Self { path, limits, file: None, len: 0 };
        this.reopen()?;
        Ok(this)
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the path again: another program may have renamed the file. If that fails, lines go on
    /// into the file as it was.
    pub fn reopen(&mut self) -> io::Result<()> {
        let file = open_file(&self.path)?;
        self.len = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Appends whole lines. The file is renamed before, if they would make it too large.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), RefusedLines> {
        let file =
            self.file_for(lines.len()).map_err(|source| RefusedLines { written: 0, source })?;
        let (taken, error) = write_all(file, lines);
        let Some(source) = error else {
            self.len += taken as u64;
            return Ok(());
        };
        let whole = lines[..taken].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // Whatever its length is now: another program may have cut it.
        if let Ok(there) = file.metadata() {
            let cut = there.len().saturating_sub((taken - whole) as u64);
            // A disk that does not even shorten a file has a torn line in it.
            drop(file.set_len(cut));
            self.len = cut;
        }
        Err(RefusedLines { written: whole, source })
    }

    fn file_for(&mut self, more: usize) -> io::Result<&mut File> {
        let is_full = |max: u64| self.len > 0 && self.len + more as u64 > max;
        if self.file.is_some() && self.limits.max_size.is_some_and(is_full) {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        self.file.as_mut().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.limits.keep).rev() {
            rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        if self.limits.keep == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            rename_if_there(&self.path, &self.numbered(1))?;
        }
        self.file = None;
        Ok(())
    }

    /// The path of an old file.
    fn numbered(&self, number: usize) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

/// A new file can be read by its owner and group. A file that stands there already keeps its mode.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Without NONBLOCK, opening a pipe would wait for a reader.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    options.append(true).custom_flags(flags.cast_signed());
    let file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = options.mode(MODE).create(true).open(path)?;
            // The mask of the process would leave it to the owner alone.
            made.set_permissions(Permissions::from_mode(MODE))?;
            made
        }
        opened => opened?,
    };
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// Writes as much as the disk takes: how much that was, and why not more.
fn write_all(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut taken = 0;
    while taken < bytes.len() {
        match file.write(&bytes[taken..]) {
            Ok(0) => return (taken, Some(ErrorKind::WriteZero.into())),
            Ok(more) => taken += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (taken, Some(error)),
        }
    }
    (taken, None)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const MODE: u32 = 0o640;

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(dir: &Path, max_size: Option<u64>, keep: usize) -> RotatedFile {
        RotatedFile::open(dir.join("log"), RotationLimits { max_size, keep }).unwrap()
    }

    /// The names in a directory with their contents.
    fn files(dir: &Path) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut all: Vec<_> = entries
            .map(|path| (name(&path), std::fs::read_to_string(path).unwrap().replace('\n', ";")))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_file_that_would_become_too_large_is_renamed_and_the_oldest_goes() {
        for (keep, want) in [
            (2, &[("log", "6;"), ("log.1", "4;5;"), ("log.2", "2;3;")][..]),
            (1, &[("log", "6;"), ("log.1", "4;5;")]),
            (0, &[("log", "6;")]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = opened(dir.path(), Some(4), keep);
            for number in 0..=6 {
                log.append(format!("{number}\n").as_bytes()).unwrap();
            }
            let want: Vec<_> = want.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            assert_eq!(files(dir.path()), want, "{keep}");
        }
    }

    #[test]
    fn a_restart_appends_and_counts_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        opened(dir.path(), None, 1).append(b"before\n").unwrap();
        let mut log = opened(dir.path(), Some(10), 1);
        log.append(b"after\n").unwrap();

        let want = [("log", "after;"), ("log.1", "before;")];
        assert_eq!(files(dir.path()), want.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let mode = std::fs::metadata(dir.path().join("log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_another_program_renamed_is_written_to_until_it_is_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = opened(dir.path(), None, 1);
        log.append(b"1\n").unwrap();
        std::fs::rename(dir.path().join("log"), dir.path().join("theirs")).unwrap();
        log.append(b"2\n").unwrap();
        log.reopen().unwrap();
        log.append(b"3\n").unwrap();

        let want = [("log", "3;"), ("theirs", "1;2;")];
        assert_eq!(files(dir.path()), want.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    /// A directory that goes away and comes back costs the lines of the time between.
    #[test]
    fn lines_are_refused_until_the_file_can_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        std::fs::create_dir(&there).unwrap();
        let mut log = opened(&there, Some(2), 1);
        log.append(b"1\n").unwrap();
        std::fs::remove_dir_all(&there).unwrap();
        for _ in 0..2 {
            assert_eq!(log.append(b"2\n").unwrap_err().written, 0);
        }
        std::fs::create_dir(&there).unwrap();
        log.append(b"3\n").unwrap();
        assert_eq!(files(&there), [("log".to_owned(), "3;".to_owned())]);
    }

    #[test]
    fn what_is_no_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, mode) = (dir.path().join("log"), rustix::fs::Mode::RWXU);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let limits = RotationLimits { max_size: None, keep: 1 };
        for path in [fifo, dir.path().to_owned(), "/dev/null".into()] {
            assert!(RotatedFile::open(path.clone(), limits).is_err(), "{}", path.display());
        }
    }
}
