//! A machine on which Larder runs: its files, its environment, its network, and a pull through it.

use std::fs;

use larder::config::{ConfigArgs, load};

use super::server::Function;
use crate::support::log::Log;
use crate::support::tls::TestCa;
use crate::support::{ScriptedRegistry, Setup};

/// The time at which credentials of stand-ins end: 2100-01-01.
pub const LATE: u64 = 4_102_444_800;

/// The machine, and what it can reach.
pub struct Machine {
    pub ca: TestCa,
    dir: tempfile::TempDir,
    variables: Vec<(String, String)>,
    setup: Setup,
}

/// The outcome of a pull: its status, the answer, and all that Larder says.
pub struct Pulled {
    pub status: u16,
    pub body: String,
    pub said: String,
}

impl Machine {
    pub fn new() -> Self {
        let (ca, dir) = (TestCa::new(), tempfile::tempdir().unwrap());
        fs::write(dir.path().join("ca"), ca.pem()).unwrap();
        let variables = vec![("HOME".to_owned(), "/nonexistent".to_owned())];
        Self { ca, dir, variables, setup: Setup::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.dir.path().join(name), text).unwrap();
        self
    }

    /// A variable with the path of a file.
    pub fn with_path(self, name: &str, file: &str) -> Self {
        let path = self.dir.path().join(file).display().to_string();
        self.with(name, &path)
    }

    /// The directory of its files, to be written into them.
    pub fn dir(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// Puts a service behind TLS.
    pub fn serves(self, host: &str, server: &Function) -> Self {
        self.setup.network.put(host, 443, self.ca.protect(host, server.clone()));
        self
    }

    /// Puts a registry behind TLS.
    pub fn registry(self, host: &str, server: &ScriptedRegistry) -> Self {
        self.setup.network.put(host, 443, self.ca.protect(host, server.clone()));
        self
    }

    /// Puts a service at an address of this machine.
    pub fn serves_locally(self, host: &str, port: u16, server: &Function) -> Self {
        self.setup.network.put(host, port, server.clone());
        self
    }

    /// Makes a name lead to an address.
    pub fn name(self, host: &str, address: &str) -> Self {
        self.setup.network.name(host, &[address]);
        self
    }

    /// Pulls a path through a Larder with this configuration; `ca` is a file of the machine.
    pub async fn pull(self, config: &str, path: &str) -> Pulled {
        let log = Log::of_everything();
        let Self { dir, variables, mut setup, .. } = self;
        let file = dir.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let arguments = ConfigArgs { config: Some(file), ..ConfigArgs::default() };
        let environment = variables.into_iter().collect();
        let loaded = load(&arguments, &environment);
        setup.settings.registries =
            loaded.unwrap_or_else(|faults| panic!("{faults}")).settings.registries;
        let proxy = setup.start().await;
        let reply = proxy.get(path).await;
        let metrics = format!("{:?}", proxy.metrics().await.samples);
        let admin = proxy.admin();
        let ready = crate::support::metrics::ask(&admin, http::Method::GET, "/readyz", "").await;
        let ready = ready.text();
        let said = format!("{}\n{ready}\n{metrics}", log.text());
        Pulled { status: reply.status.as_u16(), body: reply.text(), said }
    }
}

impl Pulled {
    #[track_caller]
    pub fn assert_without(&self, name: &str, secrets: &[&str]) {
        assert!(self.said.contains("TRACE"), "nothing was captured");
        for secret in secrets {
            assert!(!self.body.contains(secret), "{name}: {secret}: {}", self.body);
            assert!(!self.said.contains(secret), "{name}: {secret}: {}", self.said);
        }
    }
}
