//! A Larder that pulls, and one behind an air gap.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::{Image, Manifest, Process, ScriptedRegistry};

pub const APP: &str = "team/app";

/// The two sides, and the directory in which a bundle is carried.
pub struct TwoSides {
    pub hub: ScriptedRegistry,
    pub near: Process,
    pub far: Process,
    /// The upstream that the far side is configured with, and never asks.
    pub unreachable: ScriptedRegistry,
    pub carried: TempDir,
    /// `team/app:v1`, of one platform.
    pub app: Image,
    /// `team/app:multi`, over `app` and `other`.
    pub multi: Manifest,
    pub other: Image,
}

impl TwoSides {
    pub async fn start() -> Self {
        let (hub, unreachable) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let (app, other) = (Image::random(1, &[300_000, 5000]), Image::random(2, &[10, 0]));
        let multi = Manifest::index(&[&app.manifest, &other.manifest]);
        hub.put_image(APP, "v1", &app);
        hub.put_image(APP, "other", &other);
        hub.put_tagged(APP, "multi", &multi);
        let near = Process::before(hub.listen().await, "").await;
        let far = Process::before(unreachable.listen().await, "offline = true").await;
        // The socket for commands is there when the first request is answered.
        far.client().get("/v2/").await.assert_status(200);
        let carried = tempfile::tempdir().unwrap();
        Self { hub, near, far, unreachable, carried, app, multi, other }
    }

    /// Pulls an image of the near side, until all of it is stored.
    pub async fn pull(&self, tag: &str, image: &Image) {
        pull(&self.near, tag, image).await;
        let stored = |larder: &Process| {
            let files = larder.files("blobs");
            image
                .blobs()
                .all(|blob| files.iter().any(|(path, _)| path.ends_with(blob.digest.hex())))
        };
        self.near.until(stored, "the image is stored").await;
    }

    /// Pulls the index and both of its images.
    pub async fn pull_multi(&self) {
        self.near.client().get(&format!("/v2/{APP}/manifests/multi")).await.assert_status(200);
        self.pull(self.app.manifest.digest().as_str(), &self.app).await;
        self.pull(self.other.manifest.digest().as_str(), &self.other).await;
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.carried.path().join(name)
    }

    /// Runs a command on one side, which has to succeed.
    pub async fn run(&self, side: &Process, arguments: &[&str]) -> String {
        let run = side.command(arguments).await;
        assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
        run.out
    }

    /// Exports from the near side to a file.
    pub async fn export(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let file = self.file(name);
        let fixed = ["export", "-o", file.to_str().unwrap()];
        self.run(&self.near, &[&fixed[..], arguments].concat()).await;
        file
    }
}

/// Pulls an image as a client does, and compares every byte.
pub async fn pull(larder: &Process, reference: &str, image: &Image) {
    let client = larder.client();
    let manifest = client.get(&format!("/v2/{APP}/manifests/{reference}")).await;
    manifest.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        client.get(&blob.path(APP)).await.assert_is(blob);
    }
}
