//! `identity`, `grant_ttl` and `grant_grace`: the identity with which a registry is asked.

use super::diagnostics::ValueFault;
use super::registry_keys::RegistryTable;
use super::resolver::Resolver;
use super::upstreams::ResolvedUpstreams;
use super::values::IdentityKind;
use crate::registry::{AskedAs, GrantPolicy};
use crate::upstream::ProxyCredential;

/// The identity, without a look at the upstreams.
pub(super) fn resolve(written: &RegistryTable, resolver: &mut Resolver<'_>) -> AskedAs {
    let RegistryTable { identity, grant_ttl, grant_grace, offline, .. } = written;
    if identity.value == IdentityKind::Proxy {
        for key in [grant_ttl, grant_grace].into_iter().filter(|key| key.is_given()) {
            let fault = ValueFault::new("this means nothing where Larder itself logs in");
            resolver.report(&key.at, fault.hint("set `identity = \"client\"`"));
        }
        return AskedAs::Proxy;
    }
    // No client's right could be confirmed.
    if offline.value {
        let fault = ValueFault::new("with `identity = \"client\"` the registry has to be asked");
        resolver.report(&offline.at, fault.hint("take one of them out"));
    }
    AskedAs::Client(GrantPolicy { ttl: grant_ttl.value, grace: grant_grace.value })
}

/// Checks that the credentials of clients have one upstream to go to.
pub(super) fn check_upstreams(
    written: &RegistryTable,
    upstreams: &ResolvedUpstreams,
    resolver: &mut Resolver<'_>,
) {
    let identity = &written.identity;
    if identity.value == IdentityKind::Proxy {
        return;
    }
    if !upstreams.mirrors.is_empty() {
        let fault =
            ValueFault::new("a client's credential is for one upstream, and there are several");
        resolver.report(&identity.at, fault.hint("keep one `upstream`"));
    }
    let upstream = &upstreams.authoritative;
    let is_anonymous = matches!(upstream.credential, ProxyCredential::Anonymous);
    if !is_anonymous || !upstream.further_logins.is_empty() {
        let fault =
            ValueFault::new("with `identity = \"client\"` Larder has no credential of its own");
        resolver.report(&identity.at, fault.hint("leave `auth` out"));
    }
    if upstream.url.scheme() == "http" {
        resolver.warn_in_general(format!(
            "passwords of clients are sent to {} without encryption, because its URL begins with \
             http://",
            upstream.url.host_str().unwrap_or_default()
        ));
    }
}
