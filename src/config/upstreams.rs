//! `upstream`: how a registry is reached.
//!
//! Only what is written is judged here. Whether anything answers there is found out when the first
//! client asks.

use toml::Spanned;
use url::Url;

use super::diagnostics::{ValueFault, quoted};
use super::resolver::Resolver;
use super::written::{OneOrMany, RegistryTable, Text, UpstreamEntry, UpstreamTable};
use super::{credential, defaults, upstream_url};
use crate::http::{ClientIdentity, HostPort, TrustError, check_ca, client_config};
use crate::upstream::{ProxyCredential, UpstreamOptions};

/// The upstreams of a registry: the mirrors, in order, and the authoritative one, which is the last
/// of the list. Takes what concerns them out of `registry`; `default` is the URL when none is
/// written.
pub(super) fn resolve(
    registry: &mut RegistryTable,
    default: &Url,
    resolver: &mut Resolver<'_>,
) -> (Vec<UpstreamOptions>, UpstreamOptions) {
    let mut tables = tables(registry.upstream.take(), resolver);
    let last = tables.pop().unwrap_or_default();
    let max_connections = max_connections(registry.max_connections.take(), resolver);
    // What is written for the registry is the authoritative upstream's alone.
    let mut none = RegistryTable::default();
    let mirrors = tables
        .into_iter()
        .map(|table| one(table, &mut none, default, max_connections, resolver))
        .collect();
    let authoritative = one(last, registry, default, max_connections, resolver);
    (mirrors, authoritative)
}

fn one(
    table: UpstreamTable,
    registry: &mut RegistryTable,
    default: &Url,
    max_connections: usize,
    resolver: &mut Resolver<'_>,
) -> UpstreamOptions {
    let url = table.url.and_then(|text| resolver.given(Some(&text), upstream_url::parse));
    let auth = either(registry.auth.take(), table.auth, "auth", resolver);
    let ca = either(registry.ca.take(), table.ca, "ca", resolver);
    let cert = either(registry.client_cert.take(), table.client_cert, "client_cert", resolver);
    let key = either(registry.client_key.take(), table.client_key, "client_key", resolver);
    let token = either(registry.token_hosts.take(), table.token_hosts, "token_hosts", resolver);
    let redirect =
        either(registry.redirect_hosts.take(), table.redirect_hosts, "redirect_hosts", resolver);
    let this = UpstreamOptions {
        url: url.unwrap_or_else(|| default.clone()),
        credential: credential::resolve(auth, resolver),
        ca_pem: ca.and_then(|ca| ca_pem(&ca, resolver)),
        client_identity: identity(cert, key, resolver),
        token_hosts: resolver.list(token, host),
        redirect_hosts: resolver.list(redirect, host),
        max_connections,
    };
    let is_plain = this.url.scheme() == "http";
    if is_plain && matches!(this.credential, ProxyCredential::Basic { .. }) {
        resolver.warnings.push(format!(
            "the password for {} is sent without encryption, because its URL begins with http://",
            this.url.host_str().unwrap_or_default()
        ));
    }
    this
}

/// The entries of `upstream`, each with its URL in the table even if it was written alone.
fn tables(
    written: Option<Spanned<OneOrMany<UpstreamEntry>>>,
    resolver: &mut Resolver<'_>,
) -> Vec<UpstreamTable> {
    let Some(written) = written else { return Vec::new() };
    let whole = written.span();
    let items = OneOrMany::into_items(written);
    if items.is_empty() {
        let fault = ValueFault::new("the list of upstreams is empty");
        resolver.report(whole, fault.hint("leave the key out for the default"));
    } else if items.len() > UPSTREAMS_MAX {
        let fault = ValueFault::new(format!("there are more than {UPSTREAMS_MAX} upstreams"));
        resolver.report(whole, fault.hint("leave out those that are rarely of use"));
    }
    items.into_iter().map(|item| table(item, resolver)).collect()
}

fn table(item: Spanned<UpstreamEntry>, resolver: &mut Resolver<'_>) -> UpstreamTable {
    let span = item.span();
    match item.into_inner() {
        UpstreamEntry::Table(table) => {
            if table.url.is_none() {
                resolver.report(span, ValueFault::new("the upstream has no `url`"));
            }
            *table
        }
        UpstreamEntry::Url(url) => {
            UpstreamTable { url: Some(Spanned::new(span, url)), ..UpstreamTable::default() }
        }
    }
}

/// A key that may stand in the registry's table or in the upstream's.
fn either<T>(
    of_registry: Option<Spanned<T>>,
    of_upstream: Option<Spanned<T>>,
    key: &str,
    resolver: &mut Resolver<'_>,
) -> Option<Spanned<T>> {
    if let (Some(_), Some(second)) = (&of_registry, &of_upstream) {
        let fault =
            ValueFault::new(format!("`{key}` is given for the registry and for its upstream"));
        resolver.report(second.span(), fault.hint("keep one of them"));
    }
    of_upstream.or(of_registry)
}

/// `host` or `host:port`, as it stands in a list of hosts.
pub(super) fn host(text: &str) -> Result<HostPort, ValueFault> {
    let fault = || {
        ValueFault::new(format!("{} is not a host", quoted(text)))
            .hint("write `host` or `host:port`, without a scheme and without patterns")
    };
    // A URL parser lets these through, or drops them.
    if text.contains(|c: char| c == '*' || c.is_whitespace() || c.is_control()) {
        return Err(fault());
    }
    text.parse().map_err(|_| fault())
}

fn ca_pem(path: &Text, resolver: &mut Resolver<'_>) -> Option<Vec<u8>> {
    let pem = resolver.file(path, CA_LEN_MAX, false)?;
    let Err(error) = check_ca(&pem) else { return Some(pem) };
    let fault = ValueFault::new(format!("this file cannot be trusted: {error}"))
        .hint("it needs one or more `-----BEGIN CERTIFICATE-----` blocks");
    resolver.report(path.span(), fault);
    None
}

/// The certificate to show, if both it and its key are given.
fn identity(
    cert: Option<Text>,
    key: Option<Text>,
    resolver: &mut Resolver<'_>,
) -> Option<ClientIdentity> {
    let (cert, key) = match (cert, key) {
        (None, None) => return None,
        (Some(cert), Some(key)) => (cert, key),
        (Some(alone), None) => {
            let fault = ValueFault::new("`client_cert` has no `client_key`");
            resolver.report(alone.span(), fault.hint("give both, or neither"));
            return None;
        }
        (None, Some(alone)) => {
            let fault = ValueFault::new("`client_key` has no `client_cert`");
            resolver.report(alone.span(), fault.hint("give both, or neither"));
            return None;
        }
    };
    let cert_pem = resolver.file(&cert, CA_LEN_MAX, false)?;
    let key_pem = resolver.file(&key, CA_LEN_MAX, true)?.into();
    let identity = ClientIdentity { cert_pem, key_pem };
    let Err(error) = client_config(None, Some(&identity), false) else { return Some(identity) };
    let is_of_key = matches!(error, TrustError::NoKey | TrustError::Key(_));
    let span = if is_of_key { key.span() } else { cert.span() };
    resolver.report(span, ValueFault::new(format!("this file cannot be used: {error}")));
    None
}

fn max_connections(written: Option<Spanned<i64>>, resolver: &mut Resolver<'_>) -> usize {
    let Some(written) = written else { return defaults::MAX_CONNECTIONS };
    let number = usize::try_from(*written.get_ref())
        .ok()
        .filter(|number| (1..=MAX_CONNECTIONS_MAX).contains(number))
        .ok_or_else(|| ValueFault::new(format!("it must be from 1 to {MAX_CONNECTIONS_MAX}")));
    resolver.accept(written.span(), number).unwrap_or(defaults::MAX_CONNECTIONS)
}

/// They share the time in which clients want an answer: 25 s.
const UPSTREAMS_MAX: usize = 8;

/// One address has no more ports towards another.
const MAX_CONNECTIONS_MAX: usize = 65_535;

/// A bundle of all public CAs has about 250 KiB.
const CA_LEN_MAX: u64 = 1 << 20;
