//! `identity`, `grant_ttl`, `grant_grace` and `cache_status`: with whose identity a registry is asked.

use std::time::Duration;

use toml::Spanned;

use super::access::one_of;
use super::diagnostics::ValueFault;
use super::quantity::ZeroRule;
use super::resolver::Resolver;
use super::written::RegistryTable;
use crate::registry;
use crate::registry::{AskedAs, GrantPolicy};

/// With whose identity, and whether answers say how they came about. Takes what concerns it out of
/// `written`, of which `offline` is still there.
pub(super) fn resolve(written: &mut RegistryTable, resolver: &mut Resolver<'_>) -> (AskedAs, bool) {
    let (ttl, grace) = (written.grant_ttl.take(), written.grant_grace.take());
    let is_client = resolver.given(written.identity.as_ref(), |text| one_of(text, IDENTITIES));
    let policy = GrantPolicy {
        ttl: resolver.duration(ttl.as_ref(), ZeroRule::Meaningful, GRANT_TTL),
        grace: resolver.duration(grace.as_ref(), ZeroRule::Meaningful, GRANT_GRACE),
    };
    let shown = written.cache_status.take().map(Spanned::into_inner);
    if is_client != Some(true) {
        for text in [&ttl, &grace].into_iter().flatten() {
            let fault = ValueFault::new("this means nothing where Larder itself is who asks");
            resolver.report(text.span(), fault.hint("set `identity = \"client\"`"));
        }
        return (AskedAs::Proxy, shown.unwrap_or(true));
    }
    refuse_offline(written, resolver);
    (AskedAs::Client(policy), shown.unwrap_or(false))
}

/// Nobody's right could be confirmed.
fn refuse_offline(written: &RegistryTable, resolver: &mut Resolver<'_>) {
    if let Some(offline) = written.offline.as_ref().filter(|offline| *offline.get_ref()) {
        let fault = ValueFault::new("with `identity = \"client\"` the registry has to be asked");
        resolver.report(offline.span(), fault.hint("take one of them out"));
    }
}

/// What is only known when the upstreams are.
pub(super) fn check(
    identity: AskedAs,
    written: Option<&Spanned<String>>,
    (upstream, mirrors): (&crate::upstream::UpstreamOptions, &[crate::upstream::UpstreamOptions]),
    resolver: &mut Resolver<'_>,
) {
    let (AskedAs::Client(_), Some(written)) = (identity, written) else { return };
    if !mirrors.is_empty() {
        let fault =
            ValueFault::new("a client's credential is for one upstream, and there are several");
        resolver.report(written.span(), fault.hint("keep one `upstream`"));
    }
    let is_credential = !matches!(upstream.credential, crate::upstream::ProxyCredential::Anonymous);
    if is_credential {
        let fault =
            ValueFault::new("with `identity = \"client\"` Larder has no credential of its own");
        resolver.report(written.span(), fault.hint("leave `auth` out"));
    }
    if upstream.url.scheme() == "http" {
        resolver.warnings.push(format!(
            "passwords of clients are sent to {} without encryption, because its URL begins with \
             http://",
            upstream.url.host_str().unwrap_or_default()
        ));
    }
}

/// A client's credential belongs to the host that it was presented at, so that host can mean one
/// registry only.
pub(super) fn check_all(registries: &[registry::RegistryOptions], resolver: &mut Resolver<'_>) {
    let is_nowhere = |it: &&registry::RegistryOptions| {
        matches!(it.identity, AskedAs::Client(_)) && it.hosts.is_empty()
    };
    let names: Vec<_> = registries.iter().filter(is_nowhere).map(|it| it.name.as_str()).collect();
    if names.len() > 1 {
        let fault = ValueFault::new(format!(
            "at one host, credentials of clients can be for one registry only, not for `{}`",
            names.join("` and `")
        ));
        let hint = "give all of them but one `hosts` of their own, where they alone are served";
        resolver.report_missing(fault.hint(hint));
    }
}

const IDENTITIES: &[(&str, bool)] = &[("proxy", false), ("client", true)];

/// Who loses a right at the registry loses it here no later than this.
pub(super) const GRANT_TTL: Duration = Duration::from_secs(5 * 60);

/// Long enough for an outage of the usual kind to pass unnoticed.
pub(super) const GRANT_GRACE: Duration = Duration::from_secs(3600);
