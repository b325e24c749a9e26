//! Whether all of an image is stored, before anything says that it is there.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::BundleError;
use super::bundle_image::BundleImage;
use crate::inventory::{ManifestDocument, ManifestPart, PartKind};
use crate::oci::{Digest, MANIFEST_BYTES_MAX, ManifestFacts, MediaType};
use crate::store::{Store, StoredState};

/// A manifest that is to be held, and its type.
pub(super) type CheckedManifest = (Digest, MediaType);

/// Checks images against the store. Its methods block.
pub(super) struct ImageCheck<'i> {
    pub(super) store: &'i Arc<Store>,
    pub(super) runtime: &'i Handle,
    /// The contents that were in the archive.
    pub(super) arrived: &'i HashSet<Digest>,
    /// Whether a manifest of a platform may be there without its layers, as in archives of Docker.
    pub(super) may_be_bare: bool,
}

/// A manifest that is still to be checked.
struct PendingManifest {
    digest: Digest,
    media_type: Option<MediaType>,
    size: Option<u64>,
}

impl ImageCheck<'_> {
    /// The manifests of an image of which all is stored, each behind those that it lists.
    pub(super) fn manifests(
        &self,
        image: &BundleImage,
    ) -> Result<Vec<CheckedManifest>, BundleError> {
        let BundleImage { digest, media_type, size, .. } = image.clone();
        let (mut todo, mut seen) =
            (vec![PendingManifest { digest, media_type, size }], HashSet::new());
        let mut found = Vec::new();
        while let Some(next) = todo.pop() {
            if !seen.insert(next.digest.clone()) {
                continue;
            }
            let (document, media_type) = self.read(image, &next)?;
            todo.extend(self.children(image, &next.digest, &document)?);
            found.push((next.digest, media_type));
            if found.len() > MANIFESTS_MAX {
                return Err(BundleError::TooMany(MANIFESTS_MAX));
            }
        }
        found.reverse();
        Ok(found)
    }

    fn read(
        &self,
        image: &BundleImage,
        wanted: &PendingManifest,
    ) -> Result<(ManifestDocument, MediaType), BundleError> {
        let digest = &wanted.digest;
        let no_manifest = |why: String| BundleError::NoManifest {
            image: image.to_string(),
            digest: digest.clone(),
            why,
        };
        let len = self.stored(image, digest, wanted.size)?;
        if len > MANIFEST_BYTES_MAX as u64 {
            return Err(no_manifest(format!("it has {len} bytes")));
        }
        let content = self.store.content();
        let body = self.runtime.block_on(content.small(digest, MANIFEST_BYTES_MAX as u64));
        let body = body.map_err(BundleError::Store)?.ok_or_else(|| self.gone(image, digest))?;
        let facts = ManifestFacts::read(body.content());
        let facts = facts.map_err(|error| no_manifest(error.to_string()))?;
        let own = facts.media_type.filter(MediaType::is_manifest);
        let stated = wanted.media_type.clone().filter(MediaType::is_manifest);
        let media_type = match (stated, own) {
            (Some(stated), Some(own)) if stated != own => {
                let (image, digest) = (image.to_string(), digest.clone());
                return Err(BundleError::OtherType { image, digest, stated, own });
            }
            (stated, own) => own.or(stated).or(facts.shape),
        };
        let media_type = media_type.filter(|media_type| !media_type.is_schema1());
        let media_type =
            media_type.ok_or_else(|| no_manifest("its type is not known".to_owned()))?;
        let document = ManifestDocument::read(body.content());
        Ok((document.unwrap_or_default(), media_type))
    }

    /// The manifests that one lists and that are stored; the rest of what it lists has to be.
    fn children(
        &self,
        image: &BundleImage,
        digest: &Digest,
        document: &ManifestDocument,
    ) -> Result<Vec<PendingManifest>, BundleError> {
        let mut children = Vec::new();
        let (mut listed, mut found) = (0, 0);
        for part in &document.parts {
            match part.kind {
                PartKind::Foreign => {}
                PartKind::Child | PartKind::Attestation => {
                    let is_run = part.kind == PartKind::Child;
                    listed += usize::from(is_run);
                    // A platform that was not carried is fetched when it is asked for.
                    if self.length(&part.digest)?.is_some() && !self.is_bare(&part.digest)? {
                        found += usize::from(is_run);
                        let media_type =
                            part.media_type.as_deref().and_then(|text| text.parse().ok());
                        let (digest, size) = (part.digest.clone(), part.size);
                        children.push(PendingManifest { digest, media_type, size });
                    }
                }
                PartKind::Config | PartKind::Layer => {
                    self.stored(image, &part.digest, part.size)?;
                }
            }
        }
        if listed > 0 && found == 0 {
            return Err(BundleError::Hollow { image: image.to_string(), digest: digest.clone() });
        }
        Ok(children)
    }

    /// Whether a stored manifest lacks what it lists, and may.
    pub(super) fn is_bare(&self, digest: &Digest) -> Result<bool, BundleError> {
        if !self.may_be_bare {
            return Ok(false);
        }
        let needed = |part: &&ManifestPart| matches!(part.kind, PartKind::Config | PartKind::Layer);
        for part in self.document(digest)?.parts.iter().filter(needed) {
            if self.length(&part.digest)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The manifest that a stored one refers to.
    pub(super) fn subject(&self, digest: &Digest) -> Result<Option<Digest>, BundleError> {
        Ok(self.document(digest)?.subject)
    }

    /// A stored manifest; one that cannot be read lists nothing.
    fn document(&self, digest: &Digest) -> Result<ManifestDocument, BundleError> {
        let content = self.store.content();
        let body = self.runtime.block_on(content.small(digest, MANIFEST_BYTES_MAX as u64));
        let body = body.map_err(BundleError::Store)?;
        Ok(body.and_then(|body| ManifestDocument::read(body.content())).unwrap_or_default())
    }

    /// The length of a content in bytes, which has to be stored and as long as stated.
    fn stored(
        &self,
        image: &BundleImage,
        digest: &Digest,
        stated: Option<u64>,
    ) -> Result<u64, BundleError> {
        let bytes = self.length(digest)?.ok_or_else(|| self.gone(image, digest))?;
        match stated.filter(|stated| *stated != bytes) {
            None => Ok(bytes),
            Some(stated) => {
                let (image, digest) = (image.to_string(), digest.clone());
                Err(BundleError::OtherLength { image, digest, bytes, stated })
            }
        }
    }

    fn gone(&self, image: &BundleImage, digest: &Digest) -> BundleError {
        let (image, digest) = (image.to_string(), digest.clone());
        if self.arrived.contains(&digest) {
            BundleError::Evicted { image, digest }
        } else {
            BundleError::Missing { image, digest }
        }
    }

    fn length(&self, digest: &Digest) -> Result<Option<u64>, BundleError> {
        let opened = self.runtime.block_on(self.store.content().open(digest, None));
        Ok(opened.map_err(BundleError::Store)?.map(|state| match state {
            StoredState::Verified(blob) => blob.content().len(),
            StoredState::Due(blob) => blob.len(),
        }))
    }
}

/// Manifests of one image: as many as an index may list.
const MANIFESTS_MAX: usize = ManifestFacts::DESCRIPTORS_MAX;
