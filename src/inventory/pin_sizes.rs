//! How much all pinned images take, without reading again what has not changed.
//!
//! A repository is read again when one of its directories of records has changed since, or the
//! rules about it have.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use super::image_set::ImageSet;
use crate::clock::{SystemClock, WallClock as _};
use crate::oci::{Digest, Reference, RegistryName, RepositoryName};
use crate::store::{PinRules, RecordStamp, RepositoryView, StoreView};

/// The contents that pins mean, by repository, as they were last read.
#[derive(Debug, Default)]
pub(super) struct PinSizes {
    repositories: HashMap<(RegistryName, RepositoryName), PinnedContents>,
}

#[derive(Clone, Debug)]
struct PinnedContents {
    /// `None` if it was changed so lately that a further change could look the same.
    stamp: Option<RecordStamp>,
    lengths: BTreeMap<Digest, u64>,
}

impl PinSizes {
    /// Forgets a repository, about which the rules have changed.
    pub(super) fn forget(&mut self, registry: &RegistryName, repository: &RepositoryName) {
        self.repositories.remove(&(registry.clone(), repository.clone()));
    }

    /// The bytes of all pinned images in `repositories`, those that are missing included. Each
    /// content counts once. Blocks.
    pub(super) fn total(
        &mut self,
        view: &StoreView,
        rules: &dyn PinRules,
        repositories: impl Iterator<Item = io::Result<RepositoryView>>,
    ) -> io::Result<u64> {
        let mut before = std::mem::take(&mut self.repositories);
        let mut needed: BTreeMap<Digest, u64> = BTreeMap::new();
        for repository in repositories {
            let repository = repository?;
            let key = (repository.registry.clone(), repository.repository.clone());
            if !rules.matches_repository(&key.0, &key.1) {
                continue;
            }
            let stamp = repository.stamp()?;
            let known = before.remove(&key).filter(|known| known.stamp.as_ref() == Some(&stamp));
            let contents = match known {
                Some(known) => known,
                None => read(view, rules, &repository, stamp)?,
            };
            needed.extend(contents.lengths.iter().map(|(digest, len)| (digest.clone(), *len)));
            self.repositories.insert(key, contents);
        }
        Ok(needed.values().sum())
    }
}

fn read(
    view: &StoreView,
    rules: &dyn PinRules,
    repository: &RepositoryView,
    stamp: RecordStamp,
) -> io::Result<PinnedContents> {
    let RepositoryView { registry, repository: name, .. } = repository;
    let mut images = ImageSet::read(view, repository)?;
    let is_pinned = |reference| rules.matches(registry, name, &reference);
    let tags = repository.kept_tags()?.into_iter();
    let tagged = tags.filter(|it| is_pinned(Reference::Tag(it.tag.clone()))).map(|it| it.digest);
    let held = images.manifests.keys().cloned();
    let named = held.filter(|digest| is_pinned(Reference::Digest(digest.clone())));
    let roots: Vec<Digest> = tagged.chain(named).collect();
    let mut lengths = BTreeMap::new();
    for root in roots {
        for (digest, stated) in images.needed(&root) {
            let len = images.length(&digest)?.unwrap_or(stated);
            lengths.insert(digest, len);
        }
    }
    let is_settled = stamp.is_older_than(SystemClock.now(), SETTLED_AFTER);
    Ok(PinnedContents { stamp: Some(stamp).filter(|_| is_settled), lengths })
}

/// File systems tell changes apart that are some milliseconds from each other.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::oci::Algorithm;

    #[derive(Debug)]
    struct Everything;

    impl PinRules for Everything {
        fn matches_repository(&self, _: &RegistryName, _: &RepositoryName) -> bool {
            true
        }

        fn matches(&self, _: &RegistryName, _: &RepositoryName, _: &Reference) -> bool {
            true
        }
    }

    fn write(path: &Path, bytes: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A repository with a tag, and the file of the manifest that it names.
    fn lay_out(dir: &Path) -> PathBuf {
        let layer = Digest::of(Algorithm::Sha256, b"layer");
        let layers = format!(r#"[{{"mediaType":"a/b","digest":"{layer}","size":1000}}]"#);
        let body = format!(r#"{{"schemaVersion":2,"layers":{layers}}}"#);
        let digest = Digest::of(Algorithm::Sha256, body.as_bytes());
        let blob = dir.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        write(&blob, &body);
        let records = dir.join("registries/a.test/o/a");
        let tag = format!(r#"{{"digest":"{digest}","checked_at":1}}"#);
        write(&records.join("_tags/v1"), &tag);
        let kind = r#"{"media_type":"application/vnd.oci.image.manifest.v1+json"}"#;
        write(&records.join("_manifests/sha256").join(digest.hex()), kind);
        blob
    }

    fn changed(dir: &Path, age: Duration) {
        for folder in ["_tags", "_manifests", "_manifests/sha256"] {
            let folder = File::open(dir.join("registries/a.test/o/a").join(folder)).unwrap();
            folder.set_modified(SystemClock.now() - age).unwrap();
        }
    }

    /// A pin has to be quick with thousands of pinned images.
    #[test]
    fn a_repository_is_read_again_only_when_its_records_have_changed() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = lay_out(dir.path());
        let view = StoreView::open(dir.path().to_owned()).unwrap();
        let mut sizes = PinSizes::default();
        let mut total = || sizes.total(&view, &Everything, view.repositories()).unwrap();
        changed(dir.path(), Duration::from_secs(60));
        let all = total();
        assert!(all > 1000, "{all}");
        write(&manifest, "garbage");
        assert_eq!(total(), all, "it was not read");
        changed(dir.path(), Duration::from_secs(30));
        assert!(total() < 1000);

        lay_out(dir.path());
        changed(dir.path(), Duration::ZERO);
        assert_eq!(total(), all, "records that changed just now are read each time");
        write(&manifest, "garbage");
        assert!(total() < 1000);
    }
}
