//! The images of one repository, and what of each is stored.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::time::SystemTime;

use super::document::{ManifestDocument, PartKind};
use super::row::ImagePlatforms;
use crate::oci::Digest;
use crate::store::{ManifestView, RepositoryView, StoreView};

/// The manifests that are held for a repository, as they lay on disk when this was made.
#[derive(Debug)]
pub(super) struct ImageSet<'v> {
    view: &'v StoreView,
    pub(super) manifests: BTreeMap<Digest, HeldManifest>,
    /// Lengths of contents that were looked for; `None` for those that are not stored.
    lengths: HashMap<Digest, Option<u64>>,
}

/// A manifest that is held.
#[derive(Debug)]
pub(super) struct HeldManifest {
    pub(super) record: ManifestView,
    /// The parts that it lists; `None` where its bytes are not stored.
    pub(super) document: Option<ManifestDocument>,
}

/// The parts of an image that were counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageTotals {
    /// Bytes of all that it needs.
    pub(super) size: u64,
    /// Bytes of that which are stored.
    pub(super) stored: u64,
    /// Contents that are not stored.
    pub(super) missing: usize,
    pub(super) platforms: Option<ImagePlatforms>,
    /// The latest use of one of its manifests.
    pub(super) used_at: SystemTime,
}

impl<'v> ImageSet<'v> {
    /// Reads every manifest of a repository.
    pub(super) fn read(view: &'v StoreView, repository: &RepositoryView) -> io::Result<Self> {
        let mut manifests = BTreeMap::new();
        for record in repository.manifests()? {
            let body = view.manifest(&record.digest)?;
            let document = body.and_then(|body| ManifestDocument::read(&body));
            manifests.insert(record.digest.clone(), HeldManifest { record, document });
        }
        Ok(Self { view, manifests, lengths: HashMap::new() })
    }

    /// The manifests that no other manifest of the repository lists.
    pub(super) fn roots(&self) -> Vec<Digest> {
        let documents = self.manifests.values().filter_map(|held| held.document.as_ref());
        let listed: HashSet<&Digest> =
            documents.flat_map(|document| &document.parts).map(|part| &part.digest).collect();
        self.manifests.keys().filter(|digest| !listed.contains(digest)).cloned().collect()
    }

    /// A manifest and those below it that are held, each once.
    pub(super) fn tree(&self, root: &Digest) -> Vec<Digest> {
        let mut tree = vec![root.clone()];
        let mut seen: HashSet<Digest> = tree.iter().cloned().collect();
        let mut at = 0;
        while let Some(digest) = tree.get(at) {
            let held = self.manifests.get(digest).and_then(|held| held.document.as_ref());
            let parts = held.map_or(&[][..], |document| &document.parts);
            let children = parts.iter().map(|part| &part.digest);
            let held = children.filter(|child| self.manifests.contains_key(*child));
            let new: Vec<_> = held.filter(|child| seen.insert((*child).clone())).cloned().collect();
            tree.extend(new);
            at += 1;
        }
        tree
    }

    /// The manifests of an image and the contents that they list.
    pub(super) fn contents(&self, root: &Digest) -> HashSet<Digest> {
        let tree = self.tree(root);
        let held = tree.iter().filter_map(|digest| self.manifests.get(digest)?.document.as_ref());
        let parts: Vec<_> = held
            .flat_map(|document| &document.parts)
            .filter(|part| part.is_content())
            .map(|part| part.digest.clone())
            .collect();
        tree.into_iter().chain(parts).collect()
    }

    /// The contents that an image needs, with the lengths that manifests state.
    pub(super) fn needed(&self, root: &Digest) -> BTreeMap<Digest, u64> {
        let mut needed: BTreeMap<Digest, u64> = BTreeMap::new();
        for digest in self.tree(root) {
            let held = self.manifests.get(&digest);
            needed.insert(digest, 0);
            let Some(held) = held else { continue };
            let parts = held.document.iter().flat_map(|document| &document.parts);
            let contents =
                parts.filter(|part| matches!(part.kind, PartKind::Config | PartKind::Layer));
            for part in contents {
                needed.insert(part.digest.clone(), part.size.unwrap_or_default());
            }
        }
        needed
    }

    /// Counts what an image needs, and what of it is stored.
    pub(super) fn totals(&mut self, root: &Digest) -> io::Result<ImageTotals> {
        let tree = self.tree(root);
        let uses =
            tree.iter().filter_map(|digest| Some(self.manifests.get(digest)?.record.used_at));
        let used_at = uses.max().unwrap_or(SystemTime::UNIX_EPOCH);
        let platforms = self.platforms(root);
        let (mut size, mut stored, mut missing) = (0, 0, usize::from(self.is_hollow(root)));
        for (digest, stated) in self.needed(root) {
            let len = self.length(&digest)?;
            size += len.unwrap_or(stated);
            stored += len.unwrap_or_default();
            missing += usize::from(len.is_none());
        }
        Ok(ImageTotals { size, stored, missing, platforms, used_at })
    }

    /// Whether it is an index whose children were never pulled, and so has nothing to run.
    pub(super) fn is_hollow(&self, root: &Digest) -> bool {
        self.platforms(root).is_some_and(|platforms| platforms.pulled == 0)
    }

    /// How long a stored content is in bytes.
    pub(super) fn length(&mut self, digest: &Digest) -> io::Result<Option<u64>> {
        if let Some(known) = self.lengths.get(digest) {
            return Ok(*known);
        }
        let len = self.view.content(digest)?.map(|content| content.len);
        self.lengths.insert(digest.clone(), len);
        Ok(len)
    }

    fn platforms(&self, root: &Digest) -> Option<ImagePlatforms> {
        let document = self.manifests.get(root)?.document.as_ref()?;
        let listed = document.children().count();
        let is_held = |digest| self.manifests.contains_key(digest);
        let pulled = document.children().filter(|part| is_held(&part.digest)).count();
        (listed > 0).then_some(ImagePlatforms { pulled, listed })
    }
}
