//! Storage of records: small values under names. One half of the store's seam; the other half is
//! content (`content.rs`).
//!
//! This file decides how a record is named and what can be done with it. Its content is decided in
//! `repository_records.rs`, its place on disk in `record_files.rs`. No path, rename or file time is
//! in the signatures, so that an object store can take the place of the files.

use std::fmt;
use std::io;

use bytes::Bytes;

use super::records::ListRecord;
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName, Tag};

/// Keeps records. All methods block.
pub(super) trait RecordStore: fmt::Debug + Send + Sync {
    /// The record of this name, of at most `max` bytes; what is longer is cut off.
    fn get(&self, name: &RecordName, max: u64) -> io::Result<Option<StoredRecord>>;

    /// Replaces a record whole, durably, if the condition holds, and there are not too many records
    /// for a new one. Returns whether it did.
    fn put(&self, name: &RecordName, bytes: &[u8], condition: PutCondition) -> io::Result<bool>;

    /// Adds lines at the end of a record, durable or not. A torn one can only be the last. Returns
    /// the bytes of the record; 0 if there are too many records for it.
    fn append(&self, name: &RecordName, lines: &str, condition: AppendCondition)
    -> io::Result<u64>;

    /// Removes a record. If there is none, it succeeds.
    fn delete(&self, name: &RecordName) -> io::Result<()>;

    /// The last parts of the names of all records and folders in a folder, in any order.
    fn list(&self, folder: &RecordName) -> io::Result<Vec<String>>;

    /// Removes the records of a folder that were put first, a tenth of them at a time, when it has
    /// more than `max`.
    fn trim(&self, folder: &RecordName, max: usize) -> io::Result<()>;
}

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredRecord {
    pub(super) bytes: Bytes,
    pub(super) version: RecordVersion,
}

/// Which of the values that a name has had in time. Means something to the store that gave it only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordVersion(Option<Digest>);

impl RecordVersion {
    /// The version of a record that does not exist.
    pub(super) const ABSENT: Self = Self(None);

    /// For a store that has no versions of its own.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Some(Digest::of(Algorithm::Sha256, bytes)))
    }
}

/// The condition under which a record is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PutCondition {
    /// Nothing.
    Always,
    /// The record still has this version.
    IfVersion(RecordVersion),
}

/// The condition under which lines are added to a record that may be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppendCondition {
    /// None: without these lines, others would be believed that are wrong.
    Always,
    /// There are not too many records.
    IfRoom,
}

/// The name of a record, or of a folder of them: parts with slashes in between, made from parsed
/// types only.
///
/// A part of ours begins with `_`, which no component of a repository's name can, so the
/// repositories `a` and `a/b` both have records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordName(String);

impl RecordName {
    /// The folder of a repository's records.
    pub(super) fn repository(registry: &RegistryName, repository: &RepositoryName) -> Self {
        Self(format!("{REGISTRIES}/{registry}/{repository}"))
    }

    /// The key that seals the ids of uploads.
    pub(super) fn session_key() -> Self {
        Self("session.key".to_owned())
    }

    /// The images that the operator has pinned by command.
    pub(super) fn pins() -> Self {
        Self("pins".to_owned())
    }

    /// The log of pulls. No registry's name begins with `_`.
    pub(super) fn pulls() -> Self {
        Self(format!("{REGISTRIES}/_pulls"))
    }

    /// The folder of what a registry is known not to have: apart from its repositories, since
    /// clients make names up and can make up any number of them.
    pub(super) fn absences(registry: &RegistryName) -> Self {
        Self(format!("{REGISTRIES}/{registry}/_absent"))
    }

    /// The folder of the lists of a registry's repositories of which nothing else is held: clients
    /// make up names, and some registries give an empty list for any.
    pub(super) fn unheld_lists(registry: &RegistryName) -> Self {
        Self(format!("{REGISTRIES}/{registry}/_unheld"))
    }

    /// The record of one of them: in one of a few places of its repository, so that all of its
    /// lists can be forgotten without a look at others.
    pub(super) fn unheld_list(
        registry: &RegistryName,
        repository: &RepositoryName,
        list: &str,
    ) -> Self {
        let hash = Digest::of(Algorithm::Sha256, list.as_bytes());
        let first = u8::from_str_radix(&hash.hex()[..2], 16).unwrap_or_default();
        let place = usize::from(first) % UNHELD_OF_REPOSITORY_MAX;
        Self::unheld_lists(registry).hashed(&format!("{repository} {place}"))
    }

    /// The records of all of them of a repository.
    pub(super) fn unheld_lists_of(
        registry: &RegistryName,
        repository: &RepositoryName,
    ) -> impl Iterator<Item = Self> {
        let folder = Self::unheld_lists(registry);
        (0..UNHELD_OF_REPOSITORY_MAX)
            .map(move |place| folder.hashed(&format!("{repository} {place}")))
    }

    /// A record or folder in this folder.
    pub(super) fn part(&self, part: &str) -> Self {
        Self(format!("{}/{part}", self.0))
    }

    /// A record that is found by the hash of a text that a client may have chosen. The record holds
    /// the text, so that no hash decides alone.
    pub(super) fn hashed(&self, text: &str) -> Self {
        // Half of a SHA-256 is enough to tell names apart.
        self.part(&Digest::of(Algorithm::Sha256, text.as_bytes()).hex()[..32])
    }

    /// The media type of a manifest that is held for this repository: `_manifests/<alg>/<hex>`.
    pub(super) fn manifest(&self, digest: &Digest) -> Self {
        self.part(MANIFESTS).part(digest.algorithm().as_str()).part(digest.hex())
    }

    /// The digest that a tag of this repository had last: `_tags/<tag>`, or `_tags-<view>/<tag>`
    /// for clients that cannot take what the full `Accept` list resolves to.
    pub(super) fn tag(&self, tag: &Tag, view: Option<&str>) -> Self {
        let folder = view.map_or_else(|| TAGS.to_owned(), |view| format!("{TAGS}-{view}"));
        self.part(&folder).part(tag.as_str())
    }

    /// The digest that a tag had last before the upstream had it no longer: `_vanished/<tag>`.
    pub(super) fn vanished(&self, tag: &Tag) -> Self {
        self.part(VANISHED).part(tag.as_str())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The length of the list of pinned images: ten thousand of them.
pub(super) const PINS_BYTES_MAX: u64 = 4 << 20;

/// The length of the log of pulls: about eight thousand of them. A longer one loses its older half.
pub(super) const PULLS_BYTES_MAX: u64 = 1 << 20;

/// How many pages of lists are kept of one repository: clients choose where a page begins.
pub(super) const LISTS_MAX: usize = 256;

/// How many absences are kept of one registry, in files of a few hundred bytes: clients make up the
/// names of what does not exist.
pub(super) const ABSENT_MAX: usize = 10_000;

/// An error of at most 64 KiB, escaped as a JSON string, and its name.
pub(super) const ABSENT_BYTES_MAX: u64 = 512 << 10;

/// A body, and a line with two queries in it.
pub(super) const LIST_BYTES_MAX: u64 = ListRecord::BODY_BYTES_MAX as u64 + (256 << 10);

/// How many lists are kept of all repositories of one registry of which nothing else is held.
pub(super) const UNHELD_MAX: usize = 10_000;

/// How many of them are kept of one repository.
const UNHELD_OF_REPOSITORY_MAX: usize = 16;

/// The longest of them, in bytes. No client can make up a longer one: the upstream has it.
pub(super) const UNHELD_BYTES_MAX: usize = 64 << 10;

/// The folder of all registries' records.
pub(super) const REGISTRIES: &str = "registries";

/// The folders of a repository's tags and manifests, the log of its other members, and the folder
/// of tags that the upstream has no longer.
pub(super) const TAGS: &str = "_tags";
pub(super) const MANIFESTS: &str = "_manifests";
pub(super) const MEMBERS: &str = "_blobs";
pub(super) const VANISHED: &str = "_vanished";
