//! Puts images into a registry by curl, by whichever digests.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::curl::Curl;
use super::hash;
use super::image::Image;
use super::layer::Layer;
use super::work::Work;

/// Publishes images to a registry, with digests of one algorithm.
pub(crate) struct Publisher<'a> {
    /// A URL.
    pub(crate) registry: &'a str,
    /// The algorithm of the digests: `sha256` or `sha512`.
    pub(crate) algorithm: &'static str,
    /// For the files on their way.
    pub(crate) work: &'a Work,
}

impl Publisher<'_> {
    /// Publishes `<repository>:<tag>`, an index of an image for each platform.
    pub(crate) fn publish(
        &self,
        repository: &str,
        tag: &str,
        platforms: &[&str],
        layers: impl Fn(&str, &Path) -> Vec<Layer>,
    ) -> Vec<Image> {
        let name = repository.replace('/', "-");
        let to = format!("{}/v2/{repository}", self.registry);
        let mut images = Vec::new();
        let mut entries = Vec::new();
        for platform in platforms {
            let dir = self.work.dir(&format!("{name}-{}", platform.replace('/', "-")));
            let (image, entry) = self.put_image(&to, platform, &layers(platform, &dir));
            images.push(Image { repository: repository.into(), tag: tag.into(), ..image });
            entries.push(entry);
        }

        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        let index = self.work.file("index.json", &index.to_string());
        let digest = self.digest(&index);
        // By its digest first: a registry picks the algorithm for what it is sent by tag.
        put_manifest(&format!("{to}/manifests/{digest}"), INDEX, &index);
        let tagged = format!("{to}/manifests/{tag}?digest={digest}");
        put_manifest(&tagged, INDEX, &index);
        for image in &mut images {
            image.index.clone_from(&digest);
        }
        images
    }

    /// An image without its names and its index, and the descriptor of its manifest.
    fn put_image(&self, to: &str, platform: &str, layers: &[Layer]) -> (Image, Value) {
        let (os, architecture) = platform.split_once('/').expect("a platform has two parts");
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": architecture, "os": os,
            "config": { "Cmd": ["/bin/sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.work.file("config.json", &config.to_string());
        let config_digest = self.put_blob(to, &config);
        let layer_digests: Vec<String> =
            layers.iter().map(|layer| self.put_blob(to, &layer.file)).collect();
        let descriptors = layers.iter().zip(&layer_digests);
        let descriptors =
            descriptors.map(|(layer, digest)| descriptor(layer.media_type, &layer.file, digest));

        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config, &config_digest),
            "layers": descriptors.collect::<Vec<_>>(),
        });
        let manifest = self.work.file("manifest.json", &manifest.to_string());
        let digest = self.digest(&manifest);
        put_manifest(&format!("{to}/manifests/{digest}"), MANIFEST, &manifest);
        let mut entry = descriptor(MANIFEST, &manifest, &digest);
        entry["platform"] = json!({ "architecture": architecture, "os": os });
        let image = Image {
            repository: String::new(),
            tag: String::new(),
            index: String::new(),
            platform: platform.to_owned(),
            manifest: digest,
            config: config_digest,
            layers: layer_digests,
        };
        (image, entry)
    }

    fn put_blob(&self, repository: &str, file: &Path) -> String {
        let digest = self.digest(file);
        let begun = Curl::get(&format!("{repository}/blobs/uploads/")).arg("-d").arg("").send();
        assert_eq!(begun.status, 202, "{begun:?}");
        let mut location = begun.header("location");
        if location.starts_with('/') {
            location.insert_str(0, self.registry);
        }
        let and = if location.contains('?') { '&' } else { '?' };
        let put = Curl::get(&format!("{location}{and}digest={digest}")).arg("-T").arg(file).send();
        assert_eq!(put.status, 201, "{put:?}");
        digest
    }

    fn digest(&self, file: &Path) -> String {
        hash::of_file_as(&format!("{}:", self.algorithm), file)
    }
}

pub(super) fn descriptor(media_type: &str, file: &Path, digest: &str) -> Value {
    let size = fs::metadata(file).expect("a file that was just written").len();
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn put_manifest(url: &str, media_type: &str, file: &Path) {
    let header = format!("Content-Type: {media_type}");
    let put = Curl::get(url).arg("-H").arg(header).arg("-T").arg(file).send();
    assert_eq!(put.status, 201, "{put:?}");
}

pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
