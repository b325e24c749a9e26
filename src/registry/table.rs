//! Which registry a name means: a lookup in a closed world, never an address to dial.
//!
//! A name, an alias or a prefix means exactly one registry; that no two claim the same is seen to
//! where the configuration is resolved.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Options, Rules, TagPolicy};
use crate::http::Network;
use crate::oci::RegistryName;
use crate::upstream::{SetupError, Upstream};

/// One configured registry, built. A pattern would be one entry too, with many registries.
#[derive(Debug)]
pub struct Entry {
    aliases: Vec<RegistryName>,
    prefix: Option<String>,
    is_default: bool,
    tags: TagPolicy,
    rules: Rules,
    upstream: Arc<Upstream>,
}

/// One concrete registry: what directories and tokens are named after.
#[derive(Clone, Debug)]
pub struct Registry {
    name: RegistryName,
    entry: Arc<Entry>,
}

impl Registry {
    /// Its name.
    pub fn name(&self) -> &RegistryName {
        &self.name
    }

    /// Whether `name` is its name or one of its aliases.
    pub fn is_called(&self, name: &RegistryName) -> bool {
        self.name == *name || self.entry.aliases.contains(name)
    }

    /// Whether this first path component names it.
    pub fn has_prefix(&self, component: &str) -> bool {
        self.entry.prefix.as_deref() == Some(component)
    }

    /// How long its tags are believed.
    pub fn tags(&self) -> TagPolicy {
        self.entry.tags
    }

    /// Whether the cache alone answers for it.
    pub fn is_offline(&self) -> bool {
        self.entry.rules.offline
    }

    /// Where it is reached.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.entry.upstream
    }
}

/// All registries that can be named.
#[derive(Debug)]
pub struct Table {
    by_name: HashMap<RegistryName, Arc<Registry>>,
    by_prefix: HashMap<String, Arc<Registry>>,
    default: Option<Arc<Registry>>,
}

impl Table {
    /// Builds every entry.
    pub fn build(entries: &[Options], network: &Arc<dyn Network>) -> Result<Self, SetupError> {
        let mut table = Self { by_name: HashMap::new(), by_prefix: HashMap::new(), default: None };
        for options in entries {
            table.add(options, Arc::new(Upstream::new(&options.upstream, Arc::clone(network))?));
        }
        Ok(table)
    }

    fn add(&mut self, options: &Options, upstream: Arc<Upstream>) {
        let entry = Entry {
            aliases: options.aliases.clone(),
            prefix: options.prefix.clone(),
            is_default: options.is_default,
            tags: options.tags,
            rules: options.rules.clone(),
            upstream,
        };
        let registry = Registry { name: options.name.clone(), entry: Arc::new(entry) };
        let registry = Arc::new(registry);
        for name in options.aliases.iter().chain([&options.name]) {
            self.by_name.insert(name.clone(), Arc::clone(&registry));
        }
        if let Some(prefix) = &options.prefix {
            self.by_prefix.insert(prefix.clone(), Arc::clone(&registry));
        }
        if registry.entry.is_default {
            self.default = Some(registry);
        }
    }

    /// The registry of this name or alias.
    pub fn named(&self, name: &RegistryName) -> Option<&Arc<Registry>> {
        self.by_name.get(name)
    }

    /// The registry that this first path component names.
    pub fn prefixed(&self, component: &str) -> Option<&Arc<Registry>> {
        self.by_prefix.get(component)
    }

    /// The registry that is meant when none is named.
    pub fn default(&self) -> Option<&Arc<Registry>> {
        self.default.as_ref()
    }
}
