//! `listen` and `[[listener]]`: where clients are served, and how.
//!
//! TLS is in `tls.rs`, the rights of clients are in `access.rs`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::access::{self, AccessSettings};
use super::diagnostics::ValueFault;
use super::keys::{FileTable, ListenerTable};
use super::reader::{KeyLocation, Located};
use super::resolver::Resolver;
use super::tls::{self, TlsSettings};
use super::values::{AdminAddress, OneOrMany, address};
use crate::http::HostPort;
use crate::registry::{Door, OpenDoors};

/// One address at which clients are served.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The address.
    pub address: SocketAddr,
    /// The hosts that it answers to; any if there are none.
    pub names: Vec<HostPort>,
    /// The ways in which registries can be named there.
    pub doors: OpenDoors,
    /// How TLS is spoken; `None` for plain HTTP.
    pub tls: Option<TlsSettings>,
    /// The rights of clients.
    pub access: AccessSettings,
}

/// The share of one client, and its patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Silence in both directions after which a connection is closed.
    pub stall: Duration,
    /// How many connections; `None`: any number.
    pub connections: Option<NonZeroUsize>,
}

/// Every address on which clients are served; at least one, none twice.
pub(super) fn resolve(
    written: &mut FileTable,
    resolver: &mut Resolver<'_>,
) -> Vec<ListenerSettings> {
    let Some(listeners) = written.listener.take() else { return shorthand(written, resolver) };
    let shorthands = [
        ("listen", Some(&written.listen.at).filter(|_| written.listen.is_given())),
        ("[tls]", written.tls.as_ref().map(|tls| &tls.at)),
        ("[access]", written.access.as_ref().map(|access| &access.at)),
    ];
    for (key, at) in shorthands {
        let fault = ValueFault::new(format!("`{key}` and `[[listener]]` are both given"));
        let hint = "`listen`, `[tls]` and `[access]` are short for one `[[listener]]`; keep one \
                    of the two ways";
        if let Some(at) = at {
            resolver.report(at, fault.hint(hint));
        }
    }
    let mut taken = Vec::new();
    let listeners = listeners.value.into_iter();
    listeners.filter_map(|written| listener(written.value, &mut taken, resolver)).collect()
}

fn shorthand(written: &FileTable, resolver: &mut Resolver<'_>) -> Vec<ListenerSettings> {
    let tls = written.tls.as_ref().and_then(|written| tls::resolve(written, resolver));
    let addresses = listen_addresses(&written.listen, resolver);
    let access = access::resolve(written.access.as_ref(), &addresses, tls.as_ref(), resolver);
    let listener = |address| ListenerSettings {
        address,
        names: Vec::new(),
        doors: OpenDoors::all(),
        tls: tls.clone(),
        access: access.clone(),
    };
    addresses.into_iter().map(listener).collect()
}

fn listener(
    written: ListenerTable,
    taken: &mut Vec<SocketAddr>,
    resolver: &mut Resolver<'_>,
) -> Option<ListenerSettings> {
    let doors = doors(written.doors, resolver);
    let tls = written.tls.as_ref().and_then(|tls| tls::resolve(tls, resolver));
    let address = written.address.value;
    take(address, &written.address.at, taken, resolver);
    let access = access::resolve(written.access.as_ref(), &[address], tls.as_ref(), resolver);
    // Without its TLS it would be another listener, but then something was reported anyway.
    let is_whole = tls.is_some() == written.tls.is_some();
    is_whole.then_some(ListenerSettings { address, names: written.names, doors, tls, access })
}

fn doors(written: Option<Located<Vec<Door>>>, resolver: &mut Resolver<'_>) -> OpenDoors {
    let Some(written) = written else { return OpenDoors::all() };
    if written.value.is_empty() {
        let fault = ValueFault::new("without doors no request gets in");
        resolver.report(&written.at, fault.hint("leave the key out for all of them"));
    }
    written.value.into_iter().collect()
}

fn listen_addresses(
    written: &Located<OneOrMany<String>>,
    resolver: &mut Resolver<'_>,
) -> Vec<SocketAddr> {
    let items = &written.value.0;
    if items.is_empty() {
        let fault = ValueFault::new("there is no address to listen on");
        resolver.report(&written.at, fault.hint("leave the key out for the default"));
    }
    let mut addresses = Vec::new();
    for item in items {
        for text in item.value.split(',') {
            if let Some(address) = resolver.accept(&item.at, address(text.trim())) {
                take(address, &item.at, &mut addresses, resolver);
            }
        }
    }
    addresses
}

/// Adds an address, or reports that it is there already.
fn take(
    address: SocketAddr,
    at: &KeyLocation,
    taken: &mut Vec<SocketAddr>,
    resolver: &mut Resolver<'_>,
) {
    match taken.iter().find(|other| overlap(&address, other)) {
        Some(other) if *other == address => {
            resolver.report(at, ValueFault::new(format!("`{address}` is listed twice")));
        }
        Some(other) => {
            let fault = ValueFault::new(format!("`{address}` and `{other}` overlap"));
            let hint = "keep the wider one: `[::]` stands for all addresses, those of IPv4 too, \
                        and `0.0.0.0` for all of IPv4";
            resolver.report(at, fault.hint(hint));
        }
        None => {}
    }
    taken.push(address);
}

/// Whether one of two listeners could not be opened beside the other.
pub(super) fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let covers = |wide: &SocketAddr, other: &SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || other.ip().to_canonical().is_ipv4())
    };
    one.port() != 0
        && one.port() == other.port()
        && (one == other || covers(one, other) || covers(other, one))
}

/// The address of health checks and metrics, on which no clients may be served.
pub(super) fn admin(
    written: &Located<AdminAddress>,
    listeners: &[ListenerSettings],
    resolver: &mut Resolver<'_>,
) -> Option<SocketAddr> {
    let address = written.value.0?;
    let is_taken = listeners.iter().any(|listener| overlap(&listener.address, &address));
    if written.is_given() && is_taken {
        let fault = ValueFault::new(format!("clients are served on `{address}`"));
        resolver.report(&written.at, fault.hint("give the admin side an address of its own"));
    }
    Some(address)
}
