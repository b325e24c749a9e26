//! What records say: the types, and their form on disk.
//!
//! A record that cannot be read is as good as absent, for what it said can be asked again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::unix_seconds;
use crate::oci::{Digest, MediaType};

/// What a tag was last heard to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRecord {
    /// The manifest that it named; `None` when there was no such tag.
    pub digest: Option<Digest>,
    /// When the upstream last said so.
    pub checked_at: SystemTime,
}

/// A page of a list: of tags, or of referrers.
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
    /// The body, verbatim, of at most [`ListRecord::BODY_BYTES_MAX`].
    pub body: Bytes,
}

/// That a tag or a list was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentRecord {
    /// When the upstream last said so.
    pub checked_at: SystemTime,
    /// The body of the upstream's error, where that is worth telling.
    pub said: Option<Bytes>,
}

/// What a repository is known to have: digests, and sizes in bytes where a manifest states them.
pub type MemberSizes = HashMap<Digest, Option<u64>>;

#[derive(Serialize, Deserialize)]
struct TagFile {
    digest: String,
    /// Seconds since 1970.
    checked_at: u64,
}

/// The bytes of the record of a tag that exists.
pub(super) fn tag_to_bytes(digest: &Digest, checked_at: SystemTime) -> io::Result<Vec<u8>> {
    let file = TagFile { digest: digest.to_string(), checked_at: unix_seconds(checked_at) };
    Ok(serde_json::to_vec(&file)?)
}

pub(super) fn tag_from_bytes(bytes: &[u8]) -> Option<TagRecord> {
    let file: TagFile = serde_json::from_slice(bytes).ok()?;
    let digest = Some(file.digest.parse().ok()?);
    Some(TagRecord { digest, checked_at: from_unix_seconds(file.checked_at)? })
}

#[derive(Serialize, Deserialize)]
struct ManifestFile {
    media_type: String,
}

pub(super) fn media_type_to_bytes(media_type: &MediaType) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&ManifestFile { media_type: media_type.to_string() })?)
}

pub(super) fn media_type_from_bytes(bytes: &[u8]) -> Option<MediaType> {
    serde_json::from_slice::<ManifestFile>(bytes).ok()?.media_type.parse().ok()
}

#[derive(Serialize, Deserialize)]
struct AbsentFile {
    /// The repository and what of it, so that no hash decides alone.
    name: String,
    /// Seconds since 1970.
    checked_at: u64,
    said: Option<String>,
}

impl AbsentRecord {
    pub(super) fn to_bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let said = self.said.as_ref().map(|said| String::from_utf8_lossy(said).into_owned());
        let (name, checked_at) = (name.to_owned(), unix_seconds(self.checked_at));
        Ok(serde_json::to_vec(&AbsentFile { name, checked_at, said })?)
    }

    pub(super) fn from_bytes(name: &str, bytes: &[u8]) -> Option<Self> {
        let file: AbsentFile = serde_json::from_slice(bytes).ok()?;
        let checked_at = from_unix_seconds(file.checked_at)?;
        (file.name == name).then(|| Self { checked_at, said: file.said.map(Bytes::from) })
    }
}

/// The first line of a list's file; behind it is the body.
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

impl ListRecord {
    /// The longest body that is kept, in bytes: half a million tags of a CI, which some registries
    /// send in one answer.
    pub const BODY_BYTES_MAX: usize = 32 << 20;

    pub(super) fn to_bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&ListHead {
            name: name.to_owned(),
            checked_at: unix_seconds(self.checked_at),
            media_type: self.media_type.clone(),
            filters_applied: self.filters_applied.clone(),
            next: self.next.clone(),
            length: self.body.len(),
        })?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    pub(super) fn from_bytes(name: &str, bytes: &Bytes) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: ListHead = serde_json::from_slice(&bytes[..end]).ok()?;
        let body = bytes.slice(end + 1..);
        if head.name != name || head.length != body.len() {
            return None;
        }
        Some(Self {
            checked_at: from_unix_seconds(head.checked_at)?,
            media_type: head.media_type,
            filters_applied: head.filters_applied,
            next: head.next,
            body,
        })
    }
}

/// The blobs that the upstream said a repository has, or has no longer.
#[derive(Debug, Default)]
pub(super) struct MemberLog {
    pub(super) present: HashSet<Digest>,
    pub(super) gone: HashSet<Digest>,
}

impl MemberLog {
    /// The line that says that a blob is there.
    pub(super) fn present_line(digest: &Digest, at: SystemTime) -> String {
        format!("{digest} {}\n", unix_seconds(at))
    }

    /// The line that says that a blob is gone.
    pub(super) fn gone_line(digest: &Digest, at: SystemTime) -> String {
        format!("!{digest} {}\n", unix_seconds(at))
    }

    /// What the lines say in the end. One that cannot be read, as a torn one, is ignored.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut log = Self::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            let text = line.split(' ').next().unwrap_or_default();
            let (is_gone, text) = text.strip_prefix('!').map_or((false, text), |it| (true, it));
            let Ok(digest) = text.parse::<Digest>() else { continue };
            if is_gone {
                log.present.remove(&digest);
                log.gone.insert(digest);
            } else {
                log.gone.remove(&digest);
                log.present.insert(digest);
            }
        }
        log
    }
}

fn from_unix_seconds(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_was_cut_off_or_has_another_name_is_absent() {
        let head = br#"{"name":"x","checked_at":1,"media_type":"a/b","length":2}"#;
        let file = |body: &[u8]| Bytes::from([&head[..], b"\n", body].concat());
        assert!(ListRecord::from_bytes("x", &file(b"{}")).is_some());
        assert!(ListRecord::from_bytes("y", &file(b"{}")).is_none());
        assert!(ListRecord::from_bytes("x", &file(b"{")).is_none());
        assert!(ListRecord::from_bytes("x", &Bytes::new()).is_none());
        assert!(ListRecord::from_bytes("x", &Bytes::from_static(head)).is_none());
    }
}
