//! Archives as tests want them: those of an export with something changed, and others from scratch.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use tar::{Archive, EntryType, Header};

/// A file in an archive, or something in the place of one.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub kind: EntryType,
    pub bytes: Vec<u8>,
    /// The size in the header, where it is not that of the bytes.
    pub claims: Option<u64>,
    pub link: String,
}

impl Entry {
    pub fn file(name: &str, bytes: &[u8]) -> Self {
        Self::of(EntryType::Regular, name, bytes)
    }

    pub fn of(kind: EntryType, name: &str, bytes: &[u8]) -> Self {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        Self { name, kind, bytes, claims: None, link: String::new() }
    }

    pub fn link(name: &str, target: &str) -> Self {
        Self { link: target.to_owned(), ..Self::of(EntryType::Symlink, name, b"") }
    }
}

/// The files of an archive.
pub fn entries(archive: &Path) -> Vec<Entry> {
    let mut archive = Archive::new(fs::File::open(archive).unwrap());
    let entry = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        Entry::file(&name, &bytes)
    };
    archive.entries().unwrap().map(entry).collect()
}

/// An archive of these entries, whose names are written as they are.
pub fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(0o644);
        header.set_size(entry.claims.unwrap_or(entry.bytes.len() as u64));
        if !entry.link.is_empty() {
            header.set_link_name_literal(&entry.link).unwrap();
        }
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(&entry.bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
