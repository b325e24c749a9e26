//! How the credential of an upstream is obtained, as configured.

use std::sync::Arc;

use super::docker_config::{DockerConfigOptions, DockerConfigSource};
use super::docker_helper::{HelperOptions, HelperSource};
use super::keeper::CredentialKeeper;
use super::kubelet::{KubeletOptions, KubeletSource};
use super::source::CredentialSource;

/// The source of an upstream's credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialOptions {
    /// Files of docker and podman.
    DockerConfig(DockerConfigOptions),
    /// A credential helper of docker.
    Helper(HelperOptions),
    /// An image credential provider of the kubelet.
    Kubelet(KubeletOptions),
}

impl CredentialOptions {
    /// Its `type` in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::DockerConfig(_) => "docker-config",
            Self::Helper(_) => "helper",
            Self::Kubelet(_) => "kubelet",
        }
    }

    /// A keeper of the credential for the upstream at `host`, which has a port if its URL has one.
    pub fn keeper(&self, host: &str) -> CredentialKeeper {
        let host = host.to_owned();
        let source: Arc<dyn CredentialSource> = match self.clone() {
            Self::DockerConfig(options) => Arc::new(DockerConfigSource::new(options, host)),
            Self::Helper(options) => Arc::new(HelperSource { options, server: host }),
            Self::Kubelet(options) => Arc::new(KubeletSource::new(options, host)),
        };
        CredentialKeeper::new(source)
    }
}
