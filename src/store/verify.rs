//! The only place where bytes become verified.
//!
//! A [`VerifiedContent`] value exists only if its bytes were hashed and compared here, or were put
//! under their digest's name in `blobs/` by a commit that did so, in this run of the machine and
//! not too long ago.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::error::DigestMismatch;
use super::sums::{BlockSums, SumHasher};
use crate::oci::{Algorithm, Digest};

/// Content that is known to be what its digest says.
#[derive(Clone, Debug)]
pub struct VerifiedContent<T> {
    digest: Digest,
    content: T,
}

impl<T> VerifiedContent<T> {
    /// The digest that was checked.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The content.
    pub fn content(&self) -> &T {
        &self.content
    }
}

impl VerifiedContent<Bytes> {
    /// Hashes `bytes`, which nothing says the digest of.
    pub fn hash(algorithm: Algorithm, bytes: Bytes) -> Self {
        Self { digest: Digest::of(algorithm, &bytes), content: bytes }
    }

    /// Hashes `bytes` and compares.
    pub fn check(digest: &Digest, bytes: Bytes) -> Result<Self, DigestMismatch> {
        let got = Digest::of(digest.algorithm(), &bytes);
        compare(digest, got)?;
        Ok(Self { digest: digest.clone(), content: bytes })
    }
}

/// An open file in `blobs/`.
#[derive(Clone, Debug)]
pub struct StoredFile {
    file: Arc<File>,
    len: u64,
}

impl StoredFile {
    /// The file, open for reading.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is the empty blob, a real and frequent one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A blob that can be served.
pub type StoredBlob = VerifiedContent<StoredFile>;

impl StoredBlob {
    /// A file that was found under its digest's name, where only a commit puts one, and that has a
    /// stamp that only a verification gives, or was verified again to its last byte.
    pub(super) fn found(digest: Digest, file: Arc<File>, len: u64) -> Self {
        Self { digest, content: StoredFile { file, len } }
    }

    /// A file all of whose bytes passed through `hasher`, and the checksums of its blocks.
    pub(super) fn hashed(
        digest: &Digest,
        hasher: SumHasher,
        file: Arc<File>,
        len: u64,
    ) -> Result<(Self, BlockSums), DigestMismatch> {
        let (got, sums) = hasher.finish();
        compare(digest, got)?;
        Ok((Self { digest: digest.clone(), content: StoredFile { file, len } }, sums))
    }
}

fn compare(want: &Digest, got: Digest) -> Result<(), DigestMismatch> {
    if *want == got { Ok(()) } else { Err(DigestMismatch { want: want.clone(), got }) }
}
