//! What a registry was heard not to have: a tag, or a list.
//!
//! Kept so that the same 404 can be given while the upstream cannot be asked. Clients make up the
//! names of what does not exist, so these records are the only ones whose number the upstream does
//! not bound; a limit does, and the oldest go first.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Store;
use super::records::{absent_is_fine, from_unix_seconds, read_small};
use crate::clock::unix_seconds;
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName};

/// That something was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentRecord {
    /// When the upstream last said so.
    pub checked_at: SystemTime,
    /// The error that it said so with, where that is worth telling.
    pub said: Option<Bytes>,
}

/// All methods block and belong on the blocking pool.
impl Store {
    /// Whether `what` of the repository is known to be absent.
    pub fn absent(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        what: &str,
    ) -> io::Result<Option<AbsentRecord>> {
        let name = name(repository, what);
        let bytes = read_small(&self.layout.absent(registry, &hash(&name)), RECORD_BYTES_MAX)?;
        let file = bytes.and_then(|bytes| serde_json::from_slice::<AbsentFile>(&bytes).ok());
        Ok(file.filter(|file| file.name == name).and_then(|file| {
            let checked_at = from_unix_seconds(file.checked_at)?;
            Some(AbsentRecord { checked_at, said: file.said.map(Bytes::from) })
        }))
    }

    /// Notes that the repository does not have `what`.
    pub fn put_absent(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        what: &str,
        record: &AbsentRecord,
    ) -> io::Result<()> {
        let name = name(repository, what);
        let path = self.layout.absent(registry, &hash(&name));
        if !path.try_exists()? {
            make_room(&path, ABSENT_MAX)?;
        }
        let said = record.said.as_ref().map(|said| String::from_utf8_lossy(said).into_owned());
        let file = AbsentFile { name, checked_at: unix_seconds(record.checked_at), said };
        self.write_record(&path, &[&serde_json::to_vec(&file)?])
    }

    /// Forgets that `what` was absent.
    pub fn drop_absent(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        what: &str,
    ) -> io::Result<()> {
        let path = self.layout.absent(registry, &hash(&name(repository, what)));
        absent_is_fine(fs::remove_file(path))
    }
}

/// Sees to it that beside `path` there are fewer than `max` files. A tenth of them goes at a time,
/// the oldest, so that not every new one has to look at the age of all.
pub(super) fn make_room(path: &Path, max: usize) -> io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().collect::<Vec<_>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if entries.len() < max {
        return Ok(());
    }
    let aged = entries.iter().map(|entry| {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        (modified.unwrap_or(SystemTime::UNIX_EPOCH), entry.path())
    });
    let mut aged: Vec<_> = aged.collect();
    aged.sort();
    for (_, path) in aged.iter().take(entries.len() - max + (max / 10).max(1)) {
        absent_is_fine(fs::remove_file(path))?;
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct AbsentFile {
    /// The repository and what of it, so that no hash decides alone.
    name: String,
    /// Seconds since 1970.
    checked_at: u64,
    said: Option<String>,
}

/// How many absences are kept of one registry. Each is a file of a few hundred bytes.
const ABSENT_MAX: usize = 10_000;

/// An error of at most 64 KiB, escaped as a JSON string, and its name.
const RECORD_BYTES_MAX: u64 = 512 << 10;

fn name(repository: &RepositoryName, what: &str) -> String {
    format!("{repository} {what}")
}

fn hash(name: &str) -> Digest {
    Digest::of(Algorithm::Sha256, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that asks for tags that do not exist must not fill the disk with their names.
    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let place = |number: usize| dir.path().join("of").join(number.to_string());
        let put = |number: usize| {
            make_room(&place(number), 20).unwrap();
            fs::create_dir_all(dir.path().join("of")).unwrap();
            let file = fs::File::create(place(number)).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            file.set_modified(at).unwrap();
        };
        (0..20).for_each(put);
        assert!(place(0).exists());
        put(20);
        assert!(!place(0).exists() && !place(1).exists() && place(2).exists());
        (21..100).for_each(put);
        let left = fs::read_dir(dir.path().join("of")).unwrap().count();
        assert!((10..=20).contains(&left), "{left}");
    }
}
