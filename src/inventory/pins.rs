//! The images that are kept: the patterns of the configuration, and those pinned by command.
//!
//! A command pins an image by name, whether it was pulled yet or not. The names lie in the cache
//! directory, one on each line.

use std::collections::BTreeMap;
use std::io;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::name::ImageName;
use super::pin_sizes::PinSizes;
use crate::oci::{Reference, RegistryName, RepositoryName};
use crate::registry::RepositoryPattern;
use crate::store::{PinRules, RepositoryView, Store, StoreView};

/// One `[[pin]]` table of the configuration, resolved.
#[derive(Clone, Debug)]
pub struct PinPattern {
    /// The registries; `None` for all.
    pub registries: Option<Vec<RegistryName>>,
    /// Patterns of the repositories, by their names at the registry.
    pub repositories: Vec<RepositoryPattern>,
    /// Patterns of the tags.
    pub tags: Vec<RepositoryPattern>,
}

impl PinPattern {
    fn matches_repository(&self, registry: &RegistryName, repository: &RepositoryName) -> bool {
        self.registries.as_ref().is_none_or(|registries| registries.contains(registry))
            && self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
    }

    fn matches(&self, reference: &Reference) -> bool {
        match reference {
            Reference::Digest(_) => false,
            Reference::Tag(tag) => self.tags.iter().any(|pattern| pattern.matches(tag.as_str())),
        }
    }
}

/// All rules for what is kept. They may change at any time.
#[derive(Debug, Default)]
pub struct PinBook {
    patterns: RwLock<Vec<PinPattern>>,
    images: RwLock<Vec<ImageName>>,
    /// Held while the images change.
    changing: Mutex<PinSizes>,
}

/// The result of a pin or unpin: what `larder pin --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinReport {
    /// The image.
    pub name: String,
    /// Whether it is pinned now, by command or by a pattern of the configuration.
    #[serde(rename = "pinned")]
    pub is_pinned: bool,
    /// Whether a pattern of the configuration pins it.
    pub by_pattern: bool,
    /// Whether the image is in the cache. If not, it is kept from its first pull on.
    #[serde(rename = "cached")]
    pub is_cached: bool,
    /// The bytes of all pinned images, those that are missing included.
    pub pinned_bytes: u64,
    /// The bytes that they may take.
    pub max_bytes: u64,
}

/// Why an image is not pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// All pinned images would take more than the cache may.
    #[error("with {name} all pinned images take {wanted} bytes, of {max} that they may")]
    TooMuch {
        /// The image.
        name: ImageName,
        /// The bytes of all pinned images, with this one.
        wanted: u64,
        /// The bytes that they may take.
        max: u64,
    },
    /// The files cannot be read or written.
    #[error("cannot read the cache")]
    Files(#[from] io::Error),
}

impl PinBook {
    /// The rules of the configuration, and the images in a list that was read from the cache.
    /// Lines that are no name are left out.
    pub fn new(patterns: Vec<PinPattern>, list: &[u8]) -> Self {
        let text = String::from_utf8_lossy(list);
        let images = text.lines().filter_map(|line| line.parse().ok()).collect();
        Self {
            patterns: RwLock::new(patterns),
            images: RwLock::new(images),
            changing: Mutex::default(),
        }
    }

    /// The rules of the configuration from now on.
    pub fn set_patterns(&self, patterns: Vec<PinPattern>) {
        let mut sizes = self.changing.lock();
        *self.patterns.write() = patterns;
        *sizes = PinSizes::default();
    }

    /// Pins an image, or lets go of it. Blocks.
    ///
    /// # Errors
    ///
    /// [`PinError::TooMuch`] if there would be no room for all that is pinned: nothing changes.
    pub fn change(
        &self,
        store: &Store,
        name: &ImageName,
        is_wanted: bool,
    ) -> Result<PinReport, PinError> {
        let mut sizes = self.changing.lock();
        let view = store.view()?;
        let before = self.images.read().clone();
        let mut images = before.clone();
        images.retain(|image| image != name);
        if is_wanted {
            images.push(name.clone());
        }
        self.images.write().clone_from(&images);
        sizes.forget(&name.registry, &name.repository);
        let changed = self.checked(store, &view, &mut sizes, name, is_wanted).and_then(|report| {
            let lines: Vec<_> = images.iter().map(|image| format!("{image}\n")).collect();
            store.put_pin_list(lines.concat().as_bytes())?;
            Ok(report)
        });
        if changed.is_err() {
            *self.images.write() = before;
            sizes.forget(&name.registry, &name.repository);
        }
        store.pins_changed();
        changed
    }

    fn checked(
        &self,
        store: &Store,
        view: &StoreView,
        sizes: &mut PinSizes,
        name: &ImageName,
        is_wanted: bool,
    ) -> Result<PinReport, PinError> {
        let pinned = sizes.total(view, self, self.pinned_repositories(view))?;
        let max = store.pinned_max()?;
        if is_wanted && pinned > max {
            return Err(PinError::TooMuch { name: name.clone(), wanted: pinned, max });
        }
        let by_pattern = self.has_pattern_for(&name.registry, &name.repository, &name.reference);
        let repository = view.repository(&name.registry, &name.repository);
        let is_cached = repository.map(|it| has_image(view, &it, name)).transpose()?;
        Ok(PinReport {
            name: name.to_string(),
            is_pinned: is_wanted || by_pattern,
            by_pattern,
            is_cached: is_cached.unwrap_or_default(),
            pinned_bytes: pinned,
            max_bytes: max,
        })
    }

    /// The repositories that may have pinned images. Without patterns, only those that are named.
    fn pinned_repositories<'v>(
        &self,
        view: &'v StoreView,
    ) -> Box<dyn Iterator<Item = io::Result<RepositoryView>> + 'v> {
        if !self.patterns.read().is_empty() {
            return Box::new(view.repositories());
        }
        let images = self.images.read();
        let names = images.iter().map(|it| (it.registry.to_string(), it.repository.to_string()));
        let distinct: BTreeMap<_, _> = names.zip(images.iter()).collect();
        let found: Vec<_> = distinct
            .into_values()
            .filter_map(|it| view.repository(&it.registry, &it.repository))
            .map(Ok)
            .collect();
        Box::new(found.into_iter())
    }

    fn has_pattern_for(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> bool {
        let patterns = self.patterns.read();
        let of = patterns.iter().filter(|it| it.matches_repository(registry, repository));
        of.into_iter().any(|it| it.matches(reference))
    }
}

impl PinRules for PinBook {
    fn matches_repository(&self, registry: &RegistryName, repository: &RepositoryName) -> bool {
        let is_named = |it: &ImageName| it.registry == *registry && it.repository == *repository;
        self.patterns.read().iter().any(|it| it.matches_repository(registry, repository))
            || self.images.read().iter().any(is_named)
    }

    fn matches(
        &self,
        registry: &RegistryName,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> bool {
        let is_it = |it: &ImageName| {
            it.registry == *registry && it.repository == *repository && it.reference == *reference
        };
        self.has_pattern_for(registry, repository, reference)
            || self.images.read().iter().any(is_it)
    }
}

fn has_image(view: &StoreView, repository: &RepositoryView, name: &ImageName) -> io::Result<bool> {
    Ok(match &name.reference {
        Reference::Tag(tag) => repository.tags()?.iter().any(|it| it.tag == *tag),
        Reference::Digest(digest) => view.content(digest)?.is_some(),
    })
}
