//! A registry as the configuration has it.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::RepositoryPattern;
use crate::http::{ClientIdentity, HostPort};
use crate::oci::RegistryName;
use crate::upstream;
use crate::upstream::ProxyCredential;

/// One `[registry."…"]` table, resolved.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
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
    /// What else an operator decides of it.
    pub rules: RegistryRules,
    /// With whose identity it is asked.
    pub identity: AskedAs,
    /// Whether answers say how they came about.
    pub cache_status: bool,
    /// Where it is reached: the upstream whose answers are the registry's.
    pub upstream: upstream::UpstreamOptions,
    /// The upstreams that are asked before it for what has a digest, in order.
    pub mirrors: Vec<upstream::UpstreamOptions>,
}

/// With whose identity a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedAs {
    /// Each client's own: what is cached is served to a client whose right to it the registry has
    /// confirmed.
    Client(GrantPolicy),
    /// Larder's, whoever asks.
    Proxy,
}

/// How long a right that a registry has confirmed is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantPolicy {
    /// For how long without asking again.
    pub ttl: Duration,
    /// For how long after that while the upstream cannot be asked.
    pub grace: Duration,
}

/// How long a registry's tags are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagPolicy {
    /// For how long a tag is served without asking the upstream.
    pub ttl: Duration,
    /// For how long after that it is served when the upstream cannot be asked.
    pub max_stale: Duration,
}

/// What an operator decides of a registry beside how it is reached.
#[derive(Clone, Debug)]
pub struct RegistryRules {
    /// Whether the cache alone answers: the upstream is never asked, and nothing is too old.
    pub offline: bool,
    /// Whether a range of a blob that is not held begins a fetch of the whole.
    pub fill_on_range: bool,
    /// Tags that are believed for another time than the others; the first that takes a tag counts.
    pub tags: Vec<TagRule>,
    /// The repositories that may be asked for, by their names at the registry.
    pub allow: Vec<RepositoryPattern>,
    /// Those that may not, even so.
    pub deny: Vec<RepositoryPattern>,
    /// Whether pushes and deletions are passed on to the upstream.
    pub push: bool,
    /// For how long the upstream's word that a repository has something is passed on, where pushes
    /// are: a client that is told so does not upload it.
    pub membership_ttl: Duration,
}

impl Default for RegistryRules {
    fn default() -> Self {
        let allow = vec![RepositoryPattern::any()];
        let (tags, deny) = (Vec::new(), Vec::new());
        let membership_ttl = Self::MEMBERSHIP_TTL;
        Self { offline: false, fill_on_range: true, push: false, membership_ttl, tags, allow, deny }
    }
}

impl RegistryRules {
    /// A minute: longer than the pause between a client's question and its push, shorter than any
    /// registry takes to collect its garbage.
    pub const MEMBERSHIP_TTL: Duration = Duration::from_secs(60);
}

/// How long some tags are believed.
#[derive(Clone, Debug)]
pub struct TagRule {
    /// Which tags.
    pub pattern: RepositoryPattern,
    /// For how long one is served without asking the upstream.
    pub ttl: Duration,
}

/// Whether upstreams built from one would be as those built from the other.
pub(super) fn reaches_the_same(one: &RegistryOptions, other: &RegistryOptions) -> bool {
    let pairs = || one.mirrors.iter().zip(&other.mirrors);
    one.mirrors.len() == other.mirrors.len()
        && pairs().all(|(one, other)| is_same_upstream(one, other))
        && is_same_upstream(&one.upstream, &other.upstream)
}

fn is_same_upstream(one: &upstream::UpstreamOptions, other: &upstream::UpstreamOptions) -> bool {
    // Taken apart so that a new option has to be thought of here.
    let upstream::UpstreamOptions {
        url,
        credential,
        ca_pem,
        client_identity,
        token_hosts,
        redirect_hosts,
        max_connections,
    } = one;
    *url == other.url
        && is_same_credential(credential, &other.credential)
        && *ca_pem == other.ca_pem
        && is_same_identity(client_identity.as_ref(), other.client_identity.as_ref())
        && *token_hosts == other.token_hosts
        && *redirect_hosts == other.redirect_hosts
        && *max_connections == other.max_connections
}

fn is_same_credential(one: &ProxyCredential, other: &ProxyCredential) -> bool {
    match (one, other) {
        (ProxyCredential::Anonymous, ProxyCredential::Anonymous) => true,
        (
            ProxyCredential::Basic { username, password },
            ProxyCredential::Basic { username: other_username, password: other_password },
        ) => {
            username == other_username && password.expose_secret() == other_password.expose_secret()
        }
        (ProxyCredential::Anonymous | ProxyCredential::Basic { .. }, _) => false,
    }
}

fn is_same_identity(one: Option<&ClientIdentity>, other: Option<&ClientIdentity>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one.cert_pem == other.cert_pem
                && one.key_pem.expose_secret() == other.key_pem.expose_secret()
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}
