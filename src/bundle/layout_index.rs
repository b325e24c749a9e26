//! `index.json` of an OCI image layout (image-spec, "Image Layout Specification"), and the
//! annotations in which tools put names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::BundleError;
use super::bundle_image::{BundleImage, ImportWishes, NamelessManifest, PlacedName, StatedName};
use crate::inventory::{CarriedImage, CarriedRoot};

/// The file that says that a directory is a layout.
pub(super) const LAYOUT_FILE: &str = "oci-layout";

/// The content of that file.
pub(super) const LAYOUT_VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The file with the images.
pub(super) const INDEX_FILE: &str = "index.json";

/// The images of a layout.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayoutIndex {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Vec<LayoutEntry>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct LayoutEntry {
    #[serde(default)]
    media_type: Option<String>,
    digest: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

impl LayoutIndex {
    /// Reads the file.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BundleError> {
        serde_json::from_slice(bytes).map_err(|error| bad(&error))
    }

    /// The images that it lists, by their names.
    pub(super) fn images(&self, wishes: &ImportWishes) -> Result<Vec<BundleImage>, BundleError> {
        let named = self.manifests.iter().filter(|entry| !entry.is_nameless(wishes));
        let count = named.clone().count();
        named.map(|entry| entry.image(wishes, count)).collect()
    }

    /// The manifests that have no name and get none.
    pub(super) fn nameless(
        &self,
        wishes: &ImportWishes,
    ) -> Result<Vec<NamelessManifest>, BundleError> {
        let nameless = self.manifests.iter().filter(|entry| entry.is_nameless(wishes));
        nameless.map(LayoutEntry::manifest).collect()
    }

    /// The file for these images, in their order.
    pub(super) fn of(images: &[CarriedImage]) -> Self {
        let mut manifests = Vec::new();
        for image in images {
            manifests.extend(image.roots.iter().map(|root| LayoutEntry::of(image, root)));
        }
        Self { schema_version: 2, media_type: Some(OCI_INDEX.to_owned()), manifests }
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Structs of strings, numbers and lists of such always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl LayoutEntry {
    fn of(image: &CarriedImage, root: &CarriedRoot) -> Self {
        let repository = format!("{}/{}", image.registry, image.repository);
        let mut annotations = BTreeMap::new();
        if let Some(tag) = &root.tag {
            let name = format!("{repository}:{tag}");
            annotations.insert(IMAGE_NAME.to_owned(), name.clone());
            annotations.insert(REF_NAME.to_owned(), name);
        }
        annotations.insert(REPOSITORY.to_owned(), repository);
        Self {
            media_type: Some(root.media_type.to_string()),
            digest: root.digest.to_string(),
            size: image.contents.get(&root.digest).copied(),
            annotations: Some(annotations),
        }
    }

    fn text(&self, annotation: &str) -> Option<String> {
        self.annotations.as_ref()?.get(annotation).cloned()
    }

    fn stated(&self) -> StatedName {
        StatedName {
            full: self.text(IMAGE_NAME),
            reference: self.text(REF_NAME),
            repository: self.text(REPOSITORY),
        }
    }

    /// Whether it has no name of its own, and the one that is given is not meant for it.
    fn is_nameless(&self, wishes: &ImportWishes) -> bool {
        let is_meant = wishes.name.is_some() && self.text(SUBJECT).is_none();
        !is_meant && !self.stated().has_repository()
    }

    fn image(&self, wishes: &ImportWishes, count: usize) -> Result<BundleImage, BundleError> {
        let NamelessManifest { digest, media_type, size } = self.manifest()?;
        let PlacedName { registry, repository, tag } =
            wishes.place(&self.stated(), &digest, count)?;
        Ok(BundleImage { registry, repository, tag, digest, media_type, size })
    }

    fn manifest(&self) -> Result<NamelessManifest, BundleError> {
        let media_type = self.media_type.as_ref().map(|text| text.parse());
        Ok(NamelessManifest {
            digest: self.digest.parse().map_err(|error| bad(&error))?,
            media_type: media_type.transpose().map_err(|error| bad(&error))?,
            size: self.size,
        })
    }
}

fn bad(error: &impl ToString) -> BundleError {
    BundleError::BadIndex { name: INDEX_FILE.to_owned(), why: error.to_string() }
}

/// containerd's and Docker's annotation for the full name of an image.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The annotation of the image-spec: a full name to podman and here, a tag alone to others.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// containerd's annotation of a manifest that refers to this one, and has no name.
const SUBJECT: &str = "io.containerd.manifest.subject";

/// The repository of a manifest, which may have no tag.
const REPOSITORY: &str = "io.larder.repository";

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
