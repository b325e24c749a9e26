//! What a registry's `tag_rules`, `allow`, `deny`, `offline`, `push` and `membership_ttl` say.

use std::time::Duration;

use toml::Spanned;

use super::diagnostics::{ValueFault, quoted};
use super::quantity::{ZeroRule, duration};
use super::resolver::Resolver;
use super::written::{RegistryTable, TagRule, Text};
use crate::registry;
use crate::registry::{RegistryRules, RepositoryPattern};

pub(super) fn resolve(written: &mut RegistryTable, resolver: &mut Resolver<'_>) -> RegistryRules {
    let default = RegistryRules::default();
    let allow = written.allow.take();
    let deny = written.deny.take().unwrap_or_default();
    let rules = written.tag_rules.take().unwrap_or_default();
    let membership_ttl = written.membership_ttl.as_ref();
    RegistryRules {
        fill_on_range: written.fill_on_range.take().is_none_or(Spanned::into_inner),
        offline: written.offline.take().is_some_and(Spanned::into_inner),
        push: written.push.take().is_some_and(Spanned::into_inner),
        membership_ttl: resolver.duration(
            membership_ttl,
            ZeroRule::Meaningful,
            RegistryRules::MEMBERSHIP_TTL,
        ),
        tags: rules.iter().filter_map(|rule| tag_rule(rule, resolver)).collect(),
        allow: allow.map_or(default.allow, |allow| patterns(&allow, resolver)),
        deny: patterns(&deny, resolver),
    }
}

fn tag_rule(written: &Spanned<TagRule>, resolver: &mut Resolver<'_>) -> Option<registry::TagRule> {
    let TagRule { r#match, ttl } = written.get_ref();
    for (key, text) in [("match", r#match), ("ttl", ttl)] {
        if text.is_none() {
            let fault = ValueFault::new(format!("the rule has no `{key}`"));
            resolver.report(written.span(), fault.hint(HINT));
        }
    }
    let pattern = resolver.given(r#match.as_ref(), pattern);
    let ttl: Option<Duration> =
        resolver.given(ttl.as_ref(), |text| duration(text, ZeroRule::Meaningful));
    Some(registry::TagRule { pattern: pattern?, ttl: ttl? })
}

fn patterns(texts: &[Text], resolver: &mut Resolver<'_>) -> Vec<RepositoryPattern> {
    texts.iter().filter_map(|text| resolver.given(Some(text), pattern)).collect()
}

pub(super) fn pattern(text: &str) -> Result<RepositoryPattern, ValueFault> {
    text.parse().map_err(|_| {
        ValueFault::new(format!("{} is not a pattern", quoted(text)))
            .hint("`*` is any text without a slash, `**` any number of components")
    })
}

const HINT: &str = "write it like `{ match = \"v*\", ttl = \"1d\" }`";
