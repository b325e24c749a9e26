//! `manifest.json` of `docker save`, as Docker before version 25, podman and crane write it: files
//! by any name, without the manifests that registries have.
//!
//! The manifest that is made for such an image is the same for the same archive. A layer is what
//! the configuration lists as its diff id, or what its own name says.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::BundleError;
use super::bundle_image::{BundleImage, ImportWishes, StatedName};
use crate::oci::Digest;

/// The file with the images.
pub(super) const DOCKER_FILE: &str = "manifest.json";

/// The files of an archive.
#[derive(Debug, Default)]
pub(super) struct LooseFiles {
    files: HashMap<String, LooseFile>,
    /// Symbolic links, by their path: Docker writes them for a layer that two images have.
    links: HashMap<String, String>,
}

/// A stored file.
#[derive(Clone, Debug)]
pub(super) struct LooseFile {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) len: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image of an archive, and the manifest that it gets.
pub(super) struct MadeManifest {
    pub(super) bytes: Vec<u8>,
    names: Vec<StatedName>,
}

impl LooseFiles {
    pub(super) fn add(&mut self, name: &str, file: LooseFile) {
        self.files.insert(name.to_owned(), file);
    }

    /// Adds a link, if it leads to a file of the archive.
    pub(super) fn add_link(&mut self, name: &str, target: &str) -> Result<(), BundleError> {
        let is_layer = name.ends_with("/layer.tar");
        let resolved = is_layer.then(|| target_of(name, target)).flatten();
        let resolved = resolved.ok_or_else(|| BundleError::NotAFile {
            name: name.to_owned(),
            kind: "a link that leads elsewhere",
        })?;
        self.links.insert(name.to_owned(), resolved);
        Ok(())
    }

    /// The file of this name, also by one link.
    fn get(&self, name: &str) -> Result<&LooseFile, BundleError> {
        let found = self.files.get(name);
        let found = found.or_else(|| self.files.get(self.links.get(name)?));
        found.ok_or_else(|| bad(format!("`{name}` is not in the archive")))
    }

    /// The manifests of the images that `manifest.json` lists. `read` gives the bytes of a stored
    /// configuration.
    pub(super) fn manifests(
        &self,
        index: &[u8],
        read: &dyn Fn(&Digest) -> Result<Vec<u8>, BundleError>,
    ) -> Result<Vec<MadeManifest>, BundleError> {
        let images: Vec<DockerImage> =
            serde_json::from_slice(index).map_err(|error| bad(error.to_string()))?;
        images.iter().map(|image| self.manifest(image, read)).collect()
    }

    fn manifest(
        &self,
        image: &DockerImage,
        read: &dyn Fn(&Digest) -> Result<Vec<u8>, BundleError>,
    ) -> Result<MadeManifest, BundleError> {
        let config = self.get(&image.config)?;
        if !is_named_by(&image.config, &config.digest) {
            return Err(bad(format!(
                "`{}` is {}, not what its name says",
                image.config, config.digest
            )));
        }
        let layers = self.layers(image, &diff_ids(&read(&config.digest)?))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": layers,
        });
        let tags = image.repo_tags.clone().unwrap_or_default();
        let full_name = |tag: String| StatedName { full: Some(tag), ..StatedName::default() };
        let mut names: Vec<StatedName> = tags.into_iter().map(full_name).collect();
        if names.is_empty() {
            names.push(StatedName::default());
        }
        Ok(MadeManifest { bytes: manifest.to_string().into_bytes(), names })
    }
}

impl LooseFiles {
    /// The descriptors of the layers.
    fn layers(&self, image: &DockerImage, diff_ids: &[String]) -> Result<Vec<Value>, BundleError> {
        let names = image.layers.as_deref().unwrap_or_default();
        if diff_ids.len() != names.len() {
            let counts = format!("{} layers, and {} are listed", diff_ids.len(), names.len());
            return Err(bad(format!("`{}` has {counts}", image.config)));
        }
        let layer = |(name, diff_id): (&String, &String)| {
            let layer = self.get(name)?;
            let is_plain = layer.digest.as_str() == diff_id;
            if !is_plain && !is_named_by(name, &layer.digest) {
                return Err(bad(format!("the layer `{name}` is {}, not {diff_id}", layer.digest)));
            }
            Ok(descriptor(if is_plain { LAYER } else { LAYER_GZIP }, layer))
        };
        names.iter().zip(diff_ids).map(layer).collect()
    }
}

impl MadeManifest {
    /// The images of this manifest, one for each of its names.
    pub(super) fn images(
        &self,
        digest: &Digest,
        wishes: &ImportWishes,
        count: usize,
    ) -> Result<Vec<BundleImage>, BundleError> {
        let image = |stated| {
            let placed = wishes.place(stated, digest, count)?;
            Ok(BundleImage {
                registry: placed.registry,
                repository: placed.repository,
                tag: placed.tag,
                digest: digest.clone(),
                media_type: None,
                size: None,
            })
        };
        self.names.iter().map(image).collect()
    }
}

/// The path in the archive that a link at `name` leads to; `None` if it leads out of it.
fn target_of(name: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

fn is_named_by(name: &str, digest: &Digest) -> bool {
    name.contains(digest.hex())
}

fn diff_ids(config: &[u8]) -> Vec<String> {
    #[derive(Default, Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Option<Vec<String>>,
    }
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        rootfs: RootFs,
    }
    let config = serde_json::from_slice::<Config>(config).ok();
    config.and_then(|config| config.rootfs.diff_ids).unwrap_or_default()
}

fn descriptor(media_type: &str, file: &LooseFile) -> Value {
    json!({ "mediaType": media_type, "digest": file.digest.as_str(), "size": file.len })
}

fn bad(why: String) -> BundleError {
    BundleError::BadIndex { name: DOCKER_FILE.to_owned(), why }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_link_leads_to_a_layer_of_the_archive_or_is_refused() {
        for (name, target, want) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/layer.tar", "../b.tar", Some("b.tar")),
            ("a/layer.tar", "../../b.tar", None),
            ("a/layer.tar", "/etc/shadow", None),
        ] {
            assert_eq!(target_of(name, target).as_deref(), want, "{target}");
        }
        assert!(LooseFiles::default().add_link("manifest.json", "a").is_err());
    }

    #[test]
    fn a_manifest_is_made_of_what_the_configuration_lists() {
        let layer = Digest::of(Algorithm::Sha256, b"layer");
        let config = format!(r#"{{"rootfs":{{"diff_ids":["{layer}"]}}}}"#).into_bytes();
        let of_config = Digest::of(Algorithm::Sha256, &config);
        let name = format!("{}.json", of_config.hex());
        let index =
            format!(r#"[{{"Config":"{name}","RepoTags":["a:1"],"Layers":["l/layer.tar"]}}]"#);
        let make = |digest: &Digest| {
            let mut files = LooseFiles::default();
            files.add(&name, LooseFile { digest: of_config.clone(), len: 9 });
            files.add("l/layer.tar", LooseFile { digest: digest.clone(), len: 5 });
            files.manifests(index.as_bytes(), &|_| Ok(config.clone()))
        };
        let first = make(&layer).unwrap();
        assert_eq!(first[0].bytes, make(&layer).unwrap()[0].bytes);
        let text = String::from_utf8(first[0].bytes.clone()).unwrap();
        assert!(text.contains(layer.as_str()) && text.contains(of_config.as_str()), "{text}");
        let other = make(&Digest::of(Algorithm::Sha256, b"other"));
        assert!(other.err().unwrap().to_string().contains("the layer `l/layer.tar` is"));
    }
}
