//! Settings that are right alone and wrong together: what only shows when all of them are known.

use super::diagnostics::ValueFault;
use super::listeners::ListenerSettings;
use super::reader::Located;
use super::resolver::Resolver;
use crate::access::{AnonymousAccess, ChallengePolicy};
use crate::registry::{AskedAs, RegistryOptions};

/// Reports listeners and registries that contradict, or are of no use to, each other.
pub(super) fn check(
    listeners: &[ListenerSettings],
    registries: &[RegistryOptions],
    resolver: &mut Resolver<'_>,
) {
    warn_of_useless(listeners, registries, resolver);
    warn_of_unreached(registries, resolver);
    check_logins(listeners, registries, resolver);
    check_rules(registries, resolver);
    check_hosts(registries, resolver);
}

/// Warns of registries that could do more if a listener let clients do it.
fn warn_of_useless(
    listeners: &[ListenerSettings],
    registries: &[RegistryOptions],
    resolver: &mut Resolver<'_>,
) {
    let lets_push = |listener: &ListenerSettings| {
        let options = &listener.access.options;
        options.policy.anonymous == AnonymousAccess::Push
            || options.htpasswd.is_some()
            || !options.certificates.is_empty()
    };
    let may_push = listeners.iter().any(lets_push);
    for registry in registries.iter().filter(|registry| registry.rules.push && !may_push) {
        resolver.warn_in_general(format!(
            "`{}` takes pushes, but no client may push: set `anonymous = \"push\"` in `[access]`, \
             or let users log in",
            registry.name
        ));
    }
    let may_log_in = listeners.iter().any(asks_for_passwords);
    for registry in registries.iter().filter(|registry| takes_logins(registry) && !may_log_in) {
        resolver.warn_in_general(format!(
            "`{}` is asked with the credentials of clients, but no listener takes any: set \
             `challenge = \"basic\"` in `[access]`",
            registry.name
        ));
    }
}

/// Warns of registries that few requests can mean. Only containerd knows names without a dot, and a
/// name with one is a prefix, or has a port, which operators choose knowingly.
fn warn_of_unreached(registries: &[RegistryOptions], resolver: &mut Resolver<'_>) {
    let is_reached = |it: &RegistryOptions| {
        let has_door = it.prefix.is_some() || it.pattern.is_some() || !it.hosts.is_empty();
        it.is_default || has_door || it.name.as_str().contains('.')
    };
    for registry in registries.iter().filter(|registry| !is_reached(registry)) {
        resolver.warn_in_general(format!(
            "`{}` can be no prefix, and has no `prefix` and no `hosts`: only clients that send \
             `ns={0}` reach it",
            registry.name
        ));
    }
}

/// Reports listeners that ask for passwords that no client can have.
fn check_logins(
    listeners: &[ListenerSettings],
    registries: &[RegistryOptions],
    resolver: &mut Resolver<'_>,
) {
    let has_logins = registries.iter().any(takes_logins);
    for listener in listeners.iter().filter(|listener| asks_for_passwords(listener)) {
        if listener.access.htpasswd.is_none() && !has_logins {
            let fault = ValueFault::new(format!(
                "clients are asked for a password on `{}`, but no client has one",
                listener.address
            ));
            let hint = "set `htpasswd`, or `identity = \"client\"` of a registry";
            resolver.report_missing(fault.hint(hint));
        }
    }
}

/// Reports rules for registries that do not exist.
fn check_rules(registries: &[RegistryOptions], resolver: &mut Resolver<'_>) {
    for Located { value: name, at } in std::mem::take(&mut resolver.rule_registries) {
        let is_for = |registry: &RegistryOptions| {
            let pattern = registry.pattern.as_ref();
            pattern.map_or(registry.name == name, |pattern| pattern.matches(&name))
        };
        if registries.iter().any(is_for) {
            continue;
        }
        let fault = ValueFault::new(format!("a rule is for `{name}`, which is no registry here"));
        let by_alias = registries.iter().find(|registry| registry.aliases.contains(&name));
        let known: Vec<_> = registries.iter().map(RegistryOptions::key).collect();
        let hint = match by_alias {
            Some(registry) => format!("it is another name of `{}`", registry.name),
            None => format!("known here: `{}`", known.join("`, `")),
        };
        resolver.report(&at, fault.hint(hint));
    }
}

/// A client's credential belongs to the host that it was presented at, so that host can mean one
/// registry only.
fn check_hosts(registries: &[RegistryOptions], resolver: &mut Resolver<'_>) {
    let has_no_host = |it: &&RegistryOptions| takes_logins(it) && it.hosts.is_empty();
    let names: Vec<_> = registries.iter().filter(has_no_host).map(|it| it.name.as_str()).collect();
    if names.len() > 1 {
        let fault = ValueFault::new(format!(
            "at one host, credentials of clients can be for one registry only, not for `{}`",
            names.join("` and `")
        ));
        let hint = "give all of them but one `hosts` of their own, where they alone are served";
        resolver.report_missing(fault.hint(hint));
    }
}

fn asks_for_passwords(listener: &ListenerSettings) -> bool {
    listener.access.options.challenge == ChallengePolicy::Basic
}

fn takes_logins(registry: &RegistryOptions) -> bool {
    matches!(registry.identity, AskedAs::Client(_))
}
