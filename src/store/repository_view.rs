//! The records of repositories as a command sees them that only reads.
//!
//! A record that is damaged, or goes meanwhile, is left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::layout::StoreLayout;
use super::record_store::{MANIFESTS, MEMBERS, TAGS, VANISHED};
use super::records::{RECORD_BYTES_MAX, media_type_from_bytes, tag_from_bytes};
use super::small_files::read_untouched;
use crate::clock::BootId;
use crate::oci::{Algorithm, Digest, MediaType, RegistryName, RepositoryName, Tag};

/// A repository with records.
#[derive(Clone, Debug)]
pub struct RepositoryView {
    /// The registry of the repository.
    pub registry: RegistryName,
    /// The repository.
    pub repository: RepositoryName,
    dir: PathBuf,
}

/// A tag, as the upstream was last heard to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagView {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Digest,
    /// When the upstream last said so.
    pub checked_at: SystemTime,
    /// When it was last used, about.
    pub used_at: SystemTime,
}

/// When the directories of a repository's records were last changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordStamp(Vec<(PathBuf, SystemTime)>);

impl RecordStamp {
    /// Whether the last change was longer ago than this.
    pub fn is_older_than(&self, now: SystemTime, least: Duration) -> bool {
        let is_old = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age > least);
        self.0.iter().all(|(_, at)| is_old(at))
    }
}

/// A manifest that is held for a repository. Its bytes may have been evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestView {
    /// Its digest.
    pub digest: Digest,
    /// The type that the upstream gave it.
    pub media_type: MediaType,
    /// When it was last used, about.
    pub used_at: SystemTime,
}

/// All methods block. Errors are those of listing a directory.
impl RepositoryView {
    pub(super) fn new(registry: &RegistryName, repository: &RepositoryName, dir: PathBuf) -> Self {
        Self { registry: registry.clone(), repository: repository.clone(), dir }
    }

    /// The tags, sorted. One that only clients with an `Accept` set of their own have pulled is
    /// among them.
    pub fn tags(&self) -> io::Result<Vec<TagView>> {
        let mut tags = BTreeMap::new();
        // The folder of the full list, `_tags`, sorts before those of other sets.
        for folder in names_in(&self.dir)?.iter().filter(|name| name.starts_with("_tags")) {
            for name in names_in(&self.dir.join(folder))? {
                if let Entry::Vacant(entry) = tags.entry(name)
                    && let Some(tag) = self.tag(folder, entry.key())
                {
                    entry.insert(tag);
                }
            }
        }
        Ok(tags.into_values().collect())
    }

    /// The tags that the upstream has no longer, with what each named last, sorted.
    pub(super) fn vanished_tags(&self) -> io::Result<Vec<TagView>> {
        let names = names_in(&self.dir.join(VANISHED))?;
        Ok(names.iter().filter_map(|name| self.vanished_tag(&name.parse().ok()?)).collect())
    }

    /// A tag that the upstream has no longer, with what it named last.
    pub(super) fn vanished_tag(&self, tag: &Tag) -> Option<TagView> {
        if self.named_tag(tag).is_some() { None } else { self.tag(VANISHED, tag.as_str()) }
    }

    /// A tag of the full list.
    pub fn named_tag(&self, tag: &Tag) -> Option<TagView> {
        self.tag(TAGS, tag.as_str())
    }

    /// The tags, and those that the upstream has no longer, which a pin keeps.
    pub fn kept_tags(&self) -> io::Result<Vec<TagView>> {
        let mut tags = self.tags()?;
        tags.extend(self.vanished_tags()?);
        Ok(tags)
    }

    /// The digests of its manifests, sorted.
    pub(super) fn manifest_digests(&self) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in Algorithm::ALL {
            let names = names_in(&self.dir.join(MANIFESTS).join(algorithm.as_str()))?;
            let texts = names.iter().map(|hex| format!("{}:{hex}", algorithm.as_str()));
            digests.extend(texts.filter_map(|text| text.parse::<Digest>().ok()));
        }
        Ok(digests)
    }

    /// Whether a manifest is held for it.
    pub(super) fn holds(&self, manifest: &Digest) -> bool {
        let dir = self.dir.join(MANIFESTS).join(manifest.algorithm().as_str());
        dir.join(manifest.hex()).is_file()
    }

    /// When its records were last changed: another stamp than before, if they were since.
    pub fn stamp(&self) -> io::Result<RecordStamp> {
        let changed = |dir: PathBuf| {
            let at = fs::symlink_metadata(&dir).and_then(|metadata| metadata.modified());
            (dir, at.unwrap_or(SystemTime::UNIX_EPOCH))
        };
        Ok(RecordStamp(self.record_dirs()?.into_iter().map(changed).collect()))
    }

    /// The directories of its tags and manifests.
    pub(super) fn record_dirs(&self) -> io::Result<Vec<PathBuf>> {
        let mut dirs = Vec::new();
        for folder in names_in(&self.dir)?.iter().filter(|name| name.starts_with('_')) {
            let dir = self.dir.join(folder);
            if folder == "_manifests" {
                dirs.extend(names_in(&dir)?.iter().map(|algorithm| dir.join(algorithm)));
            }
            dirs.push(dir);
        }
        Ok(dirs)
    }

    fn tag(&self, folder: &str, name: &str) -> Option<TagView> {
        let tag = name.parse().ok()?;
        let file = read_untouched(&self.dir.join(folder).join(name), RECORD_BYTES_MAX);
        let file = file.ok()??;
        let record = tag_from_bytes(&file.bytes, BootId::current())?;
        let (digest, checked_at) = (record.digest?, record.checked_at);
        Some(TagView { tag, digest, checked_at, used_at: file.used_at })
    }

    /// The manifests, sorted.
    pub fn manifests(&self) -> io::Result<Vec<ManifestView>> {
        let mut manifests = Vec::new();
        for algorithm in Algorithm::ALL {
            let dir = self.dir.join("_manifests").join(algorithm.as_str());
            for hex in names_in(&dir)? {
                let Ok(digest) = format!("{}:{hex}", algorithm.as_str()).parse() else { continue };
                let Ok(Some(file)) = read_untouched(&dir.join(&hex), RECORD_BYTES_MAX) else {
                    continue;
                };
                let media_type = media_type_from_bytes(&file.bytes);
                manifests.extend(media_type.map(|media_type| ManifestView {
                    digest,
                    media_type,
                    used_at: file.used_at,
                }));
            }
        }
        Ok(manifests)
    }
}

/// Every repository with records, by name. Each step lists a few directories.
#[derive(Debug)]
pub struct RepositoryWalk {
    layout: StoreLayout,
    /// The next one is at the end.
    todo: Vec<PathBuf>,
}

impl RepositoryWalk {
    pub(super) fn new(layout: &StoreLayout) -> Self {
        Self { layout: layout.clone(), todo: vec![layout.registries()] }
    }

    fn step(&mut self, dir: PathBuf) -> io::Result<Option<RepositoryView>> {
        let names = names_in(&dir)?;
        let below = names.iter().rev().filter(|name| !name.starts_with('_'));
        self.todo.extend(below.map(|name| dir.join(name)));
        let has_records = names.iter().any(|name| name.starts_with(TAGS) || is_of_contents(name));
        let of = has_records.then(|| self.layout.name_of(&dir)).flatten();
        Ok(of.map(|(registry, repository)| RepositoryView { registry, repository, dir }))
    }
}

impl Iterator for RepositoryWalk {
    type Item = io::Result<RepositoryView>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(dir) = self.todo.pop() {
            if let Some(found) = self.step(dir).transpose() {
                return Some(found);
            }
        }
        None
    }
}

/// Whether a folder or file of a repository names its contents.
fn is_of_contents(name: &str) -> bool {
    [MANIFESTS, MEMBERS, VANISHED].contains(&name)
}

/// The names in a directory, sorted; none where there is no such directory.
fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let mut names: Vec<String> =
        names.filter_map(io::Result::transpose).collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}
