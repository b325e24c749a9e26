//! The directory of the index, and whether the index may be opened.
//!
//! ```text
//! index/db/     the database
//! index/clean   how it was left: the hash of each of its files, and its totals
//! index/bad/    the last one that was set aside
//! ```
//!
//! A database that was not left in order, or has changed since, is not opened by this process: a
//! damaged one may panic or never return. One that was killed in mid-work is checked in a process
//! of its own first; one that has changed while no process used it is damaged.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::small_files::read_small;
use super::db::IndexTotals;
use crate::oci::{Algorithm, DigestHasher};

/// The directory of an index.
#[derive(Clone, Debug)]
pub(super) struct IndexDir {
    dir: PathBuf,
}

/// In which state the database was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexDirState {
    /// There is none.
    Absent,
    /// It has changed since it was left.
    Changed,
    /// As it was left.
    Clean {
        /// The totals of its rows.
        totals: IndexTotals,
        /// Whether that is all there is in the store.
        is_whole: bool,
    },
    /// It was not left in order.
    Unclean,
}

/// How the database was left.
#[derive(Debug, Serialize, Deserialize)]
struct CleanSeal {
    files: BTreeMap<String, String>,
    totals: IndexTotals,
    is_whole: bool,
}

impl IndexDir {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn db(&self) -> PathBuf {
        self.dir.join("db")
    }

    fn seal_file(&self) -> PathBuf {
        self.dir.join("clean")
    }

    fn bad(&self) -> PathBuf {
        self.dir.join("bad")
    }

    /// Looks at what is there, and makes the directory if it is not.
    pub(super) fn look(&self) -> io::Result<IndexDirState> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let seal = read_small(&self.seal_file(), SEAL_BYTES_MAX)?;
        let seal = seal.and_then(|bytes| serde_json::from_slice::<CleanSeal>(&bytes).ok());
        if !self.db().try_exists()? {
            return Ok(IndexDirState::Absent);
        }
        let Some(seal) = seal else { return Ok(IndexDirState::Unclean) };
        let is_same = hashes(&self.db())? == seal.files;
        let CleanSeal { totals, is_whole, .. } = seal;
        Ok(if is_same { IndexDirState::Clean { totals, is_whole } } else { IndexDirState::Changed })
    }

    /// From now on the database changes.
    pub(super) fn unseal(&self) -> io::Result<()> {
        if self.seal_file().try_exists()? {
            fs::remove_file(self.seal_file())?;
            // On disk, so that a power cut does not bring it back.
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes the index that was set aside: it is kept for the operator until the next one was
    /// closed in order.
    pub(super) fn forget_bad(&self) -> io::Result<()> {
        let bad = self.bad();
        if bad.try_exists()? { fs::remove_dir_all(bad) } else { Ok(()) }
    }

    /// From now on it does not.
    pub(super) fn seal(&self, totals: IndexTotals, is_whole: bool) -> io::Result<()> {
        let seal = CleanSeal { files: hashes(&self.db())?, totals, is_whole };
        let draft = self.dir.join("clean.new");
        fs::write(&draft, serde_json::to_vec(&seal)?)?;
        fs::rename(draft, self.seal_file())
    }

    /// Sets the database aside, in place of the one that was set aside before.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        let bad = self.bad();
        if bad.try_exists()? {
            fs::remove_dir_all(&bad)?;
        }
        if self.db().try_exists()? {
            fs::rename(self.db(), bad)?;
        }
        if self.seal_file().try_exists()? {
            fs::remove_file(self.seal_file())?;
        }
        Ok(())
    }
}

/// The hash of each file under a directory, by its path there.
fn hashes(dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next)? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_dir() {
                dirs.push(path);
                continue;
            }
            // Reading a pipe would take for ever, and none of ours is one.
            let hash = if kind.is_file() { hash(&path)? } else { "no file".to_owned() };
            let name = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            hashes.insert(name, hash);
        }
    }
    Ok(hashes)
}

fn hash(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher) = (File::open(path)?, DigestHasher::new(Algorithm::Sha256));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish().to_string()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The length of all files under a directory; what cannot be read has none.
pub(super) fn bytes_under(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let lens = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_under(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    lens.sum()
}

/// A database has a handful of files.
const SEAL_BYTES_MAX: u64 = 1 << 20;

const READ_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_believed_only_as_it_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let place = IndexDir::new(dir.path().join("index"));
        assert_eq!(place.look().unwrap(), IndexDirState::Absent);
        fs::create_dir_all(place.db().join("blobs")).unwrap();
        fs::write(place.db().join("blobs/1"), b"one").unwrap();
        assert_eq!(place.look().unwrap(), IndexDirState::Unclean);

        let totals = IndexTotals { blobs: 1, bytes: 2, manifests: 3, tags: 4 };
        place.seal(totals, true).unwrap();
        assert_eq!(place.look().unwrap(), IndexDirState::Clean { totals, is_whole: true });
        fs::write(place.db().join("blobs/1"), b"two").unwrap();
        assert_eq!(place.look().unwrap(), IndexDirState::Changed);
        fs::write(place.db().join("blobs/1"), b"one").unwrap();
        fs::write(place.db().join("more"), b"").unwrap();
        assert_eq!(place.look().unwrap(), IndexDirState::Changed);
        fs::remove_dir_all(place.db()).unwrap();
        assert_eq!(place.look().unwrap(), IndexDirState::Absent);
    }

    #[test]
    fn one_is_set_aside_at_most_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let place = IndexDir::new(dir.path().join("index"));
        for number in ["1", "2"] {
            fs::create_dir_all(place.db()).unwrap();
            fs::write(place.db().join(number), b"").unwrap();
            place.set_aside().unwrap();
        }
        assert!(place.bad().join("2").exists() && !place.bad().join("1").exists());
        assert_eq!(place.look().unwrap(), IndexDirState::Absent);
        place.forget_bad().unwrap();
        assert!(!place.bad().exists());
    }
}
