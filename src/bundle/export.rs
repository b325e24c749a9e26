//! Images leave the cache as an OCI image layout in a tar archive.
//!
//! Files are read as they lie, and hashed while they are written: one that is damaged ends the
//! export with an error. Manifests always travel; other contents that the receiver holds stay here.
//! The same images make the same bytes, save those of a signature.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Read, Write};

use super::BundleError;
use super::archive::ArchiveWriter;
use super::layout_index::{INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, LayoutIndex};
use super::signature::{BundleSigner, SIGNATURE_FILE};
use crate::inventory::CarriedImage;
use crate::oci::{Digest, DigestHasher};
use crate::store::StoreView;

/// An image that is exported.
pub type ExportedImage = CarriedImage;

/// The contents that the receiver of a bundle holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldContents(HashSet<Digest>);

impl HeldContents {
    /// Reads an inventory: lines that begin with a digest. Other lines mean nothing.
    ///
    /// # Errors
    ///
    /// Those of reading it, and [`io::ErrorKind::InvalidData`] if it is no text, or no line of it
    /// begins with a digest.
    pub fn read(inventory: impl BufRead) -> io::Result<Self> {
        let mut held = HashSet::new();
        for line in inventory.lines() {
            let line = line?;
            let first = line.split_ascii_whitespace().next().unwrap_or_default();
            held.extend(first.parse::<Digest>().ok());
        }
        if held.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it lists no content"));
        }
        Ok(Self(held))
    }
}

/// The parts of a bundle.
#[derive(Debug)]
pub struct ExportPlan {
    index: Vec<u8>,
    signature: Option<Vec<u8>>,
    /// With lengths in bytes.
    contents: BTreeMap<Digest, u64>,
}

impl ExportPlan {
    /// A bundle of these images, without the contents that the receiver holds.
    pub fn new(mut images: Vec<ExportedImage>, held: &HeldContents) -> Self {
        images.sort_by_cached_key(|image| {
            let tag = image.roots.first().and_then(|root| root.tag.clone());
            (
                image.registry.to_string(),
                image.repository.to_string(),
                tag.map(|tag| tag.to_string()),
            )
        });
        let mut contents = BTreeMap::new();
        for image in &images {
            let wanted = image
                .contents
                .iter()
                .filter(|(digest, _)| image.manifests.contains(digest) || !held.0.contains(digest));
            contents.extend(wanted.map(|(digest, len)| (digest.clone(), *len)));
        }
        Self { index: LayoutIndex::of(&images).to_bytes(), signature: None, contents }
    }

    /// The bundle with a signature.
    ///
    /// # Errors
    ///
    /// [`BundleError::Unsignable`].
    pub fn signed(self, signer: &BundleSigner) -> Result<Self, BundleError> {
        let signature = Some(signer.sign(&self.index)?);
        Ok(Self { signature, ..self })
    }

    /// Its contents, and their bytes.
    pub fn totals(&self) -> (usize, u64) {
        (self.contents.len(), self.contents.values().sum())
    }

    /// Writes the bundle. `wrote` is told of bytes of contents as they are written. Blocks.
    ///
    /// # Errors
    ///
    /// [`BundleError::Lost`] if a content is not there any more or damaged, and
    /// [`BundleError::Unwritten`].
    pub fn write(
        &self,
        view: &StoreView,
        out: impl Write,
        wrote: &mut dyn FnMut(u64),
    ) -> Result<(), BundleError> {
        let mut archive = ArchiveWriter::new(out);
        let signature = self.signature.as_deref().map(|bytes| (SIGNATURE_FILE, bytes));
        let index = [(LAYOUT_FILE, LAYOUT_VERSION), (INDEX_FILE, self.index.as_slice())];
        for (name, bytes) in index.into_iter().chain(signature) {
            let mut reader = bytes;
            archive.file(name, bytes.len() as u64, &mut reader).map_err(BundleError::Unwritten)?;
        }
        for (digest, len) in &self.contents {
            let lost = || BundleError::Lost(digest.clone());
            let file = view.open_content(digest).map_err(BundleError::Store)?.ok_or_else(lost)?;
            if file.metadata().map_err(BundleError::Store)?.len() != *len {
                return Err(lost());
            }
            let hasher = DigestHasher::new(digest.algorithm());
            let mut reader = HashingReader { inner: file, hasher, wrote, failed: None };
            let name = format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
            let written = archive.file(&name, *len, &mut reader);
            if reader.failed.is_some() || reader.hasher.finish() != *digest {
                return Err(lost());
            }
            written.map_err(BundleError::Unwritten)?;
        }
        archive.finish().map_err(BundleError::Unwritten)
    }
}

/// Hashes what is read through it.
struct HashingReader<'w, R> {
    inner: R,
    hasher: DigestHasher,
    wrote: &'w mut dyn FnMut(u64),
    /// Why it could not be read.
    failed: Option<io::ErrorKind>,
}

impl<R: Read> Read for HashingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count =
            self.inner.read(buffer).inspect_err(|error| self.failed = Some(error.kind()))?;
        self.hasher.update(&buffer[..count]);
        (self.wrote)(count as u64);
        Ok(count)
    }
}
