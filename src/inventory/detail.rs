//! One image with all that it lists: what `larder show --json` prints.

use std::collections::{BTreeMap, HashSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::document::{ManifestPart, PartKind};
use super::image_set::ImageSet;
use super::list::image_row;
use super::name::ImageName;
use super::pulls::PullCounts;
use super::row::ImageRow;
use super::timestamp::Timestamp;
use super::usage::each_use;
use crate::oci::Digest;
use crate::store::{StoreView, TagView};

/// An image and its manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDetail {
    /// The image as a list has it.
    #[serde(flatten)]
    pub row: ImageRow,
    /// Its manifest, and behind it those that this one lists.
    pub manifests: Vec<ManifestDetail>,
}

/// A manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestDetail {
    /// Its digest, length and state.
    #[serde(flatten)]
    pub content: ContentDetail,
    /// Its platform, where an index states it: `linux/arm64/v8`.
    pub platform: Option<String>,
    /// Whether clients have pulled it.
    #[serde(rename = "pulled")]
    pub is_pulled: bool,
    /// Whether it and all that it lists, but other manifests, is stored.
    #[serde(rename = "complete")]
    pub is_complete: bool,
    /// Its configuration and layers.
    pub parts: Vec<ContentDetail>,
}

/// A content of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentDetail {
    /// Its digest.
    pub digest: String,
    /// Its use: `manifest`, `attestation`, `config`, `layer`, or `foreign` for a layer that clients
    /// fetch from elsewhere.
    pub kind: String,
    /// Its type, where it is stated.
    pub media_type: Option<String>,
    /// Its length in bytes, where that is known.
    pub size: Option<u64>,
    /// Whether it is stored.
    #[serde(rename = "stored")]
    pub is_stored: bool,
    /// When its bytes were last verified; `null` if it is not stored.
    pub verified_at: Option<Timestamp>,
    /// Other images in the cache that have it, the first ten by name.
    pub shared_with: Vec<String>,
    /// How many they are.
    pub shared: usize,
}

/// An image with all that it lists; `None` if it is not in the cache. Blocks.
///
/// # Errors
///
/// Those of the file system.
pub fn show_image(view: &StoreView, name: &ImageName) -> io::Result<Option<ImageDetail>> {
    let Some(repository) = view.repository(&name.registry, &name.repository) else {
        return Ok(None);
    };
    let tags = repository.tags()?;
    let tag = name.tag().and_then(|wanted| tags.iter().find(|tag| tag.tag == *wanted));
    let mut images = ImageSet::read(view, &repository)?;
    let Some(root) = root_of(name, tag, &images) else { return Ok(None) };
    let mut row = image_row(view, &repository, &mut images, tag, &root)?;
    row.pulls = PullCounts::read(view).of(&row.name);
    let mut uses: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    each_use(view, &images.contents(&root), &mut |name, digest| {
        if name != row.name {
            uses.entry(digest.clone()).or_default().push(name.to_owned());
        }
    })?;
    let manifests = DetailSource { view, images: &images, uses }.manifests(&root)?;
    Ok(Some(ImageDetail { row, manifests }))
}

/// The manifest that a name means, if that is held.
fn root_of(name: &ImageName, tag: Option<&TagView>, images: &ImageSet<'_>) -> Option<Digest> {
    let digest = name.digest().filter(|digest| images.manifests.contains_key(*digest));
    tag.map(|tag| &tag.digest).or(digest).cloned()
}

struct DetailSource<'v> {
    view: &'v StoreView,
    images: &'v ImageSet<'v>,
    uses: BTreeMap<Digest, Vec<String>>,
}

impl DetailSource<'_> {
    /// The root, and the manifests below it in their order.
    fn manifests(&self, root: &Digest) -> io::Result<Vec<ManifestDetail>> {
        let mut details = vec![self.manifest(root, None)?];
        let mut seen = HashSet::from([root.clone()]);
        let mut todo = vec![root.clone()];
        while let Some(digest) = todo.pop() {
            for part in self.parts(&digest) {
                let is_manifest = matches!(part.kind, PartKind::Child | PartKind::Attestation);
                if is_manifest && seen.insert(part.digest.clone()) {
                    details.push(self.manifest(&part.digest, Some(part))?);
                    todo.push(part.digest.clone());
                }
            }
        }
        Ok(details)
    }

    fn parts(&self, digest: &Digest) -> &[ManifestPart] {
        let held = self.images.manifests.get(digest);
        held.and_then(|held| held.document.as_ref()).map_or(&[], |document| &document.parts)
    }

    fn manifest(
        &self,
        digest: &Digest,
        listed: Option<&ManifestPart>,
    ) -> io::Result<ManifestDetail> {
        let held = self.images.manifests.get(digest);
        let stated = listed.and_then(|part| part.media_type.clone());
        let part = ManifestPart {
            digest: digest.clone(),
            size: listed.and_then(|part| part.size),
            kind: listed.map_or(PartKind::Child, |part| part.kind),
            media_type: held.map(|held| held.record.media_type.to_string()).or(stated),
            platform: listed.and_then(|part| part.platform.clone()),
        };
        let content = self.content(&part)?;
        let contents = self.parts(digest).iter().filter(|part| part.is_content());
        let parts = contents.map(|part| self.content(part)).collect::<io::Result<Vec<_>>>()?;
        let is_there = |part: &ContentDetail| part.is_stored || part.kind == FOREIGN;
        Ok(ManifestDetail {
            is_pulled: held.is_some(),
            is_complete: held.is_some() && content.is_stored && parts.iter().all(is_there),
            platform: part.platform,
            content,
            parts,
        })
    }

    fn content(&self, part: &ManifestPart) -> io::Result<ContentDetail> {
        let stored = self.view.content(&part.digest)?;
        let users = self.uses.get(&part.digest).map_or(&[][..], Vec::as_slice);
        Ok(ContentDetail {
            digest: part.digest.to_string(),
            kind: kind_name(part.kind).to_owned(),
            media_type: part.media_type.clone(),
            size: stored.map(|stored| stored.len).or(part.size),
            is_stored: stored.is_some(),
            verified_at: stored.map(|stored| stored.verified_at.into()),
            shared_with: users.iter().take(USERS_SHOWN).cloned().collect(),
            shared: users.len(),
        })
    }
}

fn kind_name(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Attestation => "attestation",
        PartKind::Child => "manifest",
        PartKind::Config => "config",
        PartKind::Layer => "layer",
        PartKind::Foreign => FOREIGN,
    }
}

const FOREIGN: &str = "foreign";

/// A base layer may be one of thousands of images.
const USERS_SHOWN: usize = 10;
