//! `upstream`: how a registry is reached.
//!
//! Only what is written is judged here. Whether anything answers there is found out when the first
//! client asks.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use super::credential;
use super::diagnostics::ValueFault;
use super::reader::Located;
use super::registry_keys::{RegistryTable, UpstreamTable};
use super::resolver::Resolver;
use crate::http::{ClientIdentity, HostPort, TrustError, check_ca, client_config};
use crate::upstream::{LoginOptions, ProxyCredential, UpstreamOptions};

/// The upstreams of a registry.
pub(super) struct ResolvedUpstreams {
    /// Those that are asked first, in order.
    pub mirrors: Vec<UpstreamOptions>,
    /// The last of the list, which is the registry itself.
    pub authoritative: UpstreamOptions,
}

/// Takes what concerns upstreams out of `registry`; `default` is the URL when none is written.
pub(super) fn resolve(
    registry: &mut RegistryTable,
    default: Located<Url>,
    resolver: &mut Resolver<'_>,
) -> ResolvedUpstreams {
    let mut tables = registry.upstream.take().map(|list| list.0).unwrap_or_default();
    let mut last = tables.pop().unwrap_or_else(|| UpstreamTable::at(default));
    merge(registry, &mut last, resolver);
    let connections = registry.max_connections.0;
    ResolvedUpstreams {
        mirrors: tables.into_iter().map(|table| options(table, connections, resolver)).collect(),
        authoritative: options(last, connections, resolver),
    }
}

/// Moves the keys that may stand in the registry's table or in the upstream's to the latter.
fn merge(registry: &mut RegistryTable, upstream: &mut UpstreamTable, resolver: &mut Resolver<'_>) {
    either(&mut registry.auth, &mut upstream.auth, "auth", resolver);
    either(&mut registry.ca, &mut upstream.ca, "ca", resolver);
    either(&mut registry.client_cert, &mut upstream.client_cert, "client_cert", resolver);
    either(&mut registry.client_key, &mut upstream.client_key, "client_key", resolver);
    either(&mut registry.token_hosts, &mut upstream.token_hosts, "token_hosts", resolver);
    either(&mut registry.redirect_hosts, &mut upstream.redirect_hosts, "redirect_hosts", resolver);
    either(&mut registry.trace_context, &mut upstream.trace_context, "trace_context", resolver);
}

fn either<T>(
    of_registry: &mut Option<Located<T>>,
    of_upstream: &mut Option<Located<T>>,
    key: &str,
    resolver: &mut Resolver<'_>,
) {
    if let (Some(_), Some(second)) = (&of_registry, &of_upstream) {
        let fault =
            ValueFault::new(format!("`{key}` is given for the registry and for its upstream"));
        resolver.report(&second.at, fault.hint("keep one of them"));
    }
    *of_upstream = of_upstream.take().or_else(|| of_registry.take());
}

fn options(
    table: UpstreamTable,
    max_connections: usize,
    resolver: &mut Resolver<'_>,
) -> UpstreamOptions {
    refuse_loop(&table.url, resolver);
    let hosts = |list: Option<Located<Vec<HostPort>>>| list.map(|it| it.value).unwrap_or_default();
    let mut logins = credential::resolve(table.auth, &table.url.value, resolver).into_iter();
    let anonymous = LoginOptions { credential: ProxyCredential::Anonymous, password_file: None };
    let LoginOptions { credential, password_file } = logins.next().unwrap_or(anonymous);
    let options = UpstreamOptions {
        url: table.url.value,
        password_file,
        credential,
        further_logins: logins.collect(),
        ca_pem: table.ca.and_then(|ca| ca_pem(&ca, resolver)),
        must_be_public: false,
        client_identity: client_identity(table.client_cert, table.client_key, resolver),
        token_hosts: hosts(table.token_hosts),
        redirect_hosts: hosts(table.redirect_hosts),
        trace_context: table.trace_context.is_some_and(|it| it.value),
        max_connections,
    };
    let is_plain = options.url.scheme() == "http";
    let has_login = options
        .further_logins
        .iter()
        .map(|it| &it.credential)
        .chain([&options.credential])
        .any(|credential| !matches!(credential, ProxyCredential::Anonymous));
    if is_plain && has_login {
        resolver.warn_in_general(format!(
            "the credential for {} is sent without encryption, because its URL begins with http://",
            options.url.host_str().unwrap_or_default()
        ));
    }
    options
}

/// A request to an upstream that is Larder itself would come back for ever.
fn refuse_loop(url: &Located<Url>, resolver: &mut Resolver<'_>) {
    let own = resolver.own.iter().find(|(address, names)| leads_to(&url.value, *address, names));
    if let Some((address, _)) = own {
        let fault = ValueFault::new(format!(
            "this upstream is Larder itself, which listens on `{address}`"
        ));
        let hint = "write the URL of the registry; a second Larder needs another port";
        resolver.report(&url.at, fault.hint(hint));
    }
}

/// Whether a request to `url` would reach the listener at `address`, which has these names.
fn leads_to(url: &Url, address: SocketAddr, names: &[HostPort]) -> bool {
    let Some(target) = HostPort::of(url) else { return false };
    let ip = match &target.host {
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address)),
        Host::Domain(name) => (name == "localhost").then_some(IpAddr::from([127, 0, 0, 1])),
    };
    let is_own =
        |ip: IpAddr| address.ip() == ip || (address.ip().is_unspecified() && ip.is_loopback());
    target.port == Some(address.port())
        && (ip.is_some_and(is_own) || names.iter().any(|own| own.covers(&target)))
}

fn ca_pem(path: &Located<String>, resolver: &mut Resolver<'_>) -> Option<Vec<u8>> {
    let pem = resolver.file(path, PEM_LEN_MAX)?;
    let checked = check_ca(&pem).map_err(|error| {
        ValueFault::new(format!("this file cannot be trusted: {error}"))
            .hint("it needs one or more `-----BEGIN CERTIFICATE-----` blocks")
    });
    resolver.accept(&path.at, checked).map(|()| pem)
}

/// The certificate that is shown to the upstream, if both it and its key are given.
fn client_identity(
    cert: Option<Located<String>>,
    key: Option<Located<String>>,
    resolver: &mut Resolver<'_>,
) -> Option<ClientIdentity> {
    let mut alone = |at, what: &str| {
        resolver.report(at, ValueFault::new(what).hint("give both, or neither"));
        None
    };
    let (cert, key) = match (cert, key) {
        (None, None) => return None,
        (Some(cert), None) => return alone(&cert.at, "`client_cert` has no `client_key`"),
        (None, Some(key)) => return alone(&key.at, "`client_key` has no `client_cert`"),
        (Some(cert), Some(key)) => (cert, key),
    };
    let cert_pem = resolver.file(&cert, PEM_LEN_MAX)?;
    let key_pem = resolver.secret_file(&key, PEM_LEN_MAX)?.into();
    let identity = ClientIdentity { cert_pem, key_pem };
    let Err(error) = client_config(None, Some(&identity), false) else { return Some(identity) };
    let is_of_key = matches!(error, TrustError::NoKey | TrustError::Key(_));
    let at = if is_of_key { &key.at } else { &cert.at };
    resolver.report(at, ValueFault::new(format!("this file cannot be used: {error}")));
    None
}

/// A bundle of all public CAs has about 250 KiB.
const PEM_LEN_MAX: u64 = 1 << 20;
