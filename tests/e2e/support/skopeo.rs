//! skopeo, which names the registry in the path and keeps what it pulled as files.

use std::fs;
use std::path::PathBuf;

use super::hash;
use super::image::Image;
use super::tools;
use super::work::Work;

/// Pulls `docker.io/…` through whatever answers at an address.
pub(crate) struct Skopeo {
    /// `127.0.0.1:PORT` or `127.0.0.1:PORT/docker.io`.
    from: String,
    /// Where a pull goes; one at a time.
    into: PathBuf,
    /// So that this machine's own registries.conf has no say.
    registries: PathBuf,
    arguments: Vec<String>,
}

impl Skopeo {
    pub(crate) fn new(work: &Work, from: &str) -> Self {
        tools::print_version("skopeo", "--version");
        Self {
            from: from.to_owned(),
            into: work.data().join("skopeo"),
            registries: work.file("registries.conf", ""),
            arguments: vec!["--src-tls-verify=false".to_owned()],
        }
    }

    pub(crate) fn logged_in(mut self, user: &str, password: &str) -> Self {
        self.arguments.push(format!("--src-creds={user}:{password}"));
        self
    }

    /// Pulls it, and checks every byte against the digests.
    pub(crate) fn pull(&self, image: &Image) -> Result<(), String> {
        self.forget();
        let mut command = tools::command("skopeo");
        command.arg("--insecure-policy").arg("--registries-conf").arg(&self.registries);
        command.args(["copy", "--quiet", "--preserve-digests"]).args(&self.arguments);
        command.arg(format!("docker://{}/{}:{}", self.from, image.repository, image.tag));
        command.arg(format!("dir:{}", self.into.display()));
        tools::run(&mut command)?;

        assert_eq!(hash::of_file(&self.into.join("manifest.json")), image.manifest);
        for digest in image.blobs() {
            let hex = digest.trim_start_matches("sha256:");
            assert_eq!(hash::of_file(&self.into.join(hex)), digest);
        }
        Ok(())
    }

    pub(crate) fn forget(&self) {
        fs::remove_dir_all(&self.into).ok();
    }
}
