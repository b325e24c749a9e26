//! Which registry the blobs of earlier processes are of, read from its manifests.
//!
//! Only registries with limits of their own are looked at, behind all else. Until a blob is found
//! here it counts to none, so that what is evicted for a registry errs low.

use std::io;

use super::budget::DiskBudget;
use crate::oci::{ManifestFacts, RegistryName};
use crate::store::StoreView;

/// Gives each blob that a manifest of these registries lists its registry.
///
/// # Errors
///
/// Those of listing a directory.
pub(super) fn find_owners(budget: &DiskBudget, registries: &[RegistryName]) -> io::Result<()> {
    let dir = budget.layout().registries();
    if !registries.iter().any(|registry| dir.join(registry.as_str()).is_dir()) {
        return Ok(());
    }
    let view = StoreView::open(budget.layout().dir().to_owned())?;
    for repository in view.repositories() {
        let repository = repository?;
        if !registries.contains(&repository.registry) {
            continue;
        }
        let group = budget.catalog.group(&repository.registry);
        for manifest in repository.manifests()? {
            if budget.is_stopping() {
                return Ok(());
            }
            let body = view.manifest(&manifest.digest)?;
            let facts = body.and_then(|body| ManifestFacts::read(&body).ok());
            let listed = facts.iter().flat_map(|facts| &facts.descriptors);
            let digests = listed.map(|descriptor| &descriptor.digest);
            budget.catalog.set_group(digests.chain([&manifest.digest]), group);
        }
    }
    Ok(())
}
