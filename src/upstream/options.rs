//! The options of one upstream.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use crate::credentials::CredentialOptions;
use crate::http::{ClientIdentity, HostPort};

/// One URL at which a registry is reached, and how.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// `http` or `https`, a host, perhaps a port and a path, which
    /// [`RegistryBase`](super::RegistryBase) reads; no query, user or fragment.
    pub url: Url,
    /// With whose credential.
    pub credential: ProxyCredential,
    /// The file that the password is from, for the caller to read again when it changes.
    pub password_file: Option<PathBuf>,
    /// Further logins, which take turns with that credential.
    pub further_logins: Vec<LoginOptions>,
    /// PEM certificates to trust for this upstream beside the platform's.
    pub ca_pem: Option<Vec<u8>>,
    /// The certificate to show to it, and to no other host.
    pub client_identity: Option<ClientIdentity>,
    /// Whether its own address has to be public, too: clients have chosen its host.
    pub must_be_public: bool,
    /// Hosts that may be a token server though they are not on the upstream's own domain.
    pub token_hosts: Vec<HostPort>,
    /// Hosts that a redirect may reach though their address is private.
    pub redirect_hosts: Vec<HostPort>,
    /// Whether it is told of the traces that requests to it are part of.
    pub trace_context: bool,
    /// The most connections to it at once; more requests queue, first come first served.
    pub max_connections: usize,
}

impl UpstreamOptions {
    /// Anonymous, with the platform's certificates, for tests: 64 connections, no further hosts.
    pub fn for_test(url: Url) -> Self {
        Self {
            url,
            credential: ProxyCredential::Anonymous,
            password_file: None,
            further_logins: Vec::new(),
            ca_pem: None,
            client_identity: None,
            must_be_public: false,
            token_hosts: Vec::new(),
            redirect_hosts: Vec::new(),
            trace_context: false,
            max_connections: 64,
        }
    }
}

/// A login at an upstream beside its first.
#[derive(Clone, Debug)]
pub struct LoginOptions {
    /// With whose credential.
    pub credential: ProxyCredential,
    /// The file that the password is from, as of the first login.
    pub password_file: Option<PathBuf>,
}

/// The credential for an upstream.
#[derive(Clone, Debug)]
pub enum ProxyCredential {
    /// None.
    Anonymous,
    /// A user and password, for Basic and for token servers.
    Basic {
        /// The user.
        username: String,
        /// The password; printed by nothing.
        password: SecretString,
    },
    /// One that a source issues, for a while.
    Issued(CredentialOptions),
}

impl ProxyCredential {
    /// Its `type` in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Basic { .. } => "basic",
            Self::Issued(options) => options.kind(),
        }
    }
}
