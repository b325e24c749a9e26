//! An image of an archive, and how it gets its name.

use std::fmt;

use super::BundleError;
use super::signature::BundleKey;
use crate::inventory::ImageName;
use crate::oci::{Digest, MediaType, Reference, RegistryName, RepositoryName, Tag};
use crate::registry::RegistryOptions;

/// An image, as the archive lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BundleImage {
    pub(super) registry: RegistryName,
    pub(super) repository: RepositoryName,
    /// None for a manifest that only its digest names.
    pub(super) tag: Option<Tag>,
    pub(super) digest: Digest,
    /// As the archive states it.
    pub(super) media_type: Option<MediaType>,
    /// In bytes, as the archive states it.
    pub(super) size: Option<u64>,
}

impl fmt::Display for BundleImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, digest, .. } = self;
        match &self.tag {
            Some(tag) => write!(f, "{registry}/{repository}:{tag}"),
            None => write!(f, "{registry}/{repository}@{digest}"),
        }
    }
}

/// A manifest, as the archive lists it without a name: mostly a signature of one that has a name.
#[derive(Clone, Debug)]
pub(super) struct NamelessManifest {
    pub(super) digest: Digest,
    /// As the archive states it.
    pub(super) media_type: Option<MediaType>,
    /// In bytes, as the archive states it.
    pub(super) size: Option<u64>,
}

impl NamelessManifest {
    /// The image of this manifest in the repository of another one.
    pub(super) fn placed_beside(&self, image: &BundleImage) -> BundleImage {
        BundleImage {
            registry: image.registry.clone(),
            repository: image.repository.clone(),
            tag: None,
            digest: self.digest.clone(),
            media_type: self.media_type.clone(),
            size: self.size,
        }
    }
}

/// The names that the operator gives, and all that the reading of a name needs.
#[derive(Clone, Debug, Default)]
pub struct ImportWishes {
    /// The registries of the configuration.
    pub registries: Vec<RegistryOptions>,
    /// The name of the image, or of the repository of all images, in place of those in the archive.
    pub name: Option<String>,
    /// The registry of the repositories in the tree of a registry.
    pub registry: Option<String>,
    /// The keys of which one has to have signed the archive, if there are any.
    pub keys: Vec<BundleKey>,
}

/// A name in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StatedName {
    /// `io.containerd.image.name`, or a name in `RepoTags`: that of an image, mostly in full.
    pub(super) full: Option<String>,
    /// `org.opencontainers.image.ref.name`: the name of an image, or a tag alone.
    pub(super) reference: Option<String>,
    /// The repository of a manifest without a tag.
    pub(super) repository: Option<String>,
}

impl StatedName {
    /// Whether it says which repository is meant.
    pub(super) fn has_repository(&self) -> bool {
        self.full.is_some() || self.repository.is_some() || self.full_reference().is_some()
    }

    /// The reference, if it is more than a tag.
    fn full_reference(&self) -> Option<&str> {
        self.reference.as_deref().filter(|text| text.contains(['/', ':']))
    }
}

/// The repository of an image, and its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlacedName {
    pub(super) registry: RegistryName,
    pub(super) repository: RepositoryName,
    pub(super) tag: Option<Tag>,
}

impl From<ImageName> for PlacedName {
    fn from(name: ImageName) -> Self {
        let tag = name.tag().cloned();
        Self { registry: name.registry, repository: name.repository, tag }
    }
}

impl ImportWishes {
    /// The name of an image that the archive calls `stated`, one of `count`.
    pub(super) fn place(
        &self,
        stated: &StatedName,
        digest: &Digest,
        count: usize,
    ) -> Result<PlacedName, BundleError> {
        let found = self.stated(stated);
        let Some(given) = &self.name else {
            return found.ok_or_else(|| BundleError::Unnamed(digest.to_string()));
        };
        let is_whole = given.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        if is_whole && count > 1 {
            return Err(BundleError::OneName(count));
        }
        let given = self.resolve(given).ok_or_else(|| BundleError::Unnamed(given.clone()))?;
        if is_whole {
            return Ok(given);
        }
        let stated_tag = stated.reference.as_deref().and_then(|tag| tag.parse().ok());
        Ok(PlacedName { tag: found.and_then(|found| found.tag).or(stated_tag), ..given })
    }

    /// The name that the archive states in full.
    fn stated(&self, stated: &StatedName) -> Option<PlacedName> {
        if let Some(text) = stated.full.as_deref().or(stated.full_reference()) {
            return self.resolve(text);
        }
        let repository = self.resolve(stated.repository.as_deref()?)?;
        Some(PlacedName { tag: None, ..repository })
    }

    fn resolve(&self, text: &str) -> Option<PlacedName> {
        let name = ImageName::resolve(text, &self.registries).ok()?;
        // Untagged images are held by digest.
        let is_tag = matches!(name.reference, Reference::Tag(_));
        let placed = PlacedName::from(name);
        Some(if is_tag { placed } else { PlacedName { tag: None, ..placed } })
    }

    /// The registry of a tree.
    pub(super) fn tree_registry(&self) -> Result<RegistryName, BundleError> {
        let unnamed = || BundleError::Unnamed("tree of repositories".to_owned());
        let given = self.registry.as_deref().ok_or_else(unnamed)?;
        let known = self.registries.iter().find(|registry| {
            let is_named = |name: &RegistryName| name.as_str() == given;
            is_named(&registry.name) || registry.aliases.iter().any(is_named)
        });
        match known {
            Some(known) => Ok(known.name.clone()),
            None => given.parse().map_err(|_| BundleError::Unnamed(given.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn wishes(name: Option<&str>) -> ImportWishes {
        let hub = RegistryOptions::for_test("docker.io", Url::parse("http://a.test").unwrap());
        let hub = RegistryOptions { is_default: true, ..hub };
        let name = name.map(str::to_owned);
        ImportWishes { registries: vec![hub], name, ..ImportWishes::default() }
    }

    #[test]
    fn a_name_is_the_one_given_else_the_full_one_in_the_archive() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for (given, full, reference, repository, want) in [
            ("", "docker.io/library/a:1", "1", "", "docker.io/library/a:1"),
            ("", "", "ghcr.io/o/a:1", "", "ghcr.io/o/a:1"),
            ("", "a:1", "", "", "docker.io/library/a:1"),
            ("", "", "", "quay.io/o/a", "quay.io/o/a:-"),
            ("", "", "1", "", "none"),
            ("", "", "", "", "none"),
            ("", "../a", "", "", "none"),
            ("quay.io/x", "a:1", "", "", "quay.io/x:1"),
            ("quay.io/x", "", "2", "", "quay.io/x:2"),
            ("quay.io/x:3", "a:1", "", "", "quay.io/x:3"),
            ("quay.io/x", "", "", "", "quay.io/x:-"),
        ] {
            let stated = StatedName {
                full: text(full),
                reference: text(reference),
                repository: text(repository),
            };
            let placed = wishes(text(given).as_deref()).place(&stated, &digest, 1);
            let placed = placed.map_or("none".to_owned(), |placed| {
                let tag = placed.tag.map_or("-".to_owned(), |tag| tag.to_string());
                format!("{}/{}:{tag}", placed.registry, placed.repository)
            });
            assert_eq!(placed, want, "{given} {stated:?}");
        }
        let two = wishes(Some("quay.io/x:3")).place(&StatedName::default(), &digest, 2);
        assert!(matches!(two, Err(BundleError::OneName(2))));
    }
}
