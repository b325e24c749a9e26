//! Finds the contents of pinned images, and has their names survive a power cut.
//!
//! A file is on disk before it gets its name; for pinned content the name is too, within a second:
//! without an upstream nothing could be fetched again. All of it blocks.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::budget::DiskBudget;
use super::key::BlobKey;
use super::pins::PinRules;
use crate::oci::{Digest, ManifestFacts, Reference};
use crate::store::{RepositoryView, StoreView};

/// Pins what the rules mean now, if that may have changed, and lets go of the rest.
///
/// # Errors
///
/// Those of listing a directory.
pub(super) fn keep_pins(budget: &DiskBudget) -> io::Result<()> {
    let board = budget.catalog().pins();
    let mut dirs = BTreeSet::new();
    if board.take_stale() {
        // The most that pins may take is a part of the disk, whose size is known from then on.
        budget.space().room()?;
        let rules = board.rules();
        let view = StoreView::open(budget.layout().dir().to_owned())?;
        let (mut keys, mut found) = (HashSet::new(), Vec::new());
        for repository in view.repositories() {
            let repository = repository?;
            if !rules.matches_repository(&repository.registry, &repository.repository) {
                continue;
            }
            let before = found.len();
            for digest in pinned_of(&view, &repository, &*rules)? {
                let key = BlobKey::of(&digest);
                if keys.insert(key.clone()) {
                    found.push(key);
                }
            }
            if found.len() > before {
                dirs.extend(repository.record_dirs()?);
            }
        }
        budget.catalog().set_pinned(found, keys);
    }
    let unsynced = board.take_unsynced();
    dirs.extend(unsynced.iter().filter_map(|key| parent(&budget.layout().blob(&key.digest()))));
    sync(budget.layout().dir(), &dirs);
    Ok(())
}

/// The contents of the pinned images of a repository: manifests that are held, and all they list.
fn pinned_of(
    view: &StoreView,
    repository: &RepositoryView,
    rules: &dyn PinRules,
) -> io::Result<Vec<Digest>> {
    let RepositoryView { registry, repository: name, .. } = repository;
    let is_pinned = |reference: Reference| rules.matches(registry, name, &reference);
    let tags = repository.kept_tags()?.into_iter();
    let tagged = tags.filter(|it| is_pinned(Reference::Tag(it.tag.clone()))).map(|it| it.digest);
    let held = repository.manifest_digests()?.into_iter();
    let named = held.filter(|digest| is_pinned(Reference::Digest(digest.clone())));
    contents_of(view, repository, tagged.chain(named).collect())
}

/// Manifests of a repository, and all that those of them list that are held.
pub(super) fn contents_of(
    view: &StoreView,
    repository: &RepositoryView,
    mut found: Vec<Digest>,
) -> io::Result<Vec<Digest>> {
    let mut seen: HashSet<Digest> = found.iter().cloned().collect();
    let mut at = 0;
    while let Some(digest) = found.get(at) {
        at += 1;
        let is_held = repository.holds(digest);
        let body = if is_held { view.manifest(digest)? } else { None };
        let facts = body.and_then(|body| ManifestFacts::read(&body).ok());
        let listed = facts.into_iter().flat_map(|facts| facts.descriptors);
        found.extend(listed.map(|it| it.digest).filter(|digest| seen.insert(digest.clone())));
    }
    Ok(found)
}

/// Has the names in directories, and theirs up to the cache directory, be on disk.
fn sync(root: &Path, dirs: &BTreeSet<PathBuf>) {
    let above = dirs.iter().flat_map(|dir| dir.ancestors());
    let all: BTreeSet<&Path> = above.filter(|dir| dir.starts_with(root)).collect();
    for dir in all {
        // A directory that is gone has no names.
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        if let Err(error) = synced
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %dir.display(), %error, "cannot sync the directory of pinned content");
        }
    }
}

fn parent(path: &Path) -> Option<PathBuf> {
    path.parent().map(Path::to_owned)
}
