//! How the credential of an upstream is obtained, as configured.

use std::sync::Arc;

use super::aws::{EcrOptions, EcrSource};
use super::azure::{AcrOptions, AcrSource};
use super::cloud_client::CredentialRoute;
use super::docker_config::{DockerConfigOptions, DockerConfigSource};
use super::docker_helper::{HelperOptions, HelperSource};
use super::google::{GoogleOptions, GoogleSource};
use super::keeper::CredentialKeeper;
use super::kubelet::{KubeletOptions, KubeletSource};
use super::source::CredentialSource;
use crate::http::TrustError;

/// The source of an upstream's credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialOptions {
    /// The exchange of Azure's registries.
    Acr(Box<AcrOptions>),
    /// Files of docker and podman.
    DockerConfig(DockerConfigOptions),
    /// The services of Amazon's registries.
    Ecr(Box<EcrOptions>),
    /// An identity of Google Cloud.
    Google(GoogleOptions),
    /// A credential helper of docker.
    Helper(HelperOptions),
    /// An image credential provider of the kubelet.
    Kubelet(KubeletOptions),
}

impl CredentialOptions {
    /// Its `type` in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Acr(_) => "acr",
            Self::DockerConfig(_) => "docker-config",
            Self::Ecr(_) => "ecr",
            Self::Google(_) => "google",
            Self::Helper(_) => "helper",
            Self::Kubelet(_) => "kubelet",
        }
    }

    /// A keeper of the credential for the upstream at `host`, which has a port if its URL has one.
    /// Services are called by `route`.
    ///
    /// # Errors
    ///
    /// If the certificates of `route` are unusable.
    pub fn keeper(
        &self,
        host: &str,
        route: CredentialRoute<'_>,
    ) -> Result<CredentialKeeper, TrustError> {
        let host = host.to_owned();
        let source: Arc<dyn CredentialSource> = match self.clone() {
            Self::Acr(options) => Arc::new(AcrSource::new(*options, route)?),
            Self::DockerConfig(options) => Arc::new(DockerConfigSource::new(options, host)),
            Self::Ecr(options) => Arc::new(EcrSource::new(*options, &host, route)?),
            Self::Google(options) => Arc::new(GoogleSource::new(options, route)?),
            Self::Helper(options) => Arc::new(HelperSource { options, server: host }),
            Self::Kubelet(options) => Arc::new(KubeletSource::new(options, host)),
        };
        Ok(CredentialKeeper::new(source))
    }
}
