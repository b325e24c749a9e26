//! Finds the contents of images whose tags the upstream has no longer.
//!
//! Their records say what each tag named last. A full look happens once after the start, behind all
//! else; after that a tag that goes or comes back costs a look at its image. All of it blocks.

use std::io;

use super::budget::DiskBudget;
use super::pin_walk::contents_of;
use crate::oci::Digest;
use crate::store::{RepositoryView, StoreView};

/// Marks the contents of images whose tags have gone since the last time, and takes the mark from
/// those whose tags are back.
///
/// # Errors
///
/// Those of listing a directory.
pub(super) fn mark_vanished(budget: &DiskBudget) -> io::Result<()> {
    let news = budget.catalog().lost().take_tags();
    if !news.everywhere && news.tags.is_empty() {
        return Ok(());
    }
    let view = StoreView::open(budget.layout().dir().to_owned())?;
    if news.everywhere {
        for repository in view.repositories() {
            let repository = repository?;
            if budget.is_stopping() {
                return Ok(());
            }
            for gone in repository.vanished_tags()? {
                mark(budget, &view, &repository, gone.digest, true)?;
            }
        }
    }
    for (registry, name, tag) in news.tags {
        let Some(repository) = view.repository(&registry, &name) else { continue };
        if let Some(gone) = repository.vanished_tag(&tag) {
            mark(budget, &view, &repository, gone.digest, true)?;
        } else if let Some(back) = repository.named_tag(&tag) {
            mark(budget, &view, &repository, back.digest, false)?;
        }
    }
    Ok(())
}

fn mark(
    budget: &DiskBudget,
    view: &StoreView,
    repository: &RepositoryView,
    root: Digest,
    is_gone: bool,
) -> io::Result<()> {
    let contents = contents_of(view, repository, vec![root])?;
    budget.catalog().set_vanished(&contents, is_gone);
    Ok(())
}
