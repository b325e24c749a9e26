//! A node of Kubernetes, as far as the init container of a `DaemonSet` sees it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use super::tools;
use super::work::Work;

/// A directory that is the root of the container, and below that the directory of the node's
/// containerd.
pub(crate) struct Node<'w> {
    work: &'w Work,
    root: PathBuf,
}

/// The container that `tests/tools/daemonset` read from a document.
#[derive(Debug, Deserialize)]
pub(crate) struct InitContainer {
    command: Vec<String>,
    /// The node's directory for each of the container's.
    node_dirs: std::collections::BTreeMap<String, PathBuf>,
    /// Those of the pods: with others, Kubernetes makes the pods anew.
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
}

impl<'w> Node<'w> {
    /// With the programs of busybox.
    pub(crate) fn new(work: &'w Work) -> Self {
        let root = work.new_dir("node");
        let bin = root.join("bin");
        fs::create_dir(&bin).expect("the test's directory can be written");
        let busybox = tools::command("busybox");
        fs::copy(busybox.get_program(), bin.join("busybox")).expect("a program can be read");
        let node = Self { work, root };
        let mut install = tools::command("chroot");
        install.arg(&node.root).args(["/bin/busybox", "--install", "-s", "/bin"]);
        tools::run(&mut install).expect("it is static");
        node
    }

    /// The directory of `hosts.toml` files of the node's containerd.
    pub(crate) fn certs(&self) -> PathBuf {
        self.root.join("certs.d")
    }

    /// Applies a document: reads it as strictly as Kubernetes does, and runs the init container.
    pub(crate) fn apply(&self, document: &str) -> InitContainer {
        let file = self.work.file("daemonset.yaml", document);
        let file = File::open(file).expect("it was written");
        let mut read = tools::command("daemonset");
        let said = tools::run(read.arg(&self.root).stdin(Stdio::from(file)));
        let said = said.unwrap_or_else(|error| panic!("{error}\n{document}"));
        let init: InitContainer = serde_json::from_str(&said).expect("it prints JSON");
        let containerd = Path::new("/etc/containerd/certs.d");
        assert_eq!(init.node_dirs["/certs.d"], containerd, "{init:?}");
        let mut run = tools::command("chroot");
        run.arg(&self.root).args(&init.command);
        tools::run(run.env_clear().env("PATH", "/bin")).unwrap_or_else(|error| panic!("{error}"));
        init
    }
}
