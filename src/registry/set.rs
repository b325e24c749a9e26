//! The configured registries, looked up by name, prefix or host.
//!
//! No two registries claim the same name, alias, prefix or host: the configuration is checked for
//! that before a set is built.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::options::has_same_upstreams;
use super::{AskedAs, GrantPolicy, RegistryOptions, TagPolicy};
use crate::http::{EgressRoute, HostPort};
use crate::oci::{RegistryName, RepositoryName, Tag};
use crate::upstream::{SetupError, UpstreamGroup, UpstreamMeter};

/// One configured registry with its upstreams.
#[derive(Debug)]
pub struct Registry {
    options: RegistryOptions,
    upstream: Arc<UpstreamGroup>,
    index: usize,
}

impl Registry {
    /// Its settings.
    pub fn options(&self) -> &RegistryOptions {
        &self.options
    }

    /// Its name: the key of its table in the configuration.
    pub fn name(&self) -> &RegistryName {
        &self.options.name
    }

    /// Its index in the set, for data that is kept beside it.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether `name` is its name or one of its aliases.
    pub fn is_named(&self, name: &RegistryName) -> bool {
        self.options.name == *name || self.options.aliases.contains(name)
    }

    /// Whether this first path component names it.
    pub fn has_prefix(&self, component: &str) -> bool {
        self.options.prefix.as_deref() == Some(component)
    }

    /// Whether `allow` and `deny` admit this repository.
    pub fn serves(&self, repository: &RepositoryName) -> bool {
        self.options.serves(repository)
    }

    /// How long this tag is fresh.
    pub fn tag_policy(&self, tag: &Tag) -> TagPolicy {
        self.options.tag_policy(tag)
    }

    /// How long the absence of this tag is fresh: it may be pushed at any moment, so never longer
    /// than tags without a rule of their own. A tag for referrers mostly stays absent.
    pub fn absent_tag_policy(&self, tag: &Tag) -> TagPolicy {
        let policy = self.tag_policy(tag);
        let policy = TagPolicy { ttl: policy.ttl.min(self.options.tags.ttl), ..policy };
        let negative_ttl = self.options.rules.negative_tag_ttl;
        if tag.is_of_referrers() && !negative_ttl.is_zero() {
            return policy.without_referrers();
        }
        TagPolicy { ttl: policy.ttl.min(negative_ttl), ..policy }
    }

    /// How long lists, and tags without a rule of their own, are fresh.
    pub fn default_tag_policy(&self) -> TagPolicy {
        self.options.tags
    }

    /// Whether a range of a blob that is not cached starts a fill of the whole blob.
    pub fn fills_on_range(&self) -> bool {
        self.options.rules.fill_on_range
    }

    /// Whether only cached content is served, and the upstream is never asked.
    pub fn is_offline(&self) -> bool {
        self.options.rules.offline
    }

    /// Whether pushes and deletions are sent on to the upstream. Never while offline.
    pub fn takes_pushes(&self) -> bool {
        self.options.rules.push && !self.options.rules.offline
    }

    /// How long a confirmed blob may be reported to clients without asking the upstream again;
    /// `None` where clients cannot push, so that no client skips an upload because of it.
    pub fn membership_ttl(&self) -> Option<Duration> {
        self.takes_pushes().then_some(self.options.rules.membership_ttl)
    }

    /// How long the rights of clients are cached, if the upstream is asked with each client's own
    /// credential; `None` if it is asked with Larder's.
    pub fn grants(&self) -> Option<GrantPolicy> {
        match self.options.identity {
            AskedAs::Client(policy) => Some(policy),
            AskedAs::Proxy => None,
        }
    }

    /// Whether answers have a `Cache-Status` header (RFC 9211).
    pub fn exposes_cache_status(&self) -> bool {
        self.options.cache_status
    }

    /// Its upstreams.
    pub fn upstream(&self) -> &Arc<UpstreamGroup> {
        &self.upstream
    }
}

/// Every configured registry.
#[derive(Debug, Default)]
pub struct RegistrySet {
    /// In the order of the configuration.
    registries: Vec<Arc<Registry>>,
    by_name: HashMap<RegistryName, Arc<Registry>>,
    by_prefix: HashMap<String, Arc<Registry>>,
    by_host: HashMap<HostPort, Arc<Registry>>,
    default: Option<Arc<Registry>>,
    /// The registry that is asked with clients' credentials and has no hosts of its own; the
    /// configuration has one at most.
    login_registry: Option<Arc<Registry>>,
}

impl RegistrySet {
    /// Builds every registry. Upstreams that `before` has with equal options are kept, with their
    /// connections and tokens.
    ///
    /// # Errors
    ///
    /// If the TLS of an upstream cannot be set up.
    pub fn build(
        registries: &[RegistryOptions],
        egress: &EgressRoute,
        before: Option<&Self>,
    ) -> Result<Self, SetupError> {
        let mut set = Self::default();
        for options in registries {
            let kept = before.and_then(|before| before.upstream_for(options));
            let built = || {
                let meter = before.and_then(|before| before.meter_of(&options.name));
                let meter = meter.unwrap_or_default();
                UpstreamGroup::new(&options.mirrors, &options.upstream, egress, meter).map(Arc::new)
            };
            let upstream = kept.map_or_else(built, Ok)?;
            set.add(options, upstream);
        }
        Ok(set)
    }

    fn upstream_for(&self, options: &RegistryOptions) -> Option<Arc<UpstreamGroup>> {
        let registry = self.by_name.get(&options.name)?;
        // The upstreams of one that goes offline are not even asked whether they are back.
        let is_kept = has_same_upstreams(&registry.options, options) && !options.rules.offline;
        is_kept.then(|| Arc::clone(&registry.upstream))
    }

    /// The counters of a registry, which go on counting when its upstreams change.
    fn meter_of(&self, name: &RegistryName) -> Option<Arc<UpstreamMeter>> {
        Some(Arc::clone(self.by_name.get(name)?.upstream().meter()))
    }

    fn add(&mut self, options: &RegistryOptions, upstream: Arc<UpstreamGroup>) {
        let index = self.registries.len();
        let registry = Arc::new(Registry { options: options.clone(), upstream, index });
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
            self.login_registry = Some(Arc::clone(&registry));
        }
        if options.is_default {
            self.default = Some(Arc::clone(&registry));
        }
        self.registries.push(registry);
    }

    /// Every registry, in the order of [`Registry::index`].
    pub fn registries(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.registries.iter()
    }

    /// The registry of this name or alias.
    pub fn by_name(&self, name: &RegistryName) -> Option<&Arc<Registry>> {
        self.by_name.get(name)
    }

    /// The registry that this first path component names.
    pub fn by_prefix(&self, component: &str) -> Option<&Arc<Registry>> {
        self.by_prefix.get(component)
    }

    /// The registry that requests to this host mean. An entry with the very port wins over one
    /// without a port.
    pub fn by_host(&self, host: &HostPort) -> Option<&Arc<Registry>> {
        let any_port = || self.by_host.get(&HostPort { port: None, ..host.clone() });
        self.by_host.get(host).or_else(any_port)
    }

    /// The registry that clients log in to at this host: the one that has the host, else the one
    /// without hosts. Their credentials are sent to its upstream and to no other.
    pub fn login_registry(&self, host: Option<&HostPort>) -> Option<&Arc<Registry>> {
        let of_host = host.and_then(|host| self.by_host(host)).filter(|it| it.grants().is_some());
        of_host.or(self.login_registry.as_ref())
    }

    /// Whether any registry has hosts of its own.
    pub fn has_hosts(&self) -> bool {
        !self.by_host.is_empty()
    }

    /// The registry of requests that name none.
    pub fn default_registry(&self) -> Option<&Arc<Registry>> {
        self.default.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use url::Url;

    use super::*;
    use crate::http::{InstanceId, SystemNetwork};
    use crate::upstream::{ProxyCredential, UpstreamOptions};

    fn options(password: &str) -> RegistryOptions {
        let upstream = UpstreamOptions {
            credential: ProxyCredential::Basic {
                username: "robot".to_owned(),
                password: SecretString::from(password),
            },
            ..UpstreamOptions::for_test(Url::parse("http://a.test").unwrap())
        };
        let url = Url::parse("http://a.test").unwrap();
        RegistryOptions { is_default: true, upstream, ..RegistryOptions::for_test("a.test", url) }
    }

    /// A reload must not log in at every upstream again, nor keep a password that was changed.
    #[test]
    fn a_reload_keeps_an_upstream_whose_options_have_not_changed() {
        let egress = EgressRoute::direct(Arc::new(SystemNetwork), InstanceId::random());
        let build = |options, before| RegistrySet::build(&[options], &egress, before).unwrap();
        let is_kept = |set: &RegistrySet, before: &RegistrySet| {
            let upstream =
                |set: &RegistrySet| Arc::clone(set.default_registry().unwrap().upstream());
            Arc::ptr_eq(&upstream(set), &upstream(before))
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
