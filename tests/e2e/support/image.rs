//! The images that the upstream holds: made once, kept under `target/e2e/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::layer::{self, Layer};
use super::publish::Publisher;
use super::registry::Registry;
use super::work::{Work, kept};

/// An image for one platform, which a tag names by way of an index.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Image {
    /// With `library/`, as Docker Hub's are.
    pub(crate) repository: String,
    pub(crate) tag: String,
    /// The digest that the tag names. The index may list further platforms.
    pub(crate) index: String,
    /// `<os>/<architecture>`
    pub(crate) platform: String,
    pub(crate) manifest: String,
    pub(crate) config: String,
    pub(crate) layers: Vec<String>,
}

impl Image {
    /// `library/debian:bookworm`: Debian's root file system, and a second layer with `/larder-e2e`.
    /// On machines on which debootstrap cannot work, busybox stands in for Debian.
    pub(crate) fn debian() -> Self {
        let [image] = made("library/debian", "bookworm", [HERE], |_, dir| {
            let base = layer::debian(dir).unwrap_or_else(|reason| {
                println!("busybox instead of Debian: {reason}");
                layer::busybox(dir)
            });
            vec![base, layer::text(dir, "larder-e2e", GREETING)]
        });
        image
    }

    /// One index of two platforms: this machine's, and another.
    pub(crate) fn small() -> [Self; 2] {
        made("library/small", "1", [HERE, ELSEWHERE], small_layers)
    }

    /// `library/alpine:latest`, for this machine's platform: the image that the documents pull.
    pub(crate) fn alpine() -> Self {
        let [image] = made("library/alpine", "latest", [HERE], small_layers);
        image
    }

    /// `team/app:1`, for this machine's platform: another tenant's.
    pub(crate) fn of_a_team() -> Self {
        let [image] = made("team/app", "1", [HERE], small_layers);
        image
    }

    /// One layer of a little more than 1 GiB.
    pub(crate) fn large() -> Self {
        let [image] = made("library/large", "1", [HERE], |_, dir| {
            vec![layer::noise(dir, (1 << 30) + 12_345)]
        });
        image
    }

    /// One layer of 100 MiB.
    pub(crate) fn medium() -> Self {
        let [image] =
            made("library/medium", "1", [HERE], |_, dir| vec![layer::noise(dir, 100 << 20)]);
        image
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

    /// Its blobs, its manifest and its index.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &str> {
        self.blobs().chain([self.manifest.as_str(), self.index.as_str()])
    }
}

/// A layer of some megabytes and a tiny one, which another platform's differ from.
pub(crate) fn small_layers(platform: &str, dir: &Path) -> Vec<Layer> {
    let len = (3 << 20) + platform.bytes().map(u64::from).sum::<u64>();
    vec![layer::noise(dir, len), layer::text(dir, "larder-e2e", platform)]
}

/// The text of `/larder-e2e` in the Debian image.
pub(crate) const GREETING: &str = "kept by larder\n";

/// The upstream's storage.
pub(crate) fn storage() -> PathBuf {
    kept().join("registry")
}

fn made<const N: usize>(
    repository: &str,
    tag: &str,
    platforms: [&str; N],
    layers: impl Fn(&str, &Path) -> Vec<Layer>,
) -> [Image; N] {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let name = repository.strip_prefix("library/").unwrap_or(repository).replace('/', "-");
    let record = kept().join(format!("{name}.json"));
    // One that cannot be read is of an older version of this file.
    let known = fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let known: Option<Vec<Image>> = known;
    let images = known.unwrap_or_else(|| {
        println!("making the image {name}:{tag}, once");
        let work = Work::new(&format!("making-{name}"));
        let upstream = Registry::writable(&storage(), &work);
        let publisher = Publisher { registry: &upstream.url(), algorithm: "sha256", work: &work };
        let images = publisher.publish(repository, tag, &platforms, layers);
        fs::write(&record, json!(images).to_string()).expect("target/e2e can be written");
        images
    });
    images.try_into().expect("one image for each platform")
}

/// This machine's platform.
pub(crate) const HERE: &str =
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// Another one.
pub(crate) const ELSEWHERE: &str =
    if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
