//! Which images list a content, over all repositories.

use std::collections::HashSet;
use std::io;

use super::image_set::ImageSet;
use super::row::image_name;
use crate::oci::Digest;
use crate::store::{RepositoryView, StoreView};

/// An image of a repository: a tag or a manifest without one, and the names that it goes by.
pub(super) struct NamedRoot {
    pub(super) name: String,
    pub(super) digest: Digest,
}

/// The images of a repository: its tags, and the manifests that no tag or manifest names.
pub(super) fn roots_of(
    repository: &RepositoryView,
    images: &ImageSet<'_>,
) -> io::Result<Vec<NamedRoot>> {
    let RepositoryView { registry, repository: name, .. } = repository;
    let tags = repository.tags()?;
    let tagged: HashSet<&Digest> = tags.iter().map(|tag| &tag.digest).collect();
    let untagged = images.roots().into_iter().filter(|root| !tagged.contains(root));
    let untagged: Vec<_> = untagged
        .map(|digest| NamedRoot { name: image_name(registry, name, None, &digest), digest })
        .collect();
    let named = tags.into_iter().map(|tag| NamedRoot {
        name: image_name(registry, name, Some(&tag.tag), &tag.digest),
        digest: tag.digest,
    });
    Ok(named.chain(untagged).collect())
}

/// Shows each use of one of these contents by an image, with the image's name. Reads the manifests
/// of every repository.
pub(super) fn each_use(
    view: &StoreView,
    wanted: &HashSet<Digest>,
    show: &mut dyn FnMut(&str, &Digest),
) -> io::Result<()> {
    for repository in view.repositories() {
        let repository = repository?;
        let images = ImageSet::read(view, &repository)?;
        for root in roots_of(&repository, &images)? {
            let contents = images.contents(&root.digest);
            contents.intersection(wanted).for_each(|digest| show(&root.name, digest));
        }
    }
    Ok(())
}
