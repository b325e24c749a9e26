//! A registry as the configuration has it.

use std::time::Duration;

use super::Pattern;
use crate::oci::RegistryName;
use crate::upstream;

/// One `[registry."…"]` table, resolved.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name, the key of the table.
    pub name: RegistryName,
    /// Other names that `ns=` and the path may use for it.
    pub aliases: Vec<RegistryName>,
    /// The first path component that names it (`/v2/<prefix>/…`): has a dot and no colon.
    pub prefix: Option<String>,
    /// Whether requests that name no registry mean this one.
    pub is_default: bool,
    /// How long its tags are believed.
    pub tags: TagPolicy,
    /// What else an operator decides of it.
    pub rules: Rules,
    /// Where it is reached: the upstream whose answers are the registry's.
    pub upstream: upstream::Options,
    /// The upstreams that are asked before it for what has a digest, in order.
    pub mirrors: Vec<upstream::Options>,
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
pub struct Rules {
    /// Whether the cache alone answers: the upstream is never asked, and nothing is too old.
    pub offline: bool,
    /// Tags that are believed for another time than the others; the first that takes a tag counts.
    pub tags: Vec<TagRule>,
    /// The repositories that may be asked for, by their names at the registry.
    pub allow: Vec<Pattern>,
    /// Those that may not, even so.
    pub deny: Vec<Pattern>,
}

impl Default for Rules {
    fn default() -> Self {
        let allow = vec![Pattern::any()];
        Self { offline: false, tags: Vec::new(), allow, deny: Vec::new() }
    }
}

/// How long some tags are believed.
#[derive(Clone, Debug)]
pub struct TagRule {
    /// Which tags.
    pub pattern: Pattern,
    /// For how long one is served without asking the upstream.
    pub ttl: Duration,
}
