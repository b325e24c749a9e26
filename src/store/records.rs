//! The content of records: the types, and their form on disk.
//!
//! A record that cannot be read is as good as absent, for what it said can be asked again. It ends
//! with a checksum, so that a bit that flips does not make it say something else, in a field that
//! builds without one ignore. Their records have none, and are believed.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::{BootId, unix_seconds};
use crate::oci::{Algorithm, Digest, DigestHasher, MediaType, Tag};

/// The digest that a tag had when the upstream was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRecord {
    /// The manifest that it named; `None` when there was no such tag.
    pub digest: Option<Digest>,
    /// When the upstream last said so.
    pub checked_at: SystemTime,
    /// Whether an earlier run of the machine put it. If that ended by a power cut, later records
    /// may be lost, and this one be back in their place. Not looked at when it is put.
    pub is_doubtful: bool,
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
    /// Whether an earlier run of the machine put it. If that ended by a power cut, later records
    /// may be lost, and this one be back in their place. Not looked at when it is put.
    pub is_doubtful: bool,
}

/// A tag or a list that the upstream did not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentRecord {
    /// When the upstream last said so.
    pub checked_at: SystemTime,
    /// The body of the upstream's error, where that is worth telling.
    pub said: Option<Bytes>,
    /// Whether an earlier run of the machine put it. If that ended by a power cut, later records
    /// may be lost, and this one be back in their place. Not looked at when it is put.
    pub is_doubtful: bool,
}

/// The members of a repository: digests, and sizes in bytes where a manifest states them.
pub type MemberSizes = HashMap<Digest, Option<u64>>;

#[derive(Serialize, Deserialize)]
struct TagFile {
    digest: String,
    /// Seconds since 1970.
    checked_at: u64,
    /// See [`BootId`]; 0 in builds that did not write it.
    #[serde(default)]
    boot: u32,
}

/// The bytes of the record of a tag that exists.
pub(super) fn tag_to_bytes(
    digest: &Digest,
    checked_at: SystemTime,
    boot: BootId,
) -> io::Result<Vec<u8>> {
    let (digest, checked_at) = (digest.to_string(), unix_seconds(checked_at));
    with_sum(&TagFile { digest, checked_at, boot: boot.number() }, b"")
}

pub(super) fn tag_from_bytes(bytes: &[u8], boot: BootId) -> Option<TagRecord> {
    let file: TagFile = without_sum(bytes, b"")?;
    let digest = Some(file.digest.parse().ok()?);
    let checked_at = from_unix_seconds(file.checked_at)?;
    Some(TagRecord { digest, checked_at, is_doubtful: is_of_another(file.boot, boot) })
}

fn is_of_another(written: u32, boot: BootId) -> bool {
    written != 0 && written != boot.number()
}

#[derive(Serialize, Deserialize)]
struct ManifestFile {
    media_type: String,
}

pub(super) fn media_type_to_bytes(media_type: &MediaType) -> io::Result<Vec<u8>> {
    with_sum(&ManifestFile { media_type: media_type.to_string() }, b"")
}

pub(super) fn media_type_from_bytes(bytes: &[u8]) -> Option<MediaType> {
    without_sum::<ManifestFile>(bytes, b"")?.media_type.parse().ok()
}

#[derive(Serialize, Deserialize)]
struct AbsentFile {
    /// The repository and what of it, so that no hash decides alone.
    name: String,
    /// Seconds since 1970.
    checked_at: u64,
    said: Option<String>,
    /// See [`BootId`]; 0 in builds that did not write it.
    #[serde(default)]
    boot: u32,
}

impl AbsentRecord {
    pub(super) fn to_bytes(&self, name: &str, boot: BootId) -> io::Result<Vec<u8>> {
        let said = self.said.as_ref().map(|said| String::from_utf8_lossy(said).into_owned());
        let (name, checked_at) = (name.to_owned(), unix_seconds(self.checked_at));
        with_sum(&AbsentFile { name, checked_at, said, boot: boot.number() }, b"")
    }

    pub(super) fn from_bytes(name: &str, bytes: &[u8], boot: BootId) -> Option<Self> {
        let file: AbsentFile = without_sum(bytes, b"")?;
        let checked_at = from_unix_seconds(file.checked_at)?;
        let is_doubtful = is_of_another(file.boot, boot);
        let said = file.said.map(Bytes::from);
        (file.name == name).then_some(Self { checked_at, said, is_doubtful })
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
    /// See [`BootId`]; 0 in builds that did not write it.
    #[serde(default)]
    boot: u32,
}

impl ListRecord {
    /// The longest body that is kept, in bytes: half a million tags of a CI, which some registries
    /// send in one answer.
    pub const BODY_BYTES_MAX: usize = 32 << 20;

    pub(super) fn to_bytes(&self, name: &str, boot: BootId) -> io::Result<Vec<u8>> {
        let head = ListHead {
            name: name.to_owned(),
            checked_at: unix_seconds(self.checked_at),
            media_type: self.media_type.clone(),
            filters_applied: self.filters_applied.clone(),
            next: self.next.clone(),
            length: self.body.len(),
            boot: boot.number(),
        };
        let mut bytes = with_sum(&head, &self.body)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    pub(super) fn from_bytes(name: &str, bytes: &Bytes, boot: BootId) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let body = bytes.slice(end + 1..);
        let head: ListHead = without_sum(&bytes[..end], &body)?;
        if head.name != name || head.length != body.len() {
            return None;
        }
        Some(Self {
            checked_at: from_unix_seconds(head.checked_at)?,
            media_type: head.media_type,
            filters_applied: head.filters_applied,
            next: head.next,
            body,
            is_doubtful: is_of_another(head.boot, boot),
        })
    }
}

/// The JSON of a record, with the checksum of it and of what is behind it as its last field.
fn with_sum(record: &impl Serialize, behind: &[u8]) -> io::Result<Vec<u8>> {
    let mut json = serde_json::to_vec(record)?;
    // The brace that ends it.
    json.pop();
    let sum = sum_of(&[&json, behind]);
    json.extend_from_slice(format!("{SUM_BEGIN}{sum}{SUM_END}").as_bytes());
    Ok(json)
}

/// The record, unless its checksum is another one.
fn without_sum<T: DeserializeOwned>(json: &[u8], behind: &[u8]) -> Option<T> {
    let field = SUM_BEGIN.len() + SUM_LEN + SUM_END.len();
    let summed = json.split_at_checked(json.len().saturating_sub(field)).and_then(|(said, sum)| {
        let sum = sum.strip_prefix(SUM_BEGIN.as_bytes())?.strip_suffix(SUM_END.as_bytes())?;
        Some((said, sum))
    });
    if summed.is_some_and(|(said, sum)| sum_of(&[said, behind]).as_bytes() != sum) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

pub(super) fn sum_of(parts: &[&[u8]]) -> String {
    let mut hasher = DigestHasher::new(Algorithm::Sha256);
    for part in parts {
        hasher.update(part);
    }
    hasher.finish().hex()[..SUM_LEN].to_owned()
}

/// The record name of a tag's absence.
pub(super) fn absent_tag(tag: &Tag, view: Option<&str>) -> String {
    match view {
        None => format!("manifests/{tag}"),
        Some(view) => format!("manifests/{tag} {view}"),
    }
}

/// Tags and manifest types take a few hundred bytes.
pub(super) const RECORD_BYTES_MAX: u64 = 64 << 10;

const SUM_BEGIN: &str = ",\"sum\":\"";
const SUM_END: &str = "\"}";

/// Hexadecimal digits of a SHA-256: against accidents, not against attackers, who can write any
/// sum.
const SUM_LEN: usize = 16;

fn from_unix_seconds(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::member_log::MemberLog;

    type Read = fn(&[u8]) -> Option<String>;

    fn boot() -> BootId {
        BootId::of_id("1").unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Whatever bit of it flips, a record says what it said, or nothing.
    #[test]
    fn no_flipped_bit_makes_a_record_say_something_else() {
        let digest = Digest::of(Algorithm::Sha256, b"a");
        let list = ListRecord {
            checked_at: at(12),
            media_type: "application/json".to_owned(),
            filters_applied: None,
            next: Some("last=b&n=2".to_owned()),
            body: Bytes::from_static(br#"{"tags":["a","b"]}"#),
            is_doubtful: false,
        };
        let said = Some(Bytes::from_static(b"{}"));
        let absent = AbsentRecord { checked_at: at(12), said, is_doubtful: false };
        let media_type: MediaType = "application/vnd.oci.image.index.v1+json".parse().unwrap();
        let read: [(Vec<u8>, Read); 5] = [
            (tag_to_bytes(&digest, at(12), boot()).unwrap(), |bytes| {
                tag_from_bytes(bytes, boot()).map(|it| format!("{it:?}"))
            }),
            (media_type_to_bytes(&media_type).unwrap(), |bytes| {
                media_type_from_bytes(bytes).map(|it| format!("{it:?}"))
            }),
            (list.to_bytes("x", boot()).unwrap(), |bytes| {
                let bytes = Bytes::copy_from_slice(bytes);
                ListRecord::from_bytes("x", &bytes, boot()).map(|it| format!("{it:?}"))
            }),
            (absent.to_bytes("x", boot()).unwrap(), |bytes| {
                AbsentRecord::from_bytes("x", bytes, boot()).map(|it| format!("{it:?}"))
            }),
            (MemberLog::gone_line(&digest, at(12)).into_bytes(), |bytes| {
                let log = MemberLog::read(bytes);
                let is_empty = log.present.is_empty() && log.gone.is_empty();
                (!is_empty).then(|| format!("{log:?}"))
            }),
        ];
        for (bytes, read) in read {
            let right = read(&bytes).expect("it can be read");
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let now = read(&flipped);
                assert!(now.is_none() || now == Some(right.clone()), "{now:?} for {right}");
            }
        }
    }

    /// As builds without checksums wrote them.
    #[test]
    fn records_without_a_checksum_are_believed() {
        let digest = Digest::of(Algorithm::Sha256, b"a");
        let tag = format!(r#"{{"digest":"{digest}","checked_at":12}}"#);
        let read = tag_from_bytes(tag.as_bytes(), boot()).unwrap();
        let named = Some(digest.clone());
        assert_eq!(read, TagRecord { digest: named, checked_at: at(12), is_doubtful: false });
        assert!(media_type_from_bytes(br#"{"media_type":"a/b"}"#).is_some());
        let absent = br#"{"name":"x","checked_at":12,"said":null}"#;
        assert!(AbsentRecord::from_bytes("x", absent, boot()).is_some());
        let log = MemberLog::read(format!("{digest} 12\n!{digest} 13\n").as_bytes());
        assert!(log.gone.contains(&digest) && log.present.is_empty());
    }

    #[test]
    fn a_list_that_was_cut_off_or_has_another_name_is_absent() {
        let head = br#"{"name":"x","checked_at":1,"media_type":"a/b","length":2}"#;
        let file = |body: &[u8]| Bytes::from([&head[..], b"\n", body].concat());
        assert!(ListRecord::from_bytes("x", &file(b"{}"), boot()).is_some());
        assert!(ListRecord::from_bytes("y", &file(b"{}"), boot()).is_none());
        assert!(ListRecord::from_bytes("x", &file(b"{"), boot()).is_none());
        assert!(ListRecord::from_bytes("x", &Bytes::new(), boot()).is_none());
        assert!(ListRecord::from_bytes("x", &Bytes::from_static(head), boot()).is_none());
    }
}
