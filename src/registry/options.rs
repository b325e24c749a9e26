//! The options of one registry, as the configuration resolved them.

use std::time::Duration;

use secrecy::ExposeSecret;

use url::Url;

use super::{RegistryNamePattern, RepositoryPattern};
use crate::http::{ClientIdentity, HostPort};
use crate::oci::{RegistryName, RepositoryName, Tag};
use crate::upstream::{ProxyCredential, UpstreamOptions};

/// One `[registry."…"]` table of the configuration, resolved.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Its name, the key of the table; if that is a pattern, a name that it matches.
    pub name: RegistryName,
    /// The key of the table, if it is a pattern: the table is for all registries that it matches.
    pub pattern: Option<RegistryNamePattern>,
    /// Other names for it in `ns=` and in the path.
    pub aliases: Vec<RegistryName>,
    /// The first path component that names it (`/v2/<prefix>/…`): has a dot and no colon.
    pub prefix: Option<String>,
    /// The hosts at which every request means this registry, whatever its path.
    pub hosts: Vec<HostPort>,
    /// Whether requests that name no registry mean this one.
    pub is_default: bool,
    /// How long its tags are fresh.
    pub tags: TagPolicy,
    /// Rules for what is served of it, and how.
    pub rules: RegistryRules,
    /// The identity with which its upstream is asked.
    pub identity: AskedAs,
    /// Whether answers have a `Cache-Status` header (RFC 9211).
    pub cache_status: bool,
    /// The authoritative upstream: the registry itself.
    pub upstream: UpstreamOptions,
    /// Upstreams that are asked before it for manifests and blobs by digest, in this order.
    pub mirrors: Vec<UpstreamOptions>,
}

impl RegistryOptions {
    /// Whether `allow` and `deny` admit this repository.
    pub fn serves(&self, repository: &RepositoryName) -> bool {
        let matches = |pattern: &RepositoryPattern| pattern.matches(repository.as_str());
        self.rules.allow.iter().any(matches) && !self.rules.deny.iter().any(matches)
    }

    /// The key of its table.
    pub fn key(&self) -> &str {
        self.pattern.as_ref().map_or(self.name.as_str(), RegistryNamePattern::as_str)
    }

    /// The options of one of the registries that its pattern matches.
    pub(super) fn named(&self, name: &RegistryName) -> Option<Self> {
        let mut options = self.clone();
        options.name = name.clone();
        options.pattern = None;
        options.prefix = Some(name.to_string());
        options.upstream.url = Url::parse(&format!("https://{name}")).ok()?;
        Some(options)
    }

    /// Whether pushes and deletions are sent on to the upstream. Never while offline.
    pub fn takes_pushes(&self) -> bool {
        self.rules.push && !self.rules.offline
    }

    /// How long the rights of clients are cached, if the upstream is asked with each client's own
    /// credential; `None` if it is asked with Larder's.
    pub fn grants(&self) -> Option<GrantPolicy> {
        match self.identity {
            AskedAs::Client(policy) => Some(policy),
            AskedAs::Proxy => None,
        }
    }

    /// How long this tag is fresh.
    pub fn tag_policy(&self, tag: &Tag) -> TagPolicy {
        let rule = self.rules.tags.iter().find(|rule| rule.pattern.matches(tag.as_str()));
        let ttl = rule.map_or(self.tags.ttl, |rule| rule.ttl);
        TagPolicy { ttl, ..self.tags }
    }
}

#[cfg(test)]
impl RegistryOptions {
    /// A registry of this name with an anonymous upstream, without any rule.
    pub(crate) fn for_test(name: &str, url: Url) -> Self {
        use crate::upstream::UpstreamOptions;

        Self {
            name: name.parse().expect("a registry's name"),
            pattern: None,
            aliases: Vec::new(),
            prefix: None,
            hosts: Vec::new(),
            is_default: false,
            tags: TagPolicy { ttl: Duration::ZERO, max_stale: Duration::ZERO },
            rules: RegistryRules::default(),
            identity: AskedAs::Proxy,
            cache_status: true,
            upstream: UpstreamOptions::for_test(url),
            mirrors: Vec::new(),
        }
    }
}

/// The identity with which a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedAs {
    /// Each client's own. Cached content is served to a client whose right to it the registry has
    /// confirmed.
    Client(GrantPolicy),
    /// Larder's, for every client.
    Proxy,
}

/// How long a right that a registry has confirmed is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantPolicy {
    /// How long it is fresh.
    pub ttl: Duration,
    /// How long it holds after that while the upstream cannot be asked.
    pub grace: Duration,
}

/// How long a registry's tags are fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagPolicy {
    /// How long a tag is served without asking the upstream.
    pub ttl: Duration,
    /// How long after that a stale tag is served while the upstream cannot be asked.
    pub max_stale: Duration,
}

impl TagPolicy {
    /// For how long it is remembered that a registry has no referrers, or no tag that stands in for
    /// them. Clients ask for both with each pull, and signatures come soon after an image, or
    /// never.
    #[must_use]
    pub fn without_referrers(self) -> Self {
        Self { ttl: self.ttl.saturating_mul(NO_REFERRERS_TTLS), ..self }
    }
}

/// For how many times as long as a tag is fresh.
const NO_REFERRERS_TTLS: u32 = 5;

/// Rules for what is served of a registry, and how.
#[derive(Clone, Debug)]
pub struct RegistryRules {
    /// Whether only cached content is served: the upstream is never asked and nothing expires.
    pub offline: bool,
    /// Whether a range of a blob that is not cached starts a fill of the whole blob.
    pub fill_on_range: bool,
    /// Tags with a TTL of their own; the first rule that matches a tag counts.
    pub tags: Vec<TagRule>,
    /// How long the absence of a tag is served without asking the upstream, up to the TTL of tags.
    pub negative_tag_ttl: Duration,
    /// Patterns of the repositories that are served, by their names at the registry.
    pub allow: Vec<RepositoryPattern>,
    /// Patterns of the repositories that are not, even if `allow` matches them.
    pub deny: Vec<RepositoryPattern>,
    /// Whether pushes and deletions are sent on to the upstream.
    pub push: bool,
    /// How long a confirmed blob may be reported to pushing clients without asking the upstream
    /// again. A client does not upload a blob that is reported to exist.
    pub membership_ttl: Duration,
}

impl Default for RegistryRules {
    fn default() -> Self {
        Self {
            offline: false,
            fill_on_range: true,
            tags: Vec::new(),
            negative_tag_ttl: Self::NEGATIVE_TAG_TTL,
            allow: vec![RepositoryPattern::any()],
            deny: Vec::new(),
            push: false,
            membership_ttl: Self::MEMBERSHIP_TTL,
        }
    }
}

impl RegistryRules {
    /// Longer than the pause between a client's `HEAD` and its push, shorter than any registry
    /// waits before it collects garbage.
    pub const MEMBERSHIP_TTL: Duration = Duration::from_secs(60);

    /// Absent tags are the next to be pushed: shorter than the pauses of clients that poll for one
    /// (the kubelet's first is 10 s), and long enough for a burst of pulls to share one question.
    pub const NEGATIVE_TAG_TTL: Duration = Duration::from_secs(5);
}

/// A TTL for some tags.
#[derive(Clone, Debug)]
pub struct TagRule {
    /// The tags.
    pub pattern: RepositoryPattern,
    /// How long such a tag is served without asking the upstream.
    pub ttl: Duration,
}

/// Whether both have the same upstreams, so that connections and tokens can be kept.
pub(super) fn has_same_upstreams(one: &RegistryOptions, other: &RegistryOptions) -> bool {
    let pairs = || one.mirrors.iter().zip(&other.mirrors);
    one.mirrors.len() == other.mirrors.len()
        && pairs().all(|(one, other)| is_same_upstream(one, other))
        && is_same_upstream(&one.upstream, &other.upstream)
}

fn is_same_upstream(one: &UpstreamOptions, other: &UpstreamOptions) -> bool {
    // Destructured, so that a new option must be compared here.
    let UpstreamOptions {
        url,
        credential,
        password_file: _,
        further_logins,
        ca_pem,
        client_identity,
        must_be_public,
        token_hosts,
        redirect_hosts,
        trace_context,
        max_connections,
    } = one;
    *url == other.url
        && is_same_credential(credential, &other.credential)
        && further_logins.len() == other.further_logins.len()
        && further_logins
            .iter()
            .zip(&other.further_logins)
            .all(|(one, other)| is_same_credential(&one.credential, &other.credential))
        && *ca_pem == other.ca_pem
        && is_same_identity(client_identity.as_ref(), other.client_identity.as_ref())
        && *must_be_public == other.must_be_public
        && *token_hosts == other.token_hosts
        && *redirect_hosts == other.redirect_hosts
        && *trace_context == other.trace_context
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
        (ProxyCredential::Issued(one), ProxyCredential::Issued(other)) => one == other,
        (
            ProxyCredential::Anonymous | ProxyCredential::Basic { .. } | ProxyCredential::Issued(_),
            _,
        ) => false,
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
