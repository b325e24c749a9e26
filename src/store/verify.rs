//! The only place where bytes become verified.
//!
//! A [`Verified`] value exists only if its bytes were hashed and compared here, or were put under
//! their digest's name in `blobs/` by a commit that did so.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::Mismatch;
use crate::oci::{Digest, Hasher};

/// Content that is known to be what its digest says.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    digest: Digest,
    content: T,
}

impl<T> Verified<T> {
    /// The digest that was checked.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The content.
    pub fn content(&self) -> &T {
        &self.content
    }
}

impl Verified<Bytes> {
    /// Hashes `bytes` and compares.
    pub fn check(digest: &Digest, bytes: Bytes) -> Result<Self, Mismatch> {
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
pub type StoredBlob = Verified<StoredFile>;

impl StoredBlob {
    /// A file that was found under its digest's name, where only a commit puts one.
    pub(super) fn found(digest: Digest, file: File, len: u64) -> Self {
        Self { digest, content: StoredFile { file: Arc::new(file), len } }
    }

    /// A file all of whose bytes passed through `hasher`.
    pub(super) fn hashed(
        digest: &Digest,
        hasher: Hasher,
        file: Arc<File>,
        len: u64,
    ) -> Result<Self, Mismatch> {
        compare(digest, hasher.finish())?;
        Ok(Self { digest: digest.clone(), content: StoredFile { file, len } })
    }
}

fn compare(want: &Digest, got: Digest) -> Result<(), Mismatch> {
    if *want == got { Ok(()) } else { Err(Mismatch { want: want.clone(), got }) }
}
