//! Registries whose name is a pattern: which keys mean something to them.

use super::diagnostics::ValueFault;
use super::reader::KeyLocation;
use super::registry_keys::RegistryTable;
use super::resolver::Resolver;
use super::values::IdentityKind;
use crate::upstream::UpstreamOptions;

/// Reports the keys of `table`, which stands at `at`, that need the name of one registry.
pub(super) fn check(
    table: &RegistryTable,
    at: &KeyLocation,
    is_pattern: bool,
    resolver: &mut Resolver<'_>,
) {
    if !is_pattern {
        if let Some(private) = &table.private_hosts {
            let fault = ValueFault::new("this is for an entry whose name is a pattern");
            let hint = "the host of one registry may have any address";
            resolver.report(&private.at, fault.hint(hint));
        }
        return;
    }
    let given = [
        ("upstream", table.upstream.is_some()),
        ("default", table.default.is_some()),
        ("aliases", table.aliases.is_some()),
        ("prefix", table.prefix.is_some()),
        ("hosts", !table.hosts.is_empty()),
        ("max_size", table.max_size.0.is_some()),
        ("max_idle", table.max_idle.is_some()),
        ("identity", table.identity.value != IdentityKind::Proxy),
    ];
    for (key, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
        let fault = ValueFault::new(format!("`{key}` is for one registry, and this is a pattern"));
        let hint = "give the registry that needs it an entry of its own; it comes first";
        resolver.report(at, fault.hint(hint));
    }
}

/// Clients choose the hosts that a pattern matches, so those must be public.
pub(super) fn limit_hosts(table: &RegistryTable, upstream: &mut UpstreamOptions) {
    let may_be_private = table.private_hosts.as_ref().is_some_and(|private| private.value);
    upstream.must_be_public = !may_be_private;
}
