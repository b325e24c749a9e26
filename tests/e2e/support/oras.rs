//! oras: artifacts that refer to images, and to each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;
use super::work::Work;

/// The actions of oras with artifacts; all over plain HTTP.
pub(crate) struct Oras<'a> {
    work: &'a Work,
}

impl<'a> Oras<'a> {
    pub(crate) fn new(work: &'a Work) -> Self {
        Self { work }
    }

    /// Attaches a file that has its type as its text; the digest of the artifact.
    pub(crate) fn attach(&self, to: &str, kind: &str) -> String {
        self.work.file("attached", kind);
        let mut attach = self.command("attach");
        attach.args(["--plain-http", "--format", "go-template={{.digest}}"]);
        attach.args(["--artifact-type", kind, to, "attached:text/plain"]);
        tools::run(&mut attach).expect("the upstream takes artifacts").trim().to_owned()
    }

    /// The tree of what refers to it, as JSON.
    pub(crate) fn discover(&self, name: &str, more: &[&str]) -> String {
        let mut discover = self.command("discover");
        discover.args(["--plain-http", "--format", "json"]).args(more).arg(name);
        tools::run(&mut discover).expect("oras discovers referrers")
    }

    /// The text of the file in an artifact.
    pub(crate) fn pull(&self, name: &str) -> String {
        let into = self.work.dir("pulled");
        let mut pull = self.command("pull");
        tools::run(pull.args(["--plain-http", "--no-tty", "--output"]).arg(&into).arg(name))
            .expect("oras pulls an artifact");
        let text = fs::read_to_string(into.join("attached")).expect("oras wrote the file");
        fs::remove_dir_all(into).expect("what was pulled can be removed");
        text
    }

    /// The whole graph, as a layout of files.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let into = self.work.data().join("graph");
        fs::remove_dir_all(&into).ok();
        let mut copy = self.command("copy");
        copy.args(["--recursive", "--no-tty", "--from-plain-http", name, "--to-oci-layout"]);
        tools::run(copy.arg(format!("{}:it", into.display()))).expect("oras copies a graph");
        into
    }

    fn command(&self, command: &str) -> Command {
        let dir: &Path = self.work.data();
        let mut oras = tools::command("oras");
        oras.env("DOCKER_CONFIG", dir).current_dir(dir).arg(command);
        oras
    }
}

pub(crate) const SBOM: &str = "application/vnd.example.sbom";
pub(crate) const SIGNATURE: &str = "application/vnd.example.signature";
