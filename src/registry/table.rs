//! Which registry a name means: a lookup in a closed world, never an address to dial.
//!
//! A name, an alias or a prefix means exactly one registry; that no two claim the same is seen to
//! where the configuration is resolved.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Options, Pattern, Rules, TagPolicy};
use crate::http::Egress;
use crate::oci::{RegistryName, RepositoryName, Tag};
use crate::upstream::{SetupError, Upstreams};

/// One configured registry, built. A pattern would be one entry too, with many registries.
#[derive(Debug)]
pub struct Entry {
    aliases: Vec<RegistryName>,
    prefix: Option<String>,
    is_default: bool,
    tags: TagPolicy,
    rules: Rules,
    upstream: Arc<Upstreams>,
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

    /// Whether this repository may be asked for.
    pub fn serves(&self, repository: &RepositoryName) -> bool {
        let takes = |pattern: &Pattern| pattern.takes(repository.as_str());
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

    /// Whether the cache alone answers for it.
    pub fn is_offline(&self) -> bool {
        self.entry.rules.offline
    }

    /// Where it is reached.
    pub fn upstream(&self) -> &Arc<Upstreams> {
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
    pub fn build(entries: &[Options], egress: &Egress) -> Result<Self, SetupError> {
        let mut table = Self { by_name: HashMap::new(), by_prefix: HashMap::new(), default: None };
        for options in entries {
            let upstream = Upstreams::new(&options.mirrors, &options.upstream, egress)?;
            table.add(options, Arc::new(upstream));
        }
        Ok(table)
    }

    fn add(&mut self, options: &Options, upstream: Arc<Upstreams>) {
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
