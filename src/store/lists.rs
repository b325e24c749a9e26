//! Lists as the upstream last gave them: tags and referrers, a page in each file.
//!
//! A file is a line of JSON, and behind it the body as it came.

use std::fs;
use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Store;
use super::absent::make_room;
use super::records::{absent_is_fine, from_unix_seconds, read_small};
use crate::clock::unix_seconds;
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName};

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRecord {
    /// When the upstream last said so.
    pub checked_at: SystemTime,
    /// Its `Content-Type`.
    pub media_type: String,
    /// Its `OCI-Filters-Applied`.
    pub filters_applied: Option<String>,
    /// The query of the page behind it.
    pub next: Option<String>,
    /// As it came.
    pub body: Bytes,
}

/// All methods block and belong on the blocking pool. `name` is the list's path in the repository
/// and the page's query.
impl Store {
    /// The longest body that is kept, in bytes.
    pub const LIST_BYTES_MAX: usize = 4 << 20;

    /// The page of this name.
    pub fn list(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        name: &str,
    ) -> io::Result<Option<ListRecord>> {
        let path = self.layout.list(registry, repository, &hash(name));
        let bytes = read_small(&path, FILE_BYTES_MAX)?.map(Bytes::from);
        Ok(bytes.and_then(|bytes| read(name, &bytes)))
    }

    /// Keeps a page, over whatever was known by its name.
    pub fn put_list(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        name: &str,
        record: &ListRecord,
    ) -> io::Result<()> {
        self.drop_absent(registry, repository, name)?;
        let path = self.layout.list(registry, repository, &hash(name));
        let head = ListHead {
            name: name.to_owned(),
            checked_at: unix_seconds(record.checked_at),
            media_type: record.media_type.clone(),
            filters_applied: record.filters_applied.clone(),
            next: record.next.clone(),
            length: record.body.len(),
        };
        let head = serde_json::to_vec(&head)?;
        let _reservation = self.space.reserve((head.len() + record.body.len()) as u64)?;
        if !path.try_exists()? {
            make_room(&path, LISTS_MAX)?;
        }
        self.write_record(&path, &[&head, b"\n", &record.body])
    }

    /// Forgets a page, and that it was absent.
    pub fn drop_list(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        name: &str,
    ) -> io::Result<()> {
        let path = self.layout.list(registry, repository, &hash(name));
        absent_is_fine(fs::remove_file(path))?;
        self.drop_absent(registry, repository, name)
    }

    /// Forgets every page of every list of a repository. Of pages that were absent only the first
    /// of the tags is found.
    pub fn drop_lists(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(self.layout.lists(registry, repository)))?;
        self.drop_absent(registry, repository, "tags/list")
    }
}

fn read(name: &str, bytes: &Bytes) -> Option<ListRecord> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: ListHead = serde_json::from_slice(&bytes[..end]).ok()?;
    let body = bytes.slice(end + 1..);
    if head.name != name || head.length != body.len() {
        return None;
    }
    Some(ListRecord {
        checked_at: from_unix_seconds(head.checked_at)?,
        media_type: head.media_type,
        filters_applied: head.filters_applied,
        next: head.next,
        body,
    })
}

#[derive(Serialize, Deserialize)]
struct ListHead {
    /// So that no hash decides alone.
    name: String,
    /// Seconds since 1970.
    checked_at: u64,
    media_type: String,
    filters_applied: Option<String>,
    next: Option<String>,
    length: usize,
}

/// How many pages are kept of one repository: clients choose where a page begins.
const LISTS_MAX: usize = 256;

/// A body, and a line with two queries in it.
const FILE_BYTES_MAX: u64 = Store::LIST_BYTES_MAX as u64 + (256 << 10);

fn hash(name: &str) -> Digest {
    Digest::of(Algorithm::Sha256, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BootClock, StoreOptions};

    #[test]
    fn a_list_is_found_as_it_was_put_and_under_its_name_only() {
        let dir = tempfile::tempdir().unwrap();
        let fill_keep = std::time::Duration::from_secs(1);
        let verify_every = fill_keep;
        let dir = dir.path().join("cache");
        let options = StoreOptions { dir, min_free: 0, fill_keep, verify_every, index: None };
        let store = Store::open(options, BootClock::default()).unwrap();
        let (registry, repository) = ("a.b".parse().unwrap(), "c/d".parse().unwrap());
        let record = ListRecord {
            checked_at: from_unix_seconds(5).unwrap(),
            media_type: "a/b".to_owned(),
            filters_applied: None,
            next: Some("n=1&last=x".to_owned()),
            body: Bytes::from_static(b"{\n}\n"),
        };
        store.put_list(&registry, &repository, "tags/list", &record).unwrap();

        let found = |name| store.list(&registry, &repository, name).unwrap();
        assert_eq!(found("tags/list"), Some(record));
        assert_eq!(found("tags/list?n=1"), None);
        store.drop_list(&registry, &repository, "tags/list").unwrap();
        assert_eq!(found("tags/list"), None);
    }

    #[test]
    fn what_was_cut_off_or_renamed_is_no_list() {
        let head = br#"{"name":"x","checked_at":1,"media_type":"a/b","length":2}"#;
        let file = |body: &[u8]| Bytes::from([&head[..], b"\n", body].concat());
        assert!(read("x", &file(b"{}")).is_some());
        assert!(read("y", &file(b"{}")).is_none());
        assert!(read("x", &file(b"{")).is_none());
        assert!(read("x", &Bytes::new()).is_none());
        assert!(read("x", &Bytes::from_static(head)).is_none());
    }
}
