//! A registry as the configuration has it.

use std::time::Duration;

use secrecy::ExposeSecret;

use crate::http::HostPort;
use crate::oci::RegistryName;
use crate::upstream;
use crate::upstream::Credential;

/// One `[registry."…"]` table, resolved.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name, the key of the table.
    pub name: RegistryName,
    /// Other names that `ns=` and the path may use for it.
    pub aliases: Vec<RegistryName>,
    /// The first path component that names it (`/v2/<prefix>/…`): has a dot and no colon.
    pub prefix: Option<String>,
    /// The hosts at which every request means it, whatever the path.
    pub hosts: Vec<HostPort>,
    /// Whether requests that name no registry mean this one.
    pub is_default: bool,
    /// How long its tags are believed.
    pub tags: TagPolicy,
    /// Where it is reached.
    pub upstream: upstream::Options,
}

/// How long a registry's tags are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagPolicy {
    /// For how long a tag is served without asking the upstream.
    pub ttl: Duration,
    /// For how long after that it is served when the upstream cannot be asked.
    pub max_stale: Duration,
}

/// Whether an upstream built from one would be as one built from the other.
pub(super) fn reaches_the_same(one: &upstream::Options, other: &upstream::Options) -> bool {
    // Taken apart so that a new option has to be thought of here.
    let upstream::Options { url, credential, ca_pem, token_hosts, redirect_hosts, max_connections } =
        one;
    *url == other.url
        && is_the_same(credential, &other.credential)
        && *ca_pem == other.ca_pem
        && *token_hosts == other.token_hosts
        && *redirect_hosts == other.redirect_hosts
        && *max_connections == other.max_connections
}

fn is_the_same(one: &Credential, other: &Credential) -> bool {
    match (one, other) {
        (Credential::Anonymous, Credential::Anonymous) => true,
        (
            Credential::Basic { username, password },
            Credential::Basic { username: other_username, password: other_password },
        ) => {
            username == other_username && password.expose_secret() == other_password.expose_secret()
        }
        (Credential::Anonymous | Credential::Basic { .. }, _) => false,
    }
}
