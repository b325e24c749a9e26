//! Larder's own credentials for upstreams, where they come from something that issues them: files
//! of docker and podman, programs, the services of clouds.
//!
//! A source gives a credential, a keeper keeps it until shortly before its end. The upstreams that
//! it is shown to, and the moment, are decided in `upstream`.

mod aws;
mod azure;
mod cloud_client;
mod command;
mod docker_config;
mod docker_helper;
mod environment;
mod error;
mod fetch_cache;
mod file;
mod google;
mod issued;
mod jwt;
mod keeper;
mod kubelet;
mod oauth;
mod options;
mod source;

pub use aws::{AwsIdentity, EcrOptions};
pub use azure::{AcrOptions, EntraIdentity};
pub use cloud_client::CredentialRoute;
pub use docker_config::DockerConfigOptions;
pub use docker_helper::{HelperName, HelperOptions, InvalidHelperName};
pub use environment::CredentialEnvironment;
pub use error::CredentialError;
pub use fetch_cache::{FetchCache, FetchNeed, Perishable};
pub use google::GoogleOptions;
pub use issued::{IssuedCredential, IssuedSecret};
pub use jwt::unverified_claims;
pub use keeper::{CredentialKeeper, CredentialState, HeldCredential};
pub use kubelet::KubeletOptions;
pub use options::CredentialOptions;
