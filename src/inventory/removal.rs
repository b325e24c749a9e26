//! The removal of an image or a content: its plan, with all that stays for others, and its end.
//!
//! The plan is made from the files alone, so that it can be shown without being carried out. A
//! content stays as long as any other image in the cache lists it. Its removal costs the next pull
//! a fetch, and nothing else: what the cache knows of the upstream's repositories stays.

use std::collections::HashSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::image_set::ImageSet;
use super::name::{ImageName, InvalidImageName};
use super::usage::{each_use, roots_of};
use crate::oci::{Digest, RegistryName, RepositoryName, Tag};
use crate::store::{RepositoryRecords, RepositoryView, Store, StoreView};

/// The thing that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalTarget {
    /// An image of a repository.
    Image(ImageName),
    /// A content, whichever images have it.
    Content(Digest),
}

impl RemovalTarget {
    /// Reads a digest or the full name of an image.
    ///
    /// # Errors
    ///
    /// If it is neither.
    pub fn read(text: &str) -> Result<Self, InvalidImageName> {
        text.parse().map(Self::Content).or_else(|_| text.parse().map(Self::Image))
    }
}

impl std::fmt::Display for RemovalTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image(name) => name.fmt(f),
            Self::Content(digest) => digest.fmt(f),
        }
    }
}

/// The things that a removal takes from the cache: what `larder rm --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalReport {
    /// The image or digest that was to be removed.
    pub name: String,
    /// Whether nothing was removed.
    #[serde(rename = "dry_run")]
    pub is_dry_run: bool,
    /// Names of the tags that are forgotten.
    pub tags: Vec<String>,
    /// Manifests that are forgotten: `registry/repository@digest`.
    pub manifests: Vec<String>,
    /// Contents that are removed from the disk, manifests among them.
    pub removed: Vec<RemovedContent>,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Contents that stay because other images have them.
    pub kept: Vec<RemovedContent>,
    /// Other images that are incomplete from then on.
    pub broken: Vec<String>,
}

/// A content of a removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedContent {
    /// Its digest.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A removal that can be carried out.
#[derive(Clone, Debug)]
pub struct RemovalPlan {
    /// The things that it takes.
    pub report: RemovalReport,
    records: Vec<RecordRemoval>,
    contents: Vec<Digest>,
}

/// Records of one repository that go.
#[derive(Clone, Debug)]
struct RecordRemoval {
    registry: RegistryName,
    repository: RepositoryName,
    tags: Vec<Tag>,
    manifests: Vec<Digest>,
}

impl RemovalPlan {
    /// The removal of a target; `None` if it is not in the cache. Blocks.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn of(view: &StoreView, target: &RemovalTarget) -> io::Result<Option<Self>> {
        let plan = match target {
            RemovalTarget::Image(name) => Self::of_image(view, name)?,
            RemovalTarget::Content(digest) => Self::of_content(view, digest)?,
        };
        Ok(plan.map(|plan| Self {
            report: RemovalReport { name: target.to_string(), is_dry_run: true, ..plan.report },
            ..plan
        }))
    }

    fn of_image(view: &StoreView, name: &ImageName) -> io::Result<Option<Self>> {
        let Some(repository) = view.repository(&name.registry, &name.repository) else {
            return Ok(None);
        };
        let images = ImageSet::read(view, &repository)?;
        let tags = repository.tags()?;
        let goes = |tag: &Tag, digest: &Digest| {
            name.tag().is_some_and(|name| name == tag) || name.digest() == Some(digest)
        };
        let (gone, staying): (Vec<_>, Vec<_>) =
            tags.into_iter().partition(|tag| goes(&tag.tag, &tag.digest));
        let held = name.digest().filter(|digest| images.manifests.contains_key(*digest));
        let Some(root) = gone.first().map(|tag| &tag.digest).or(held).cloned() else {
            return Ok(None);
        };
        let mut staying: Vec<Digest> = staying.into_iter().map(|tag| tag.digest).collect();
        staying.extend(images.roots().into_iter().filter(|other| *other != root));
        let needed: HashSet<Digest> =
            staying.iter().flat_map(|digest| images.contents(digest)).collect();
        let tree = images.tree(&root).into_iter();
        let records = RecordRemoval {
            registry: repository.registry.clone(),
            repository: repository.repository.clone(),
            tags: gone.into_iter().map(|tag| tag.tag).collect(),
            manifests: tree.filter(|digest| !needed.contains(digest)).collect(),
        };
        let contents = images.contents(&root);
        let kept = used_elsewhere(view, &contents, &repository, &needed)?;
        let removed: Vec<_> = contents.difference(&kept).cloned().collect();
        let mut plan = Self::new(view, vec![records], removed)?;
        plan.report.kept = stored(view, kept.into_iter().collect())?;
        Ok(Some(plan))
    }

    fn of_content(view: &StoreView, digest: &Digest) -> io::Result<Option<Self>> {
        let mut records = Vec::new();
        for repository in view.repositories() {
            let repository = repository?;
            if !repository.manifests()?.iter().any(|manifest| manifest.digest == *digest) {
                continue;
            }
            let tags = repository.tags()?.into_iter().filter(|tag| tag.digest == *digest);
            records.push(RecordRemoval {
                tags: tags.map(|tag| tag.tag).collect(),
                manifests: vec![digest.clone()],
                registry: repository.registry,
                repository: repository.repository,
            });
        }
        if records.is_empty() && view.content(digest)?.is_none() {
            return Ok(None);
        }
        let mut plan = Self::new(view, records, vec![digest.clone()])?;
        let mut broken = Vec::new();
        each_use(view, &HashSet::from([digest.clone()]), &mut |name, _| {
            broken.push(name.to_owned());
        })?;
        let is_gone =
            |name: &String| plan.report.tags.contains(name) || plan.report.manifests.contains(name);
        broken.retain(|name| !is_gone(name));
        plan.report.broken = broken;
        Ok(Some(plan))
    }

    fn new(
        view: &StoreView,
        records: Vec<RecordRemoval>,
        contents: Vec<Digest>,
    ) -> io::Result<Self> {
        let mut report = RemovalReport::default();
        for RecordRemoval { registry, repository, tags, manifests } in &records {
            let names = tags.iter().map(|tag| format!("{registry}/{repository}:{tag}"));
            report.tags.extend(names);
            let names = manifests.iter().map(|digest| format!("{registry}/{repository}@{digest}"));
            report.manifests.extend(names);
        }
        report.removed = stored(view, contents.clone())?;
        report.removed_bytes = report.removed.iter().map(|content| content.size).sum();
        Ok(Self { report, records, contents })
    }

    /// Removes what the plan says from the store that it was made of. A content that is being read
    /// is read to its end.
    ///
    /// # Errors
    ///
    /// Those of the file system. A part of it may be gone then, and what is left can be removed by
    /// another plan.
    pub async fn carry_out(self, store: &Store) -> io::Result<RemovalReport> {
        for RecordRemoval { registry, repository, tags, manifests } in self.records {
            let remove = move |records: &RepositoryRecords| {
                for tag in &tags {
                    records.drop_views(tag)?;
                    records.drop_tag(tag, None)?;
                }
                manifests.iter().try_for_each(|digest| records.drop_manifest(digest))
            };
            store.repository(&registry, &repository).blocking(remove).await?;
        }
        for digest in self.contents {
            store.remove_content(&digest).await?;
        }
        Ok(RemovalReport { is_dry_run: false, ..self.report })
    }
}

/// The contents that other images have: `needed` in the image's own repository, and those of all
/// other repositories.
fn used_elsewhere(
    view: &StoreView,
    contents: &HashSet<Digest>,
    own: &RepositoryView,
    needed: &HashSet<Digest>,
) -> io::Result<HashSet<Digest>> {
    let mut used: HashSet<Digest> = contents.intersection(needed).cloned().collect();
    for repository in view.repositories() {
        let repository = repository?;
        let is_own = repository.registry == own.registry && repository.repository == own.repository;
        if is_own {
            continue;
        }
        let images = ImageSet::read(view, &repository)?;
        for root in roots_of(&repository, &images)? {
            used.extend(images.contents(&root.digest).intersection(contents).cloned());
        }
    }
    Ok(used)
}

/// Those of the contents that are stored, sorted.
fn stored(view: &StoreView, mut digests: Vec<Digest>) -> io::Result<Vec<RemovedContent>> {
    digests.sort_unstable();
    let mut found = Vec::new();
    for digest in digests {
        let content = view.content(&digest)?;
        found.extend(
            content.map(|content| RemovedContent { digest: digest.to_string(), size: content.len }),
        );
    }
    Ok(found)
}
