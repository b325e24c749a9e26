//! All of an image that travels with it: its manifests, their contents, and its referrers.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::image_set::ImageSet;
use super::name::ImageName;
use crate::oci::{Digest, MediaType, RegistryName, RepositoryName, Tag};
use crate::store::{StoreView, TagView};

/// An image as it leaves the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedImage {
    /// Its registry.
    pub registry: RegistryName,
    /// Its repository.
    pub repository: RepositoryName,
    /// Its manifest, and behind it those of signatures and other referrers.
    pub roots: Vec<CarriedRoot>,
    /// The manifests, and all that they list, with lengths in bytes.
    pub contents: BTreeMap<Digest, u64>,
    /// The manifests among them.
    pub manifests: HashSet<Digest>,
    /// The contents that are not stored.
    pub missing: Vec<Digest>,
}

/// A manifest that no other one of the image lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedRoot {
    /// The tag that names it, if the image was asked for by a tag.
    pub tag: Option<Tag>,
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: MediaType,
}

/// All that travels with an image; `None` if the image is not in the cache. Blocks.
///
/// # Errors
///
/// Those of the file system.
pub fn carried_image(view: &StoreView, name: &ImageName) -> io::Result<Option<CarriedImage>> {
    let Some(repository) = view.repository(&name.registry, &name.repository) else {
        return Ok(None);
    };
    let tags = repository.tags()?;
    let mut images = ImageSet::read(view, &repository)?;
    let tagged = name.tag().and_then(|wanted| tags.iter().find(|tag| tag.tag == *wanted));
    let Some(digest) = tagged.map(|tag| &tag.digest).or(name.digest()).cloned() else {
        return Ok(None);
    };
    let Some(root) = root_of(&images, name.tag(), &digest) else { return Ok(None) };
    let mut roots = vec![root];
    let mut at = 0;
    while let Some(root) = roots.get(at) {
        for found in referrers(&images, &tags, &images.tree(&root.digest)) {
            if !roots.iter().any(|root| root.digest == found.digest && root.tag == found.tag) {
                roots.push(found);
            }
        }
        at += 1;
    }
    let mut carried = CarriedImage {
        registry: name.registry.clone(),
        repository: name.repository.clone(),
        roots,
        contents: BTreeMap::new(),
        manifests: HashSet::new(),
        missing: Vec::new(),
    };
    carried.measure(&mut images)?;
    Ok(Some(carried))
}

impl CarriedImage {
    /// Finds the contents of the roots.
    fn measure(&mut self, images: &mut ImageSet<'_>) -> io::Result<()> {
        for (number, root) in self.roots.iter().enumerate() {
            if number == 0 && images.is_hollow(&root.digest) {
                self.missing.push(root.digest.clone());
            }
            self.manifests.extend(images.tree(&root.digest));
            for (digest, _) in images.needed(&root.digest) {
                match images.length(&digest)? {
                    Some(len) => drop(self.contents.insert(digest, len)),
                    None if !self.missing.contains(&digest) => self.missing.push(digest),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

fn root_of(images: &ImageSet<'_>, tag: Option<&Tag>, digest: &Digest) -> Option<CarriedRoot> {
    let held = images.manifests.get(digest)?;
    let (digest, media_type) = (digest.clone(), held.record.media_type.clone());
    Some(CarriedRoot { tag: tag.cloned(), digest, media_type })
}

/// The held manifests that refer to one of these by their subject, or by the tag that stands for
/// referrers and signatures (`sha256-….sig`).
fn referrers(images: &ImageSet<'_>, tags: &[TagView], of: &[Digest]) -> Vec<CarriedRoot> {
    let subjects = images.manifests.iter().filter(|(_, held)| {
        let document = held.document.as_ref();
        let subject = document.and_then(|document| document.subject.as_ref());
        subject.is_some_and(|subject| of.contains(subject))
    });
    let found = subjects.filter_map(|(digest, _)| root_of(images, None, digest));
    let is_of = |tag: &TagView| {
        let names = |digest: &Digest| {
            let name = digest.as_str().replace(':', "-");
            tag.tag.as_str().starts_with(&name)
        };
        of.iter().any(names)
    };
    let by_tag = tags.iter().filter(|tag| is_of(tag));
    found.chain(by_tag.filter_map(|tag| root_of(images, Some(&tag.tag), &tag.digest))).collect()
}
