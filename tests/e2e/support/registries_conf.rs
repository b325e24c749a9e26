//! The files that tell podman, buildah and skopeo where registries are, and which certificates to
//! trust.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::way::{Door, Way};

/// The files of one client.
pub(crate) struct RegistriesConf {
    /// `registries.conf`, `policy.json`, `auth.json`, `certs/`
    dir: PathBuf,
}

impl RegistriesConf {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Writes them for one way; what stands before the repository in the names that go it.
    ///
    /// The path-prefix door is hidden behind the registry's own name, as the README has it.
    pub(crate) fn write(&self, way: &Way<'_>) -> String {
        let (text, place) = if way.door == Door::Prefix {
            let insecure = way.tls.is_none();
            let location = way.place();
            let registry = format!(
                "[[registry]]\nprefix = \"docker.io\"\nlocation = \"{location}\"\n\
                 insecure = {insecure}\n"
            );
            (registry, "docker.io".to_owned())
        } else {
            (String::new(), way.place())
        };
        fs::write(self.registries(), text).expect("the test's directory can be written");
        if !self.log_ins().exists() {
            fs::write(self.log_ins(), "{}").expect("the test's directory can be written");
        }
        fs::write(self.policy(), ACCEPT_ANYTHING).expect("the test's directory can be written");
        if let Some(tls) = way.tls {
            fs::create_dir_all(self.certificates()).expect("the test's directory can be written");
            fs::copy(&tls.ca, self.certificates().join("ca.crt")).expect("the CA is a file");
        }
        place
    }

    /// Makes a client use them, and none of this machine's own.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("CONTAINERS_REGISTRIES_CONF", self.registries());
        command.env("REGISTRY_AUTH_FILE", self.log_ins());
    }

    /// Empty until a login.
    fn log_ins(&self) -> PathBuf {
        self.dir.join("auth.json")
    }

    pub(crate) fn policy(&self) -> PathBuf {
        self.dir.join("policy.json")
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.dir.join("certs")
    }

    pub(crate) fn registries(&self) -> PathBuf {
        self.dir.join("registries.conf")
    }
}

const ACCEPT_ANYTHING: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
