//! The registries that match a pattern of the configuration and that clients have named so far.
//!
//! A name that matches costs memory, so they are bounded. Clients can make names up, and each that
//! the limit has no room for takes the place of one whose upstream never answered with content, the
//! one that was named the longest ago; only then of one that did. Cached content of a registry does
//! not depend on its place here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::options::RegistryOptions;
use super::single::Registry;
use crate::http::EgressRoute;
use crate::oci::RegistryName;
use crate::upstream::{SetupError, UpstreamGroup};

/// The most registries of one pattern: accounts and regions of a large company. Each takes some
/// 100 KiB: 25 MiB.
const MATCHED_MAX: usize = 256;

/// An entry whose name is a pattern, and the registries that it has given so far.
#[derive(Debug)]
pub(super) struct MatchedRegistries {
    /// The options of the entry, with the sample's name.
    pub(super) template: RegistryOptions,
    egress: EgressRoute,
    known: Mutex<KnownMatches>,
}

#[derive(Debug, Default)]
struct KnownMatches {
    /// How many times one was named.
    now: u64,
    by_name: HashMap<RegistryName, KnownMatch>,
}

#[derive(Debug)]
struct KnownMatch {
    registry: Arc<Registry>,
    last_named: u64,
}

impl MatchedRegistries {
    /// No registry of the entry that `template` describes.
    ///
    /// # Errors
    ///
    /// If none could be called with its options.
    pub(super) fn new(
        template: &RegistryOptions,
        egress: &EgressRoute,
    ) -> Result<Self, SetupError> {
        // Tried out with the sample, so that a fault shows at the start.
        UpstreamGroup::new(&[], &template.upstream, egress, Arc::default())?;
        Ok(Self { template: template.clone(), egress: egress.clone(), known: Mutex::default() })
    }

    /// The options of the registry of this name, if the pattern matches it.
    pub(super) fn options_of(&self, name: &RegistryName) -> Option<RegistryOptions> {
        let pattern = self.template.pattern.as_ref()?;
        pattern.matches(name).then(|| self.template.named(name)).flatten()
    }

    /// Those that were named so far, by name.
    pub(super) fn known(&self) -> Vec<Arc<Registry>> {
        let known = self.known.lock();
        let mut known: Vec<_> = known.by_name.values().map(|it| Arc::clone(&it.registry)).collect();
        known.sort_by(|one, other| one.name().cmp(other.name()));
        known
    }

    /// The registry of this name, if it was named before.
    pub(super) fn get(&self, name: &RegistryName) -> Option<Arc<Registry>> {
        self.known.lock().by_name.get(name).map(|it| Arc::clone(&it.registry))
    }

    /// The registry of this name, which is known from now on.
    pub(super) fn find(&self, name: &RegistryName) -> Option<Arc<Registry>> {
        let mut known = self.known.lock();
        known.now += 1;
        let now = known.now;
        if let Some(found) = known.by_name.get_mut(name) {
            found.last_named = now;
            return Some(Arc::clone(&found.registry));
        }
        let options = self.options_of(name)?;
        let meter = Arc::default();
        let built = UpstreamGroup::new(&options.mirrors, &options.upstream, &self.egress, meter);
        let upstream = built
            .inspect_err(|error| tracing::error!(%error, registry = %name, "cannot be called"))
            .ok()?;
        known.make_room();
        Some(known.add(Registry::matched(options, Arc::new(upstream))))
    }

    /// Takes over a registry of before.
    pub(super) fn keep(&self, registry: Registry) {
        let mut known = self.known.lock();
        known.now += 1;
        known.make_room();
        known.add(registry);
    }
}

impl KnownMatches {
    fn add(&mut self, registry: Registry) -> Arc<Registry> {
        let registry = Arc::new(registry);
        let found = KnownMatch { registry: Arc::clone(&registry), last_named: self.now };
        self.by_name.insert(registry.name().clone(), found);
        registry
    }

    fn make_room(&mut self) {
        if self.by_name.len() < MATCHED_MAX {
            return;
        }
        let worth = |known: &KnownMatch| {
            (known.registry.upstream().meter().has_succeeded(), known.last_named)
        };
        let least = self.by_name.iter().min_by_key(|(_, known)| worth(known));
        if let Some(name) = least.map(|(name, _)| name.clone()) {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::http::{InstanceId, SystemNetwork};

    fn matched() -> MatchedRegistries {
        let pattern: crate::registry::RegistryNamePattern = "*.corp.test".parse().unwrap();
        let sample = pattern.sample().to_string();
        let options = RegistryOptions::for_test(&sample, Url::parse("https://a.test").unwrap());
        let template = RegistryOptions { pattern: Some(pattern), ..options };
        let egress = EgressRoute::direct(Arc::new(SystemNetwork), InstanceId::random());
        MatchedRegistries::new(&template, &egress).unwrap()
    }

    /// Names that clients make up do not take the place of registries that are there.
    #[test]
    fn made_up_names_are_bounded_and_leave_the_real_ones() {
        let matched = matched();
        let find = |name: &str| matched.find(&name.parse().unwrap());
        let real = find("real.corp.test").unwrap();
        real.upstream().meter().succeed_for_test();
        for number in 0..3 * MATCHED_MAX {
            assert!(find(&format!("x{number}.corp.test")).is_some());
            assert!(matched.known().len() <= MATCHED_MAX);
        }
        assert!(Arc::ptr_eq(&real, &find("real.corp.test").unwrap()));
        assert!(matched.get(&"x0.corp.test".parse().unwrap()).is_none());
        assert!(find("other.test").is_none());
        assert_eq!(matched.known().len(), MATCHED_MAX);
    }

    #[test]
    fn a_registry_that_matches_is_called_by_its_own_name() {
        let matched = matched();
        let found = matched.find(&"a.corp.test".parse().unwrap()).unwrap();
        assert_eq!(found.options().upstream.url.as_str(), "https://a.corp.test/");
        assert_eq!(found.upstream().host(), "a.corp.test");
        assert!(found.has_prefix("a.corp.test"));
    }
}
