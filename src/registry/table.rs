//! Which registry a name means: a lookup in a closed world, never an address to dial.
//!
//! A name, an alias, a prefix or a host means exactly one registry; that no two claim the same is seen to
//! where the configuration is resolved.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::entry::reaches_the_same;
use super::{AskedAs, GrantPolicy, RegistryOptions, RegistryRules, RepositoryPattern, TagPolicy};
use crate::http::{EgressRoute, HostPort};
use crate::oci::{RegistryName, RepositoryName, Tag};
use crate::upstream::{SetupError, UpstreamGroup, UpstreamMeter};

/// One configured registry, built. A pattern would be one entry too, with many registries.
#[derive(Debug)]
pub struct RegistryEntry {
    aliases: Vec<RegistryName>,
    prefix: Option<String>,
    is_default: bool,
    tags: TagPolicy,
    rules: RegistryRules,
    upstream: Arc<UpstreamGroup>,
    /// Its place among all entries.
    place: usize,
    /// What it was built from.
    options: RegistryOptions,
}

/// One concrete registry: what directories and tokens are named after.
#[derive(Clone, Debug)]
pub struct Registry {
    name: RegistryName,
    entry: Arc<RegistryEntry>,
}

impl Registry {
    /// Its name.
    pub fn name(&self) -> &RegistryName {
        &self.name
    }

    /// What it is called in numbers: as the configuration calls it, so there are no more such names
    /// than entries.
    pub fn label(&self) -> &str {
        self.entry.options.name.as_str()
    }

    /// The place of its entry in the table, for what is kept beside it.
    pub fn place(&self) -> usize {
        self.entry.place
    }

    /// Whether `name` is its name or one of its aliases.
    pub fn is_called(&self, name: &RegistryName) -> bool {
        self.name == *name || self.entry.aliases.contains(name)
    }

    /// Whether this first path component names it.
    pub fn has_prefix(&self, component: &str) -> bool {
        self.entry.prefix.as_deref() == Some(component)
    }

    /// Whether this repository may be asked for.
    pub fn serves(&self, repository: &RepositoryName) -> bool {
        let takes = |pattern: &RepositoryPattern| pattern.takes(repository.as_str());
        let rules = &self.entry.rules;
        rules.allow.iter().any(takes) && !rules.deny.iter().any(takes)
    }

    /// How long this tag is believed.
    pub fn tags_of(&self, tag: &Tag) -> TagPolicy {
        let rule = self.entry.rules.tags.iter().find(|rule| rule.pattern.takes(tag.as_str()));
        let ttl = rule.map_or(self.entry.tags.ttl, |rule| rule.ttl);
        TagPolicy { ttl, ..self.entry.tags }
    }

    /// How long its tags are believed of which nothing else is said, and its lists.
    pub fn tags(&self) -> TagPolicy {
        self.entry.tags
    }

    /// Whether a range of a blob that is not held begins a fetch of the whole.
    pub fn fills_on_range(&self) -> bool {
        self.entry.rules.fill_on_range
    }

    /// Whether the cache alone answers for it.
    pub fn is_offline(&self) -> bool {
        self.entry.rules.offline
    }

    /// Whether pushes and deletions are passed on to its upstream, which takes that it is asked.
    pub fn takes_pushes(&self) -> bool {
        self.entry.rules.push && !self.entry.rules.offline
    }

    /// For how long the upstream's word that a repository has something is passed on; `None` where
    /// nobody can push, and so nobody decides by it what to upload.
    pub fn membership_ttl(&self) -> Option<Duration> {
        self.takes_pushes().then_some(self.entry.rules.membership_ttl)
    }

    /// How long the rights of clients are remembered, if it is asked with their own credentials.
    pub fn grants(&self) -> Option<GrantPolicy> {
        match self.entry.options.identity {
            AskedAs::Client(policy) => Some(policy),
            AskedAs::Proxy => None,
        }
    }

    /// Whether answers say how they came about.
    pub fn exposes_cache_status(&self) -> bool {
        self.entry.options.cache_status
    }

    /// Where it is reached.
    pub fn upstream(&self) -> &Arc<UpstreamGroup> {
        &self.entry.upstream
    }
}

/// All registries that can be named.
#[derive(Debug)]
pub struct RegistrySet {
    /// As configured, in that order.
    entries: Vec<Arc<Registry>>,
    by_name: HashMap<RegistryName, Arc<Registry>>,
    by_prefix: HashMap<String, Arc<Registry>>,
    by_host: HashMap<HostPort, Arc<Registry>>,
    default: Option<Arc<Registry>>,
    /// The registry that is asked with clients' credentials and has no hosts of its own; there is one
    /// at most.
    with_logins: Option<Arc<Registry>>,
}

impl RegistrySet {
    /// Builds every entry. Upstreams that are in `before` with the same options are kept, and with
    /// them their connections and tokens.
    pub fn build(
        entries: &[RegistryOptions],
        egress: &EgressRoute,
        before: Option<&Self>,
    ) -> Result<Self, SetupError> {
        let mut table = Self {
            entries: Vec::new(),
            by_name: HashMap::new(),
            by_prefix: HashMap::new(),
            by_host: HashMap::new(),
            default: None,
            with_logins: None,
        };
        for options in entries {
            let kept = before.and_then(|before| before.upstream_for(options));
            let built = || {
                let meter = before.and_then(|before| before.meter_of(&options.name));
                let (meter, last) = (meter.unwrap_or_default(), &options.upstream);
                UpstreamGroup::new(&options.mirrors, last, egress, meter).map(Arc::new)
            };
            let upstream = kept.map_or_else(built, Ok)?;
            table.add(options, upstream);
        }
        Ok(table)
    }

    fn upstream_for(&self, options: &RegistryOptions) -> Option<Arc<UpstreamGroup>> {
        let entry = &self.by_name.get(&options.name)?.entry;
        reaches_the_same(&entry.options, options).then(|| Arc::clone(&entry.upstream))
    }

    /// What was counted of a registry goes on to be counted, however it is reached now.
    fn meter_of(&self, name: &RegistryName) -> Option<Arc<UpstreamMeter>> {
        Some(Arc::clone(self.by_name.get(name)?.upstream().meter()))
    }

    fn add(&mut self, options: &RegistryOptions, upstream: Arc<UpstreamGroup>) {
        let entry = RegistryEntry {
            aliases: options.aliases.clone(),
            prefix: options.prefix.clone(),
            is_default: options.is_default,
            tags: options.tags,
            rules: options.rules.clone(),
            upstream,
            place: self.entries.len(),
            options: options.clone(),
        };
        let registry = Registry { name: options.name.clone(), entry: Arc::new(entry) };
        let registry = Arc::new(registry);
        for name in options.aliases.iter().chain([&options.name]) {
            self.by_name.insert(name.clone(), Arc::clone(&registry));
        }
        if let Some(prefix) = &options.prefix {
            self.by_prefix.insert(prefix.clone(), Arc::clone(&registry));
        }
        for host in &options.hosts {
            self.by_host.insert(host.clone(), Arc::clone(&registry));
        }
        if registry.grants().is_some() && options.hosts.is_empty() {
            self.with_logins = Some(Arc::clone(&registry));
        }
        if registry.entry.is_default {
            self.default = Some(Arc::clone(&registry));
        }
        self.entries.push(registry);
    }

    /// Every registry, each at its place.
    pub fn registries(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.entries.iter()
    }

    /// The registry of this name or alias.
    pub fn named(&self, name: &RegistryName) -> Option<&Arc<Registry>> {
        self.by_name.get(name)
    }

    /// The registry that this first path component names.
    pub fn prefixed(&self, component: &str) -> Option<&Arc<Registry>> {
        self.by_prefix.get(component)
    }

    /// The registry that requests to this host mean; an entry with the very port wins.
    pub fn hosted(&self, host: &HostPort) -> Option<&Arc<Registry>> {
        let any_port = || self.by_host.get(&HostPort { port: None, ..host.clone() });
        self.by_host.get(host).or_else(any_port)
    }

    /// The registry whose credentials are taken from clients that call Larder by this host, and to which
    /// alone they are ever shown: the one that has the host, else the one that has none.
    pub fn with_logins(&self, host: Option<&HostPort>) -> Option<&Arc<Registry>> {
        let of_host = host.and_then(|host| self.hosted(host)).filter(|it| it.grants().is_some());
        of_host.or(self.with_logins.as_ref())
    }

    /// Whether any registry has hosts of its own.
    pub fn has_hosts(&self) -> bool {
        !self.by_host.is_empty()
    }

    /// The registry that is meant when none is named.
    pub fn default(&self) -> Option<&Arc<Registry>> {
        self.default.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use url::Url;

    use super::*;
    use crate::http::{InstanceId, SystemNetwork};
    use crate::upstream;
    use crate::upstream::ProxyCredential;

    fn options(password: &str) -> RegistryOptions {
        RegistryOptions {
            name: "a.test".parse().unwrap(),
            aliases: Vec::new(),
            prefix: None,
            hosts: Vec::new(),
            is_default: true,
            tags: TagPolicy { ttl: Duration::ZERO, max_stale: Duration::ZERO },
            upstream: upstream::UpstreamOptions {
                url: Url::parse("http://a.test").unwrap(),
                credential: ProxyCredential::Basic {
                    username: "robot".to_owned(),
                    password: SecretString::from(password),
                },
                ca_pem: None,
                client_identity: None,
                token_hosts: Vec::new(),
                redirect_hosts: Vec::new(),
                max_connections: 1,
            },
            rules: RegistryRules::default(),
            identity: AskedAs::Proxy,
            cache_status: true,
            mirrors: Vec::new(),
        }
    }

    /// A reload must not log in everywhere anew, nor go on with a password that was changed.
    #[test]
    fn an_upstream_is_kept_if_it_would_be_built_the_same() {
        let egress = EgressRoute::direct(Arc::new(SystemNetwork), InstanceId::random());
        let build = |options, before| RegistrySet::build(&[options], &egress, before).unwrap();
        let is_kept = |table: &RegistrySet, before: &RegistrySet| {
            let upstream = |table: &RegistrySet| Arc::clone(table.default().unwrap().upstream());
            Arc::ptr_eq(&upstream(table), &upstream(before))
        };
        let before = build(options("old"), None);

        let mut moved = options("old");
        moved.tags.ttl = Duration::from_secs(1);
        assert!(is_kept(&build(moved, Some(&before)), &before));
        assert!(!is_kept(&build(options("new"), Some(&before)), &before));
        let mut mirrored = options("old");
        mirrored.mirrors.push(options("old").upstream);
        assert!(!is_kept(&build(mirrored, Some(&before)), &before));
        let mut elsewhere = options("old");
        elsewhere.upstream.url = Url::parse("http://b.test").unwrap();
        assert!(!is_kept(&build(elsewhere, Some(&before)), &before));
    }
}
