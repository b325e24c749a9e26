//! `[registry."…"]`: which registries there are, and what each is called.
//!
//! One name must mean one registry through every door, so names, aliases and prefixes share one
//! namespace here, though the doors look at different ones of them.

use std::time::Duration;

use url::Url;

use super::claims::{ClaimKind, NameClaims};
use super::defaults::{DEFAULT_REGISTRY, WELL_KNOWN, WellKnown};
use super::diagnostics::ValueFault;
use super::reader::{FromText, KeyLocation, Located};
use super::registry_keys::{NamedRegistry, RegistryTable, RegistryTables, TagRuleTable};
use super::resolver::Resolver;
use super::upstreams;
use super::values::{PathPrefix, check_prefix};
use super::{identity, name_patterns};
use crate::http::HostPort;
use crate::oci::RegistryName;
use crate::registry::{AskedAs, RegistryOptions, RegistryRules, TagPolicy, TagRule};

/// The registries of the configuration in the order of the file; without any, the well-known ones.
pub(super) fn resolve(
    written: Option<RegistryTables>,
    resolver: &mut Resolver<'_>,
) -> Vec<RegistryOptions> {
    let written = written.map(|tables| tables.0).filter(|tables| !tables.is_empty());
    let written = written
        .unwrap_or_else(|| WELL_KNOWN.iter().filter_map(|known| bare(known, resolver)).collect());
    let mut claims = NameClaims::default();
    let mut wishes = Vec::new();
    let mut registries = Vec::new();
    for registry in written {
        let wish = registry.table.default.clone();
        if let Some(options) = options(registry, &mut claims, resolver) {
            wishes.push(wish);
            registries.push(options);
        }
    }
    choose_default(&mut registries, &wishes, resolver);
    registries
}

/// A registry of which nothing is written.
fn bare(known: &WellKnown, resolver: &mut Resolver<'_>) -> Option<NamedRegistry> {
    let at = KeyLocation::default();
    let name = resolver.accept(&at, RegistryName::from_text(known.name));
    let table = resolver.reader.default_value::<RegistryTable>("{}");
    let name = Located { value: name?, at };
    Some(NamedRegistry { name, pattern: None, table: table? })
}

fn options(
    NamedRegistry { name, pattern, mut table }: NamedRegistry,
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Option<RegistryOptions> {
    let known = WELL_KNOWN.iter().find(|known| known.name == name.value.as_str());
    name_patterns::check(&table, &name.at, pattern.is_some(), resolver);
    claims.claim(&name.value, ClaimKind::Name, name.value.as_str(), &name.at, resolver);
    warn_of_alias(&name.value, resolver);
    let aliases = aliases(&name, table.aliases.take(), known, claims, resolver);
    let prefix = prefix(&name, table.prefix.take(), claims, resolver);
    let hosts = hosts(&name.value, &table.hosts, claims, resolver);
    let url = known.map_or_else(|| format!("https://{}", name.value), |it| it.upstream.to_owned());
    let url = Url::parse(&url)
        .map_err(|_| ValueFault::new("the name is no host, so `upstream` must say where it is"));
    let url = resolver.accept(&name.at, url)?;
    let identity = identity::resolve(&table, resolver);
    let url = Located { value: url, at: name.at.clone() };
    let mut upstreams = upstreams::resolve(&mut table, url, resolver);
    if pattern.is_some() {
        name_patterns::limit_hosts(&table, &mut upstreams.authoritative);
    }
    identity::check_upstreams(&table, &upstreams, resolver);
    Some(RegistryOptions {
        name: name.value,
        pattern,
        aliases,
        prefix,
        hosts,
        is_default: false,
        tags: TagPolicy { ttl: table.tag_ttl, max_stale: table.max_stale },
        cache_status: table.cache_status.unwrap_or(identity == AskedAs::Proxy),
        identity,
        upstream: upstreams.authoritative,
        mirrors: upstreams.mirrors,
        rules: rules(table),
    })
}

fn rules(table: RegistryTable) -> RegistryRules {
    // A client that pushes past this Larder, or through another one, expects to pull at once.
    let negative = if table.push { Duration::ZERO } else { RegistryRules::NEGATIVE_TAG_TTL };
    let rule = |rule: TagRuleTable| TagRule { pattern: rule.r#match, ttl: rule.ttl };
    RegistryRules {
        fill_on_range: table.fill_on_range,
        offline: table.offline.value,
        push: table.push,
        membership_ttl: table.membership_ttl,
        tags: table.tag_rules.into_iter().map(rule).collect(),
        negative_tag_ttl: table.negative_tag_ttl.unwrap_or(negative),
        allow: table.allow,
        deny: table.deny,
    }
}

/// An operator that configures `index.docker.io` most likely means Docker Hub, and would miss
/// `library/`.
fn warn_of_alias(name: &RegistryName, resolver: &mut Resolver<'_>) {
    let known = WELL_KNOWN.iter().find(|known| known.aliases.contains(&name.as_str()));
    if let Some(known) = known {
        resolver.warn_in_general(format!(
            "`{name}` is configured as a registry of its own, but is another name of `{}`",
            known.name
        ));
    }
}

fn aliases(
    name: &Located<RegistryName>,
    written: Option<Vec<Located<RegistryName>>>,
    known: Option<&WellKnown>,
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Vec<RegistryName> {
    let kind = if written.is_some() { ClaimKind::Alias } else { ClaimKind::ImpliedAlias };
    let implied = || {
        let known = known.map(|known| known.aliases).unwrap_or_default().iter();
        let alias = |text: &&str| Some(Located { value: text.parse().ok()?, at: name.at.clone() });
        known.filter_map(alias).collect()
    };
    let mut aliases = Vec::new();
    for alias in written.unwrap_or_else(implied) {
        claims.claim(&name.value, kind, alias.value.as_str(), &alias.at, resolver);
        if alias.value != name.value && !aliases.contains(&alias.value) {
            aliases.push(alias.value);
        }
    }
    aliases
}

/// The prefix that is written, else the name if it can be one.
fn prefix(
    name: &Located<RegistryName>,
    written: Option<Located<PathPrefix>>,
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Option<String> {
    let (kind, prefix, at) = match written {
        None => (ClaimKind::ImpliedPrefix, check_prefix(name.value.as_str()).ok(), name.at.clone()),
        Some(written) => (ClaimKind::Prefix, written.value.0, written.at),
    };
    let prefix = prefix?;
    claims.claim(&name.value, kind, &prefix, &at, resolver);
    Some(prefix)
}

/// Hosts have a namespace of their own: `ghcr.io` may be a registry's name and its host.
fn hosts(
    name: &RegistryName,
    written: &[Located<HostPort>],
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Vec<HostPort> {
    let mut hosts = Vec::new();
    for Located { value: host, at } in written {
        claims.claim(name, ClaimKind::Host, &host.to_string(), at, resolver);
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    hosts
}

/// The one that asks for it, else Docker Hub unless it declines.
fn choose_default(
    registries: &mut [RegistryOptions],
    wishes: &[Option<Located<bool>>],
    resolver: &mut Resolver<'_>,
) {
    let mut chosen: Option<usize> = None;
    for (index, wish) in wishes.iter().enumerate() {
        let Some(wish) = wish.as_ref().filter(|wish| wish.value) else { continue };
        if let Some(first) = chosen {
            let fault = ValueFault::new(format!(
                "both `{}` and `{}` are the default",
                registries[first].name, registries[index].name
            ));
            resolver.report(&wish.at, fault.hint("keep one `default = true`"));
        } else {
            chosen = Some(index);
        }
    }
    let is_docker = |registry: &RegistryOptions| registry.name.as_str() == DEFAULT_REGISTRY;
    let docker = registries.iter().position(is_docker);
    let docker = docker.filter(|index| wishes[*index].as_ref().is_none_or(|wish| wish.value));
    if let Some(index) = chosen.or(docker) {
        registries[index].is_default = true;
    }
}
