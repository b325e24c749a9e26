//! The format of the index's rows. They are few and small, because each one costs memory.
//!
//! | key | value |
//! | --- | --- |
//! | `b`, algorithm, hash | size (8 bytes), last use (4 bytes) |
//! | `m`, registry, 0, repository, 0, algorithm, hash | last use |
//! | `t`, registry, 0, repository, 0, tag | last use |
//!
//! Numbers are little-endian, times are seconds since 1970. No name contains a zero byte.

use std::time::SystemTime;

use crate::clock::unix_seconds;
use crate::oci::{Algorithm, Digest, RegistryName, RepositoryName, Tag};

/// Something that has a row.
#[derive(Clone, Copy, Debug)]
pub enum IndexRow<'a> {
    /// Content by its digest, manifests included.
    Blob(&'a Digest),
    /// A manifest of a repository.
    Manifest(&'a RegistryName, &'a RepositoryName, &'a Digest),
    /// A tag of a repository.
    Tag(&'a RegistryName, &'a RepositoryName, &'a Tag),
}

/// A row's name.
pub(super) type RowKey = Box<[u8]>;

impl IndexRow<'_> {
    /// Writes its name to `key`, in place of what is there.
    pub(super) fn name(self, key: &mut Vec<u8>) {
        key.clear();
        match self {
            Self::Blob(digest) => {
                key.push(BLOB);
                push_digest(key, digest);
            }
            Self::Manifest(registry, repository, digest) => {
                push_repository(key, MANIFEST, registry.as_str(), repository.as_str());
                push_digest(key, digest);
            }
            Self::Tag(registry, repository, tag) => {
                push_repository(key, TAG, registry.as_str(), repository.as_str());
                key.extend_from_slice(tag.as_str().as_bytes());
            }
        }
    }

    pub(super) fn key(self) -> RowKey {
        let mut key = Vec::new();
        self.name(&mut key);
        key.into()
    }
}

/// The common prefix of the keys of blobs whose hash begins with this byte.
pub(super) fn blobs_prefix(algorithm: Algorithm, first: u8) -> Vec<u8> {
    vec![BLOB, code(algorithm), first]
}

/// The common prefix of the keys of a repository's manifests or tags.
pub(super) fn repository_prefix(kind: u8, registry: &str, repository: &str) -> Vec<u8> {
    let mut prefix = Vec::new();
    push_repository(&mut prefix, kind, registry, repository);
    prefix
}

fn push_repository(key: &mut Vec<u8>, kind: u8, registry: &str, repository: &str) {
    key.push(kind);
    for name in [registry, repository] {
        key.extend_from_slice(name.as_bytes());
        key.push(0);
    }
}

fn push_digest(key: &mut Vec<u8>, digest: &Digest) {
    key.push(code(digest.algorithm()));
    key.extend(digest.hash());
}

/// The name in a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowName {
    Blob(Digest),
    Manifest { registry: RegistryName, repository: RepositoryName, digest: Digest },
    Tag { registry: RegistryName, repository: RepositoryName, tag: Tag },
}

impl RowName {
    /// `None` for what no [`IndexRow`] makes.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        if *kind == BLOB {
            return digest_of(rest).map(Self::Blob);
        }
        let mut parts = rest.splitn(3, |byte| *byte == 0);
        let registry = text(parts.next()?)?.parse().ok()?;
        let repository = text(parts.next()?)?.parse().ok()?;
        let last = parts.next()?;
        match *kind {
            MANIFEST => Some(Self::Manifest { registry, repository, digest: digest_of(last)? }),
            TAG => Some(Self::Tag { registry, repository, tag: text(last)?.parse().ok()? }),
            _ => None,
        }
    }

    /// The repository, where it is of one.
    pub(super) fn into_names(self) -> Option<(RegistryName, RepositoryName)> {
        match self {
            Self::Blob(_) => None,
            Self::Manifest { registry, repository, .. }
            | Self::Tag { registry, repository, .. } => Some((registry, repository)),
        }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn digest_of(bytes: &[u8]) -> Option<Digest> {
    let (code, hash) = bytes.split_first()?;
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| self::code(*algorithm) == *code)?;
    (hash.len() * 2 == algorithm.hex_len()).then(|| Digest::of_hash(algorithm, hash))
}

fn code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    }
}

/// The facts about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowFacts {
    /// In bytes; 0 for all but blobs.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) used: u32,
}

impl RowFacts {
    pub(super) fn to_value(self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(12);
        if key.first() == Some(&BLOB) {
            value.extend_from_slice(&self.size.to_le_bytes());
        }
        value.extend_from_slice(&self.used.to_le_bytes());
        value
    }

    /// `None` for what is no value of this key.
    pub(super) fn of(key: &[u8], value: &[u8]) -> Option<Self> {
        let (size, used) = match key.first()? {
            &BLOB => value.split_first_chunk::<8>()?,
            _ => (&[0; 8], value),
        };
        let used = u32::from_le_bytes(used.try_into().ok()?);
        Some(Self { size: u64::from_le_bytes(*size), used })
    }
}

/// Seconds since 1970, for the next 80 years.
pub(super) fn seconds(time: SystemTime) -> u32 {
    u32::try_from(unix_seconds(time)).unwrap_or(u32::MAX)
}

pub(super) const BLOB: u8 = b'b';
pub(super) const MANIFEST: u8 = b'm';
pub(super) const TAG: u8 = b't';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_was_made_of() {
        let registry: RegistryName = "harbor.corp:8443".parse().unwrap();
        let repository: RepositoryName = "library/alpine".parse().unwrap();
        let tag: Tag = "3.20".parse().unwrap();
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, b"x");
            let key = IndexRow::Blob(&digest).key();
            assert_eq!(RowName::of(&key), Some(RowName::Blob(digest.clone())));
            let first = u8::from_str_radix(&digest.hex()[..2], 16).unwrap();
            assert!(key.starts_with(&blobs_prefix(algorithm, first)));

            let key = IndexRow::Manifest(&registry, &repository, &digest).key();
            let prefix = repository_prefix(MANIFEST, registry.as_str(), repository.as_str());
            assert!(key.starts_with(&prefix));
            let (registry, repository) = (registry.clone(), repository.clone());
            assert_eq!(RowName::of(&key), Some(RowName::Manifest { registry, repository, digest }));
        }
        let key = IndexRow::Tag(&registry, &repository, &tag).key();
        assert_eq!(RowName::of(&key), Some(RowName::Tag { registry, repository, tag }));
    }

    #[test]
    fn what_nobody_made_says_nothing() {
        let blob = IndexRow::Blob(&Digest::of(Algorithm::Sha256, b"x")).key();
        for key in
            [&b""[..], b"b", b"x\x01", &blob[..5], &[&blob[..], b"1"].concat(), b"t\0", b"ta\0b"]
        {
            assert_eq!(RowName::of(key), None, "{key:?}");
        }
        let facts = RowFacts { size: 7, used: 9 };
        let value = facts.to_value(&blob);
        assert_eq!(RowFacts::of(&blob, &value), Some(facts));
        assert_eq!(RowFacts::of(&blob, &value[..11]), None);
        assert_eq!(RowFacts::of(b"t", &value), None);
        assert_eq!(RowFacts::of(b"t", &facts.to_value(b"t")), Some(RowFacts { size: 0, used: 9 }));
    }
}
