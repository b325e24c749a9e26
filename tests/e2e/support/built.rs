//! An image that was built here and is in no registry yet, in the forms in which clients take it
//! in.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::image::HERE;
use super::layer::{self, Layer};
use super::publish::{CONFIG, INDEX, MANIFEST, descriptor};
use super::work::Work;
use super::{hash, tools};

/// `built:<tag>`, an image of several layers for this machine's platform.
pub(crate) struct Built {
    pub(crate) tag: String,
    /// As `docker save` writes it: what docker, containerd, podman and buildah load.
    pub(crate) archive: PathBuf,
    /// An OCI image layout, in which the tag is its manifest's.
    pub(crate) layout: PathBuf,
    /// The digests of its layers, uncompressed.
    pub(crate) diff_ids: Vec<String>,
}

impl Built {
    /// One of three layers. Those of two versions are alike but for the last.
    pub(crate) fn version(work: &Work, version: &str) -> Self {
        Self::tagged(work, version, version)
    }

    /// The same under another tag.
    pub(crate) fn tagged(work: &Work, version: &str, tag: &str) -> Self {
        let dir = work.new_dir("layers");
        let dirs = ["base", "middle", "top"].map(|name| dir.join(name));
        for dir in &dirs {
            fs::create_dir_all(dir).expect("the test's directory can be written");
        }
        let layers = vec![
            layer::noise(&dirs[0], SHARED_BYTES),
            layer::noise(&dirs[1], 100_000),
            layer::noise(&dirs[2], changed_bytes(version)),
        ];
        Self::of(work, tag, &layers)
    }

    /// One of these layers, which differ.
    pub(crate) fn of(work: &Work, tag: &str, layers: &[Layer]) -> Self {
        let (os, architecture) = HERE.split_once('/').expect("a platform has two parts");
        let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = json!({
            "architecture": architecture, "os": os,
            "config": { "Labels": { "version": tag } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let dir = work.new_dir("built");
        let config = write(&dir.join("config.json"), &config);
        let archive = archive(&dir, tag, &config, layers);
        let layout = layout(&dir, tag, &config, layers);
        Self { tag: tag.to_owned(), archive, layout, diff_ids }
    }

    /// A layout in which the tag is an index's: of this image, and of an attestation of it, as
    /// buildx makes them.
    pub(crate) fn attested(&self, work: &Work) -> PathBuf {
        let dir = work.new_dir("attested");
        let layout = dir.join("layout");
        let keep = |media_type: &str, file: &Path| keep(&layout, media_type, file);
        for entry in fs::read_dir(self.layout.join("blobs/sha256")).expect("it was built") {
            let file = entry.expect("it can be listed").path();
            keep(MANIFEST, &file);
        }
        let text = fs::read(self.layout.join("index.json")).expect("it was built");
        let built: Value = serde_json::from_slice(&text).expect("it was built");
        let mut image = built["manifests"][0].clone();
        let (os, architecture) = HERE.split_once('/').expect("a platform has two parts");
        image["platform"] = json!({ "architecture": architecture, "os": os });
        image.as_object_mut().expect("a descriptor").remove("annotations");

        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [], "predicate": { "builder": { "id": "" } },
        });
        let statement = write(&dir.join("statement.json"), &statement);
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [hash::of_file(&statement)] },
        });
        let attestation = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": keep(CONFIG, &write(&dir.join("config.json"), &config)),
            "layers": [keep("application/vnd.in-toto+json", &statement)],
        });
        let mut attestation = keep(MANIFEST, &write(&dir.join("manifest.json"), &attestation));
        attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
        attestation["annotations"] = json!({
            "vnd.docker.reference.digest": image["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": [image, attestation],
        });
        let entry = keep(INDEX, &write(&dir.join("index.json"), &index));
        finish(&layout, &self.tag, entry)
    }

    /// How a store calls it that has loaded the archive.
    pub(crate) fn name(&self) -> String {
        format!("built:{}", self.tag)
    }
}

/// The length of the first layer that two versions have in common.
pub(crate) const SHARED_BYTES: u64 = 3 << 20;

/// How long the layer is that a version has for itself; another length is another content.
fn changed_bytes(version: &str) -> u64 {
    200_000 + version.bytes().fold(0, |sum, byte| (sum * 31 + u64::from(byte)) % 10_007)
}

/// A tar of the configuration, of each layer, and of a list of them.
fn archive(dir: &Path, tag: &str, config: &Path, layers: &[Layer]) -> PathBuf {
    let tree = dir.join("archive");
    let config_name = format!("{}.json", hex(&hash::of_file(config)));
    let names: Vec<String> =
        layers.iter().map(|layer| format!("{}/layer.tar", hex(&layer.diff_id))).collect();
    for (layer, name) in layers.iter().zip(&names) {
        put(&layer.file, &tree.join(name));
    }
    put(config, &tree.join(&config_name));
    let list = json!([
        { "Config": config_name, "RepoTags": [format!("built:{tag}")], "Layers": names },
    ]);
    write(&tree.join("manifest.json"), &list);

    let archive = dir.join("archive.tar");
    let mut tar = tools::command("tar");
    tar.arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".");
    tools::run(&mut tar).expect("tar packs an image");
    archive
}

fn layout(dir: &Path, tag: &str, config: &Path, layers: &[Layer]) -> PathBuf {
    let layout = dir.join("layout");
    let keep = |media_type: &str, file: &Path| keep(&layout, media_type, file);
    let descriptors = layers.iter().map(|layer| keep(layer.media_type, &layer.file));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": keep(CONFIG, config),
        "layers": descriptors.collect::<Vec<_>>(),
    });
    let entry = keep(MANIFEST, &write(&dir.join("manifest.json"), &manifest));
    finish(&layout, tag, entry)
}

/// Puts a file among a layout's blobs.
fn keep(layout: &Path, media_type: &str, file: &Path) -> Value {
    let digest = hash::of_file(file);
    put(file, &layout.join("blobs").join(digest.replace(':', "/")));
    descriptor(media_type, file, &digest)
}

/// Makes it a layout, in which the tag is this one's.
fn finish(layout: &Path, tag: &str, mut entry: Value) -> PathBuf {
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    write(&layout.join("oci-layout"), &json!({ "imageLayoutVersion": "1.0.0" }));
    write(&layout.join("index.json"), &json!({ "schemaVersion": 2, "manifests": [entry] }));
    layout.to_owned()
}

/// A second name for a file.
fn put(file: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("it is in a directory")).expect("it can be made");
    fs::hard_link(file, to).expect("both are among the test's data");
}

fn write(file: &Path, value: &Value) -> PathBuf {
    fs::create_dir_all(file.parent().expect("it is in a directory")).expect("it can be made");
    fs::write(file, value.to_string()).expect("the test's directory can be written");
    file.to_owned()
}

fn hex(digest: &str) -> &str {
    digest.split(':').nth(1).expect("a digest has two parts")
}
