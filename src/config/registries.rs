//! `[registry."…"]`: which registries there are, and what each is called.
//!
//! One name must mean one registry through every door, so names, aliases and prefixes share one
//! namespace here, though the doors look at different ones of them.

use std::ops::Range;

use toml::Spanned;
use url::Url;

use super::claims::{ClaimKind, NameClaims};
use super::defaults::WellKnown;
use super::diagnostics::{ValueFault, quoted};
use super::quantity::ZeroRule;
use super::resolver::Resolver;
use super::written::{RegistryTable, Text};
use super::{defaults, identity, rules, upstreams};
use crate::http::HostPort;
use crate::oci::{RegistryName, RepositoryName};
use crate::registry::{RegistryOptions, TagPolicy};

/// The registries of the configuration in the order of the file; without any, the well-known ones.
pub(super) fn resolve(
    written: impl IntoIterator<Item = (Text, RegistryTable)>,
    resolver: &mut Resolver<'_>,
) -> Vec<RegistryOptions> {
    let mut written: Vec<(Text, RegistryTable)> = written.into_iter().collect();
    if written.is_empty() {
        let bare = |known: &WellKnown| {
            (Spanned::new(0..0, known.name.to_owned()), RegistryTable::default())
        };
        written = defaults::WELL_KNOWN.iter().map(bare).collect();
    } else {
        written.sort_by_key(|(name, _)| name.span().start);
    }
    let mut claims = NameClaims::default();
    let mut wishes = Vec::new();
    let mut registries = Vec::new();
    for (key, registry) in written {
        let wish = registry.default.clone();
        if let Some(options) = one(&key, registry, &mut claims, resolver) {
            wishes.push(wish);
            registries.push(options);
        }
    }
    choose_default(&mut registries, &wishes, resolver);
    identity::check_all(&registries, resolver);
    registries
}

fn one(
    key: &Text,
    mut written: RegistryTable,
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Option<RegistryOptions> {
    let name = resolver.given(Some(key), registry_name)?;
    let known = defaults::WELL_KNOWN.iter().find(|known| known.name == name.as_str());
    claims.claim(&name, ClaimKind::Name, name.as_str(), key.span(), resolver);
    warn_of_alias(&name, resolver);
    let aliases = aliases(&name, key.span(), written.aliases.take(), known, claims, resolver);
    let prefix = prefix(&name, key.span(), written.prefix.take(), claims, resolver);
    let hosts = hosts(&name, written.hosts.as_deref().unwrap_or_default(), claims, resolver);
    let url = known.map_or_else(|| format!("https://{name}"), |known| known.upstream.to_owned());
    let url = Url::parse(&url)
        .map_err(|_| ValueFault::new("the name is no host, so `upstream` must say where it is"));
    let url = resolver.accept(key.span(), url)?;
    let tag_ttl =
        resolver.duration(written.tag_ttl.as_ref(), ZeroRule::Meaningful, defaults::TAG_TTL);
    let max_stale =
        resolver.duration(written.max_stale.as_ref(), ZeroRule::Meaningful, defaults::MAX_STALE);
    let (identity, cache_status) = identity::resolve(&mut written, resolver);
    let (mirrors, upstream) = upstreams::resolve(&mut written, &url, resolver);
    identity::check(identity, written.identity.as_ref(), (&upstream, &mirrors), resolver);
    Some(RegistryOptions {
        name,
        aliases,
        prefix,
        hosts,
        is_default: false,
        tags: TagPolicy { ttl: tag_ttl, max_stale },
        rules: rules::resolve(&mut written, resolver),
        identity,
        cache_status,
        upstream,
        mirrors,
    })
}

pub(super) fn registry_name(text: &str) -> Result<RegistryName, ValueFault> {
    text.parse().map_err(|_| {
        ValueFault::new(format!("{} is not the name of a registry", quoted(text)))
            .hint("write a host, perhaps with a port, such as `registry.corp:5000`")
    })
}

/// Whoever configures `index.docker.io` most likely means Docker Hub, and would miss `library/`.
fn warn_of_alias(name: &RegistryName, resolver: &mut Resolver<'_>) {
    let known = defaults::WELL_KNOWN.iter().find(|known| known.aliases.contains(&name.as_str()));
    if let Some(known) = known {
        resolver.warnings.push(format!(
            "`{name}` is configured as a registry of its own, but is another name of `{}`",
            known.name
        ));
    }
}

fn aliases(
    name: &RegistryName,
    key: Range<usize>,
    written: Option<Vec<Text>>,
    known: Option<&WellKnown>,
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Vec<RegistryName> {
    let (kind, written) = match (written, known) {
        (Some(written), _) => (ClaimKind::Alias, written),
        (None, Some(known)) => {
            let implied = |alias: &&str| Spanned::new(key.clone(), (*alias).to_owned());
            (ClaimKind::ImpliedAlias, known.aliases.iter().map(implied).collect())
        }
        (None, None) => (ClaimKind::Alias, Vec::new()),
    };
    let mut aliases = Vec::new();
    for text in &written {
        let Some(alias) = resolver.given(Some(text), registry_name) else { continue };
        claims.claim(name, kind, alias.as_str(), text.span(), resolver);
        if alias != *name && !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    aliases
}

fn prefix(
    name: &RegistryName,
    key: Range<usize>,
    written: Option<Text>,
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Option<String> {
    let Some(text) = written else {
        let prefix = check_prefix(name.as_str()).ok()?;
        claims.claim(name, ClaimKind::ImpliedPrefix, &prefix, key, resolver);
        return Some(prefix);
    };
    if text.get_ref().is_empty() {
        return None;
    }
    let prefix = resolver.given(Some(&text), check_prefix)?;
    claims.claim(name, ClaimKind::Prefix, &prefix, text.span(), resolver);
    Some(prefix)
}

/// Hosts have a namespace of their own: `ghcr.io` may be a registry's name and its host.
fn hosts(
    name: &RegistryName,
    written: &[Text],
    claims: &mut NameClaims,
    resolver: &mut Resolver<'_>,
) -> Vec<HostPort> {
    let mut hosts = Vec::new();
    for text in written {
        let Some(host) = resolver.given(Some(text), upstreams::host) else { continue };
        claims.claim(name, ClaimKind::Host, &host.to_string(), text.span(), resolver);
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// A prefix is the first component of a path, told from an organisation on Docker Hub by its dot.
fn check_prefix(text: &str) -> Result<String, ValueFault> {
    const HINT: &str = "write something like `harbor.corp`, or `\"\"` for none";
    if text.contains(':') {
        return Err(ValueFault::new("a prefix can hold no colon").hint(HINT));
    }
    if !text.contains('.') {
        return Err(ValueFault::new("a prefix needs a dot")
            .hint(format!("without one it could be an organisation on Docker Hub; {HINT}")));
    }
    if text.contains('/') || text.parse::<RepositoryName>().is_err() {
        return Err(ValueFault::new("a prefix is one path component, in lower case").hint(HINT));
    }
    Ok(text.to_owned())
}

/// The one that asks for it, else Docker Hub unless it declines.
fn choose_default(
    registries: &mut [RegistryOptions],
    wishes: &[Option<Spanned<bool>>],
    resolver: &mut Resolver<'_>,
) {
    let is_wanted = |wish: &Option<Spanned<bool>>| wish.as_ref().map(|wish| *wish.get_ref());
    let mut chosen: Option<usize> = None;
    for (index, wish) in wishes.iter().enumerate() {
        let Some(wish) = wish.as_ref().filter(|wish| *wish.get_ref()) else { continue };
        if let Some(first) = chosen {
            let (first, second) = (&registries[first].name, &registries[index].name);
            let fault = ValueFault::new(format!("both `{first}` and `{second}` are the default"));
            resolver.report(wish.span(), fault.hint("keep one `default = true`"));
        } else {
            chosen = Some(index);
        }
    }
    let docker = registries.iter().position(|r| r.name.as_str() == defaults::DEFAULT_REGISTRY);
    let docker = docker.filter(|index| is_wanted(&wishes[*index]) != Some(false));
    if let Some(index) = chosen.or(docker) {
        registries[index].is_default = true;
    }
}
