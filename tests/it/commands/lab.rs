//! A cache with images of every sort, as clients have left it.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::Value;

use crate::support::{Blob, Image, Manifest, Process, ScriptedRegistry};

pub const ALPINE: &str = "library/alpine";
pub const TOOL: &str = "team/tool";

/// The commands that an operator runs, and the server whose cache they are about.
pub struct Lab {
    pub hub: ScriptedRegistry,
    pub larder: Process,
    /// `library/alpine:3.20`, whole, and a child of `multi`.
    pub alpine: Image,
    /// `library/alpine:multi`, over `alpine` and an image that was never pulled.
    pub multi: Manifest,
    /// `team/tool:v1`, without its second layer. The first is also one of `alpine`.
    pub tool: Image,
    /// In `team/tool`, pulled by digest and without a tag.
    pub untagged: Image,
}

impl Lab {
    pub async fn start() -> Self {
        Self::with_keys("").await
    }

    /// The same with more lines in the registry's table.
    pub async fn with_keys(keys: &str) -> Self {
        let hub = ScriptedRegistry::new();
        let (alpine, other) = (Image::random(1, &[100_000, 5000]), Image::random(2, &[10]));
        let multi = Manifest::index(&[&alpine.manifest, &other.manifest]);
        let tool = Image::random(3, &[7000]).with_layer(&alpine.layers[0]);
        let untagged = Image::random(4, &[300_000]);
        hub.put_image(ALPINE, "3.20", &alpine);
        hub.put_manifest(ALPINE, &other.manifest);
        hub.put_tagged(ALPINE, "multi", &multi);
        hub.put_image(TOOL, "v1", &tool);
        hub.put_image(TOOL, "unused", &untagged);
        let larder = Process::before(hub.listen().await, keys).await;
        let lab = Self { hub, larder, alpine, multi, tool, untagged };
        lab.pull_all().await;
        lab
    }

    async fn pull_all(&self) {
        self.get(&format!("/v2/{ALPINE}/manifests/3.20")).await;
        self.get(&format!("/v2/{ALPINE}/manifests/multi")).await;
        self.get(&self.alpine.manifest.path(ALPINE)).await;
        self.get(&format!("/v2/{TOOL}/manifests/v1")).await;
        self.get(&self.untagged.manifest.path(TOOL)).await;
        for blob in self.alpine.blobs() {
            self.get(&blob.path(ALPINE)).await;
        }
        for blob in self.untagged.blobs().chain([&self.tool.config, &self.tool.layers[1]]) {
            self.get(&blob.path(TOOL)).await;
        }
        // Four manifests; three blobs of `alpine`, two of `untagged`, and the config of `tool`.
        let is_stored = |larder: &Process| larder.files("blobs").len() == 10;
        self.larder.until(is_stored, "everything is stored").await;
        self.until_logged(3).await;
    }

    /// Waits until the log of pulls has so many.
    pub async fn until_logged(&self, pulls: usize) {
        let log = self.larder.cache_dir().join("registries/_pulls");
        let is_logged =
            |_: &Process| fs::read_to_string(&log).is_ok_and(|log| log.lines().count() >= pulls);
        self.larder.until(is_logged, "pulls are logged").await;
    }

    pub async fn get(&self, path: &str) {
        self.larder.client().get(path).await.assert_status(200);
    }

    /// The objects that a command prints, one on each line.
    pub async fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        let run = self.larder.command(arguments).await;
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{run:?}");
        run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ends the server as a crash does. Its socket is left behind.
    pub fn kill(&mut self) {
        self.larder.kill();
        assert!(self.larder.cache_dir().join("control.sock").exists());
    }

    /// Removes a content, as an eviction does.
    pub fn evict(&self, blob: &Blob) {
        fs::remove_file(self.blob_file(blob)).unwrap();
    }

    /// The file of a content.
    pub fn blob_file(&self, blob: &Blob) -> PathBuf {
        let hex = blob.digest.hex();
        self.larder.cache_dir().join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// Every file of the cache, with its length and times, without the socket and the index.
    pub fn files(&self) -> Vec<(String, u64, SystemTime, SystemTime)> {
        let mut files = Vec::new();
        for part in ["blobs", "registries", "sums", "fills", "uploads"] {
            for (path, len) in self.larder.files(part) {
                let times = fs::metadata(&path).unwrap();
                let (read, written) = (times.accessed().unwrap(), times.modified().unwrap());
                files.push((path.display().to_string(), len, read, written));
            }
        }
        files.sort();
        files
    }
}
