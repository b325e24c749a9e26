//! The storage tree of a registry (distribution's `docker/registry/v2`): an old mirror or hosted
//! registry, whose images are taken over.

use std::collections::{BTreeMap, BTreeSet};

use super::BundleError;
use super::bundle_image::{BundleImage, ImportWishes};
use crate::oci::{Digest, RepositoryName, Tag};

/// The repositories of a tree.
#[derive(Debug, Default)]
pub(super) struct RegistryTree {
    tags: BTreeMap<(RepositoryName, Tag), Digest>,
    manifests: BTreeSet<(RepositoryName, Digest)>,
}

impl RegistryTree {
    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.manifests.is_empty()
    }

    /// Adds a tag, whose file has these bytes.
    pub(super) fn add_tag(
        &mut self,
        file: &str,
        repository: RepositoryName,
        tag: Tag,
        bytes: &[u8],
    ) -> Result<(), BundleError> {
        let text = String::from_utf8_lossy(bytes);
        let digest: Digest = text.trim().parse().map_err(|_| BundleError::BadIndex {
            name: file.to_owned(),
            why: "it is no digest".to_owned(),
        })?;
        self.tags.insert((repository, tag), digest);
        Ok(())
    }

    /// Adds a manifest.
    pub(super) fn add_manifest(&mut self, repository: RepositoryName, digest: Digest) {
        self.manifests.insert((repository, digest));
    }

    /// The images: all tags, and the manifests that are held without one.
    pub(super) fn images(&self, wishes: &ImportWishes) -> Result<Vec<BundleImage>, BundleError> {
        let registry = wishes.tree_registry()?;
        let image = |repository: &RepositoryName, tag: Option<&Tag>, digest: &Digest| BundleImage {
            registry: registry.clone(),
            repository: repository.clone(),
            tag: tag.cloned(),
            digest: digest.clone(),
            media_type: None,
            size: None,
        };
        let untagged = self.manifests.iter().map(|(path, digest)| image(path, None, digest));
        let tagged = self.tags.iter().map(|((path, tag), digest)| image(path, Some(tag), digest));
        Ok(untagged.chain(tagged).collect())
    }
}
