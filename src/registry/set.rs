//! The configured registries, looked up by name, prefix or host.
//!
//! A name that is configured itself comes before a pattern, and patterns come in the order of the
//! configuration.
//!
//! No two registries claim the same name, alias, prefix or host: the configuration is checked for
//! that before a set is built.

use std::collections::HashMap;
use std::sync::Arc;

use super::RegistryOptions;
use super::matched::MatchedRegistries;
use super::options::has_same_upstreams;
use super::single::Registry;
use crate::http::{EgressRoute, HostPort};
use crate::oci::RegistryName;
use crate::upstream::{SetupError, UpstreamGroup, UpstreamMeter};

/// Every configured registry.
#[derive(Debug, Default)]
pub struct RegistrySet {
    /// In the order of the configuration.
    registries: Vec<Arc<Registry>>,
    by_name: HashMap<RegistryName, Arc<Registry>>,
    by_prefix: HashMap<String, Arc<Registry>>,
    by_host: HashMap<HostPort, Arc<Registry>>,
    patterns: Vec<MatchedRegistries>,
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
        let (patterns, registries): (Vec<_>, Vec<_>) =
            registries.iter().partition(|options| options.pattern.is_some());
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
        for template in patterns {
            set.patterns.push(MatchedRegistries::new(template, egress)?);
        }
        set.keep_matched(before, egress)?;
        Ok(set)
    }

    /// Takes over the registries of `before` that patterns match.
    fn keep_matched(&self, before: Option<&Self>, egress: &EgressRoute) -> Result<(), SetupError> {
        let Some(before) = before else { return Ok(()) };
        let known = before.patterns.iter().flat_map(MatchedRegistries::known);
        for registry in known.filter(|known| !self.by_name.contains_key(known.name())) {
            let options_of = |it: &MatchedRegistries| it.options_of(registry.name());
            let matched = self.patterns.iter().find_map(|it| Some((it, options_of(it)?)));
            let Some((matched, options)) = matched else { continue };
            let is_kept = has_same_upstreams(&registry.options, &options) && !options.rules.offline;
            let upstream = if is_kept {
                Arc::clone(&registry.upstream)
            } else {
                let meter = Arc::clone(registry.upstream.meter());
                Arc::new(UpstreamGroup::new(&[], &options.upstream, egress, meter)?)
            };
            matched.keep(Registry::matched(options, upstream));
        }
        Ok(())
    }

    fn upstream_for(&self, options: &RegistryOptions) -> Option<Arc<UpstreamGroup>> {
        let registry = self.known(&options.name)?;
        // The upstreams of one that goes offline are not even asked whether they are back.
        let is_kept = has_same_upstreams(&registry.options, options) && !options.rules.offline;
        is_kept.then(|| Arc::clone(&registry.upstream))
    }

    /// The counters of a registry, which go on counting when its upstreams change.
    fn meter_of(&self, name: &RegistryName) -> Option<Arc<UpstreamMeter>> {
        Some(Arc::clone(self.known(name)?.upstream().meter()))
    }

    /// The registry of this name or alias, if it is configured or was named before.
    fn known(&self, name: &RegistryName) -> Option<Arc<Registry>> {
        let configured = self.by_name.get(name).cloned();
        configured.or_else(|| self.patterns.iter().find_map(|matched| matched.get(name)))
    }

    fn matched(&self, name: &RegistryName) -> Option<Arc<Registry>> {
        self.patterns.iter().find_map(|matched| matched.find(name))
    }

    fn add(&mut self, options: &RegistryOptions, upstream: Arc<UpstreamGroup>) {
        let index = self.registries.len();
        let index = Some(index);
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

    /// Every registry that is configured by its name, in the order of [`Registry::index`].
    pub fn configured(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.registries.iter()
    }

    /// The names of those of which nothing can be fetched now.
    pub fn unavailable(&self) -> Vec<RegistryName> {
        let registries = self.registries().into_iter();
        let unavailable = registries.filter(|registry| registry.is_unavailable());
        unavailable.map(|registry| registry.name().clone()).collect()
    }

    /// Every registry that is configured by its name, then those that patterns match and that were
    /// named so far.
    pub fn registries(&self) -> Vec<Arc<Registry>> {
        let matched = self.patterns.iter().flat_map(MatchedRegistries::known);
        self.registries.iter().cloned().chain(matched).collect()
    }

    /// The options of the entries whose names are patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &RegistryOptions> {
        self.patterns.iter().map(|matched| &matched.template)
    }

    /// The registry of this name or alias.
    pub fn by_name(&self, name: &RegistryName) -> Option<Arc<Registry>> {
        self.by_name.get(name).cloned().or_else(|| self.matched(name))
    }

    /// The registry that this first path component names.
    pub fn by_prefix(&self, component: &str) -> Option<Arc<Registry>> {
        let found = self.by_prefix.get(component).cloned();
        if found.is_some() || self.patterns.is_empty() {
            return found;
        }
        self.matched(&component.parse().ok()?)
    }

    /// The registry that requests to this host mean. An entry with the very port wins over one
    /// without a port. A host that a pattern matches means that registry, at any port.
    pub fn by_host(&self, host: &HostPort) -> Option<Arc<Registry>> {
        let any_port = || self.by_host.get(&HostPort { port: None, ..host.clone() });
        let matched = || self.matched(&host.host.to_string().parse().ok()?);
        self.by_host.get(host).or_else(any_port).cloned().or_else(matched)
    }

    /// The registry that clients log in to at this host: the one that has the host, else the one
    /// without hosts. Their credentials are sent to its upstream and to no other.
    pub fn login_registry(&self, host: Option<&HostPort>) -> Option<Arc<Registry>> {
        let of_host = host.and_then(|host| self.by_host(host)).filter(|it| it.grants().is_some());
        of_host.or_else(|| self.login_registry.clone())
    }

    /// Whether any registry has hosts of its own.
    pub fn has_hosts(&self) -> bool {
        !self.by_host.is_empty() || !self.patterns.is_empty()
    }

    /// The registry of requests that name none.
    pub fn default_registry(&self) -> Option<&Arc<Registry>> {
        self.default.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
