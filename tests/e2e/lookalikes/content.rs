//! An image with referrers and many tags, which every look-alike holds under its own name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::hash;
use crate::support::image::HERE;

/// The content of one repository.
pub(crate) struct VendorContent {
    /// Bytes by digest.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// Type and bytes by digest.
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// Digests by tag.
    pub(crate) tags: BTreeMap<String, String>,
    /// The index over what refers to the image, as the specification's API answers it.
    pub(crate) referrers: Vec<u8>,
    /// The digest that the tag `1` names.
    pub(crate) image: String,
}

/// The types of one family of manifests.
pub(crate) struct ManifestTypes {
    index: &'static str,
    manifest: &'static str,
    config: &'static str,
    layer: &'static str,
}

/// How many tags there are besides `1` and those of the scheme for referrers.
const TAGS: usize = 250;

impl VendorContent {
    /// With referrers under the tag `sha256-…`, too, where the API is not to be had.
    pub(crate) fn new(types: &ManifestTypes, has_referrers_tag: bool) -> Self {
        let (blobs, manifests, tags) = Default::default();
        let mut this = Self { blobs, manifests, tags, referrers: Vec::new(), image: String::new() };
        this.put_image(types);
        let artifact = this.put_artifact();
        let list = json!({ "schemaVersion": 2, "mediaType": OCI.index, "manifests": [artifact] });
        this.referrers = list.to_string().into_bytes();
        if has_referrers_tag {
            let digest = this.put_manifest(OCI.index, &list);
            this.tags.insert(this.image.replace(':', "-"), digest);
        }
        for number in 0..TAGS {
            this.tags.insert(format!("v{number:03}"), this.image.clone());
        }
        this.tags.insert("1".to_owned(), this.image.clone());
        this
    }

    fn put_image(&mut self, types: &ManifestTypes) {
        let (os, architecture) = HERE.split_once('/').expect("a platform has two parts");
        let platform = json!({ "os": os, "architecture": architecture });
        let layers = [noise(300_000), noise(1_000)].map(|bytes| self.put_blob(types.layer, bytes));
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "os": os, "architecture": architecture, "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.put_blob(types.config, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": types.manifest, "config": config, "layers": layers,
        });
        let len = manifest.to_string().len();
        let digest = self.put_manifest(types.manifest, &manifest);
        let entry = json!({
            "mediaType": types.manifest, "digest": digest, "size": len, "platform": platform,
        });
        let index = json!({ "schemaVersion": 2, "mediaType": types.index, "manifests": [entry] });
        self.image = self.put_manifest(types.index, &index);
    }

    /// Its descriptor.
    fn put_artifact(&mut self) -> Value {
        let (media_type, bytes) = &self.manifests[&self.image];
        let subject = json!({ "mediaType": media_type, "digest": self.image, "size": bytes.len() });
        let empty = self.put_blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
        let text = self.put_blob("text/plain", b"a bill of materials".to_vec());
        let artifact = json!({
            "schemaVersion": 2, "mediaType": OCI.manifest, "artifactType": SBOM,
            "config": empty, "layers": [text], "subject": subject,
        });
        let len = artifact.to_string().len();
        let digest = self.put_manifest(OCI.manifest, &artifact);
        json!({ "mediaType": OCI.manifest, "digest": digest, "size": len, "artifactType": SBOM })
    }

    fn put_blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = hash::of_bytes(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.blobs.insert(digest, bytes);
        descriptor
    }

    fn put_manifest(&mut self, media_type: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = hash::of_bytes(&bytes);
        self.manifests.insert(digest.clone(), (media_type.to_owned(), bytes));
        digest
    }
}

/// Bytes that do not compress, the same for the same length.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(len as u64).fill(&mut bytes);
    bytes
}

pub(crate) const OCI: ManifestTypes = ManifestTypes {
    index: "application/vnd.oci.image.index.v1+json",
    manifest: "application/vnd.oci.image.manifest.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar+gzip",
};

pub(crate) const DOCKER: ManifestTypes = ManifestTypes {
    index: "application/vnd.docker.distribution.manifest.list.v2+json",
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

const SBOM: &str = "application/vnd.example.sbom";
