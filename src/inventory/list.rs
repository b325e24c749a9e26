//! The list of images, in the order of their names.

use std::collections::HashSet;
use std::io;

use super::image_set::ImageSet;
use super::pattern::ImagePattern;
use super::pulls::PullCounts;
use super::row::{ImageRow, image_name};
use crate::oci::{Digest, Reference};
use crate::store::{RepositoryView, StoreView, TagView};

/// Shows each image that the pattern matches, as soon as its repository was read, until `show`
/// returns false. Blocks.
///
/// # Errors
///
/// Those of the file system.
pub fn list_images(
    view: &StoreView,
    pattern: &ImagePattern,
    show: &mut dyn FnMut(ImageRow) -> bool,
) -> io::Result<()> {
    let counts = PullCounts::read(view);
    let mut show = |row: ImageRow| show(ImageRow { pulls: counts.of(&row.name), ..row });
    for repository in view.repositories() {
        let repository = repository?;
        let name = format!("{}/{}", repository.registry, repository.repository);
        let mut tags = repository.tags()?;
        // The manifests of a repository without a match need not be read.
        let is_whole = pattern.matches_repository(&name);
        if !is_whole && !tags.iter().any(|tag| pattern.matches_tag(&name, tag.tag.as_str())) {
            continue;
        }
        let mut images = ImageSet::read(view, &repository)?;
        let tagged: HashSet<Digest> = tags.iter().map(|tag| tag.digest.clone()).collect();
        tags.retain(|tag| pattern.matches_tag(&name, tag.tag.as_str()));
        for tag in &tags {
            if !show(image_row(view, &repository, &mut images, Some(tag), &tag.digest)?) {
                return Ok(());
            }
        }
        let roots = if is_whole { images.roots() } else { Vec::new() };
        for root in roots.iter().filter(|root| !tagged.contains(*root)) {
            if !show(image_row(view, &repository, &mut images, None, root)?) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// An image of a repository, as a list has it, but for its pulls.
pub(super) fn image_row(
    view: &StoreView,
    of: &RepositoryView,
    images: &mut ImageSet<'_>,
    tag: Option<&TagView>,
    digest: &Digest,
) -> io::Result<ImageRow> {
    let totals = images.totals(digest)?;
    let RepositoryView { registry, repository, .. } = of;
    let used_at = tag.map_or(totals.used_at, |tag| tag.used_at.max(totals.used_at));
    let by_digest = Reference::Digest(digest.clone());
    let reference = tag.map_or(by_digest, |tag| Reference::Tag(tag.tag.clone()));
    Ok(ImageRow {
        is_pinned: view.pins().matches(registry, repository, &reference),
        name: image_name(registry, repository, tag.map(|tag| &tag.tag), digest),
        registry: registry.to_string(),
        repository: repository.to_string(),
        tag: tag.map(|tag| tag.tag.to_string()),
        digest: digest.to_string(),
        size: totals.size,
        stored: totals.stored,
        is_complete: totals.missing == 0,
        platforms: totals.platforms,
        last_pull: used_at.into(),
        pulls: 0,
        checked_at: tag.map(|tag| tag.checked_at.into()),
    })
}
