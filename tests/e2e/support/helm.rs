//! helm: charts in a registry.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::tools;
use super::work::Work;

/// The actions of helm with charts; all over plain HTTP, and with directories of its own.
pub(crate) struct Helm<'a> {
    work: &'a Work,
}

impl<'a> Helm<'a> {
    pub(crate) fn new(work: &'a Work) -> Self {
        Self { work }
    }

    /// Makes the chart `demo` of a version; its file.
    pub(crate) fn package(&self, version: &str) -> PathBuf {
        let dir = self.work.data();
        if !dir.join("demo").exists() {
            self.run("create", &["demo"]);
        }
        self.run("package", &["demo", "--version", version]);
        dir.join(format!("demo-{version}.tgz"))
    }

    /// Pushes the file of a chart below `place`.
    pub(crate) fn push(&self, chart: &str, place: &str) {
        self.run("push", &[chart, &format!("oci://{place}"), "--plain-http"]);
    }

    /// Pulls the newest version that a constraint allows; the name of its file and the bytes.
    pub(crate) fn pull(&self, constraint: &str, place: &str) -> (String, Vec<u8>) {
        let into = self.work.new_dir("pulled");
        let (chart, dir) = (format!("oci://{place}/demo"), into.display().to_string());
        let options = ["--version", constraint, "--plain-http", "--destination", &dir];
        self.run("pull", &[&[chart.as_str()][..], &options].concat());
        let pulled = fs::read_dir(&into).expect("it is ours").flatten().next();
        let file = pulled.expect("helm wrote the chart").path();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        (name.unwrap_or_default(), fs::read(&file).expect("helm wrote the chart"))
    }

    fn run(&self, command: &str, arguments: &[&str]) {
        let dir = self.work.data();
        let mut helm: Command = tools::command("helm");
        helm.env("HELM_REGISTRY_CONFIG", dir.join("helm.json")).current_dir(dir);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(name, dir.join(name));
        }
        tools::run(helm.arg(command).args(arguments))
            .unwrap_or_else(|error| panic!("helm {command} {arguments:?}: {error}"));
    }
}
