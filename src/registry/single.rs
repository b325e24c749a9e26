//! One registry: its options and its upstreams.

use std::sync::Arc;
use std::time::Duration;

use super::{GrantPolicy, RegistryOptions, TagPolicy};
use crate::oci::{RegistryName, RepositoryName, Tag};
use crate::upstream::UpstreamGroup;

/// One configured registry with its upstreams.
#[derive(Debug)]
pub struct Registry {
    pub(super) options: RegistryOptions,
    pub(super) upstream: Arc<UpstreamGroup>,
    pub(super) index: Option<usize>,
}

impl Registry {
    /// One that a pattern matches.
    pub(super) fn matched(options: RegistryOptions, upstream: Arc<UpstreamGroup>) -> Self {
        Self { options, upstream, index: None }
    }

    /// Its settings.
    pub fn options(&self) -> &RegistryOptions {
        &self.options
    }

    /// Its name: the key of its table in the configuration.
    pub fn name(&self) -> &RegistryName {
        &self.options.name
    }

    /// Its index in the set, for data that is kept beside it; `None` if a pattern matches it.
    pub fn index(&self) -> Option<usize> {
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

    /// Whether nothing can be fetched from it now.
    pub fn is_unavailable(&self) -> bool {
        self.is_offline() || self.upstream.gives_nothing()
    }

    /// Whether pushes and deletions are sent on to the upstream. Never while offline.
    pub fn takes_pushes(&self) -> bool {
        self.options.takes_pushes()
    }

    /// How long a confirmed blob may be reported to clients without asking the upstream again;
    /// `None` where clients cannot push, so that no client skips an upload because of it.
    pub fn membership_ttl(&self) -> Option<Duration> {
        self.takes_pushes().then_some(self.options.rules.membership_ttl)
    }

    /// How long the rights of clients are cached, if the upstream is asked with each client's own
    /// credential; `None` if it is asked with Larder's.
    pub fn grants(&self) -> Option<GrantPolicy> {
        self.options.grants()
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
