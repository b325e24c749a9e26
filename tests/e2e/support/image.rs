//! The images that the upstream holds: made once, pushed by curl, kept under `target/e2e/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::curl::Curl;
use super::hash;
use super::layer::{self, Layer};
use super::registry::Registry;
use super::work::{Work, kept};

/// An image in the upstream's storage.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Image {
    /// With `library/`, as Docker Hub's are.
    pub(crate) repository: String,
    pub(crate) tag: String,
    /// What the tag names: an index with one platform.
    pub(crate) index: String,
    pub(crate) manifest: String,
    pub(crate) config: String,
    pub(crate) layers: Vec<String>,
}

impl Image {
    /// `library/debian:bookworm`: Debian's root file system, and a second layer with
    /// `/larder-e2e`. Where debootstrap cannot work, busybox stands in for Debian.
    pub(crate) fn debian() -> Self {
        made("debian", "bookworm", |dir| {
            let base = layer::debian(dir).unwrap_or_else(|reason| {
                println!("busybox instead of Debian: {reason}");
                layer::busybox(dir)
            });
            vec![base, layer::text(dir, "larder-e2e", GREETING)]
        })
    }

    /// One layer of a little more than 1 GiB.
    pub(crate) fn large() -> Self {
        made("large", "1", |dir| vec![layer::noise(dir, (1 << 30) + 12_345)])
    }

    /// One layer of 100 MiB.
    pub(crate) fn medium() -> Self {
        made("medium", "1", |dir| vec![layer::noise(dir, 100 << 20)])
    }

    /// The bytes of a blob, as the upstream keeps them.
    pub(crate) fn blob_file(digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("distribution keeps sha256");
        storage().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// All its blobs: configuration and layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.config).chain(&self.layers).map(String::as_str)
    }
}

/// What `/larder-e2e` in the Debian image says.
pub(crate) const GREETING: &str = "kept by larder\n";

/// The upstream's storage.
pub(crate) fn storage() -> PathBuf {
    kept().join("registry")
}

fn made(name: &str, tag: &str, layers: impl FnOnce(&Path) -> Vec<Layer>) -> Image {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let record = kept().join(format!("{name}.json"));
    if let Ok(text) = fs::read(&record) {
        return serde_json::from_slice(&text).expect("target/e2e holds what a run wrote there");
    }
    println!("making the image {name}:{tag}, once");
    let work = Work::new(&format!("making-{name}"));
    let layers = layers(&work.dir("layers"));
    let upstream = Registry::writable(&storage(), &work);
    let image = push(&upstream, &work, name, tag, &layers);
    fs::write(&record, json!(image).to_string()).expect("target/e2e can be written");
    image
}

fn push(upstream: &Registry, work: &Work, name: &str, tag: &str, layers: &[Layer]) -> Image {
    let repository = format!("library/{name}");
    let to = format!("{}/v2/{repository}", upstream.url());
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let platform = json!({ "architecture": arch, "os": "linux" });
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let config = json!({
        "architecture": arch, "os": "linux",
        "config": { "Cmd": ["/bin/sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = work.file("config.json", &config.to_string());
    let descriptors: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor(layer.media_type, &layer.file, &put_blob(&to, &layer.file)))
        .collect();
    let config_digest = put_blob(&to, &config);

    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config, &config_digest), "layers": descriptors,
    });
    let manifest = work.file("manifest.json", &manifest.to_string());
    let digest = hash::of_file(&manifest);
    put_manifest(&format!("{to}/manifests/{digest}"), MANIFEST, &manifest);
    let mut entry = descriptor(MANIFEST, &manifest, &digest);
    entry["platform"] = platform;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let index = work.file("index.json", &index.to_string());
    put_manifest(&format!("{to}/manifests/{tag}"), INDEX, &index);

    let digests = descriptors.iter().map(|layer| layer["digest"].as_str().expect("a digest"));
    Image {
        repository,
        tag: tag.into(),
        index: hash::of_file(&index),
        manifest: digest,
        config: config_digest,
        layers: digests.map(str::to_owned).collect(),
    }
}

fn descriptor(media_type: &str, file: &Path, digest: &str) -> Value {
    let size = fs::metadata(file).expect("a file that was just written").len();
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn put_blob(repository: &str, file: &Path) -> String {
    let digest = hash::of_file(file);
    let begun = Curl::get(&format!("{repository}/blobs/uploads/")).arg("-d").arg("").send();
    assert_eq!(begun.status, 202, "{begun:?}");
    let location = begun.header("location");
    let and = if location.contains('?') { '&' } else { '?' };
    let put = Curl::get(&format!("{location}{and}digest={digest}")).arg("-T").arg(file).send();
    assert_eq!(put.status, 201, "{put:?}");
    digest
}

fn put_manifest(url: &str, media_type: &str, file: &Path) {
    let header = format!("Content-Type: {media_type}");
    let put = Curl::get(url).arg("-H").arg(header).arg("-T").arg(file).send();
    assert_eq!(put.status, 201, "{put:?}");
}

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
