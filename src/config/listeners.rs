//! `listen`, `[tls]` and `[[listener]]`: where clients are served, and how. What `access` says is in
//! `access.rs`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::access::{self, AccessSettings};
use super::defaults;
use super::diagnostics::{Diagnostic, SourcePlace, ValueFault, quoted};
use super::file::ConfigFile;
use super::quantity::ZeroRule;
use super::resolver::Resolver;
use super::upstreams::host;
use super::written;
use super::written::{CountValue, OneOrMany, Text};
use crate::http::{ClientCa, HostPort, IdentityError, ServerCertificate, check_ca};
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
    /// Who is let in, and to what.
    pub access: AccessSettings,
}

/// How TLS is spoken with clients.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The file with the certificate and its chain.
    pub cert: PathBuf,
    /// The file with the certificate's key.
    pub key: PathBuf,
    /// What was in them.
    pub identity: ServerCertificate,
    /// Whose certificates clients may show; `None` if they are not asked for one.
    pub clients: Option<ClientCa>,
}

impl TlsSettings {
    /// What is in the files now. They may be changing while they are read.
    pub fn read_again(&self) -> Result<ServerCertificate, Diagnostic> {
        let at = |path: &Path| SourcePlace::WholeFile(path.to_owned());
        let read = |path| {
            ConfigFile::read_present(path, PEM_LEN_MAX).map_err(|fault| fault.at(at(path), None))
        };
        let (cert, key) = (read(&self.cert)?, read(&self.key)?);
        ServerCertificate::from_pem(&cert.bytes, &key.bytes).map_err(|error| {
            let path = if error.is_of_key() { &self.key } else { &self.cert };
            fault_of(&error).at(at(path), None)
        })
    }
}

/// Where operators are answered; an empty text stands for nowhere.
pub(super) fn admin(
    written: Option<&Text>,
    listeners: &[ListenerSettings],
    resolver: &mut Resolver<'_>,
) -> Option<SocketAddr> {
    let Some(text) = written else {
        return Some(defaults::ADMIN_LISTEN);
    };
    if text.get_ref().is_empty() {
        return None;
    }
    let address = resolver.given(Some(text), address)?;
    if address.port() != 0 && listeners.iter().any(|listener| listener.address == address) {
        let fault = ValueFault::new(format!("clients are served on `{address}`"));
        resolver.report(text.span(), fault.hint("give the admin side an address of its own"));
    }
    Some(address)
}

/// What one client may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// After how much silence in both directions a connection is cut.
    pub stall: Duration,
    /// How many connections; `None`: any number.
    pub connections: Option<NonZeroUsize>,
}

/// What is written of it.
pub(super) fn client_limits(
    stall: Option<&Text>,
    connections: Option<&Spanned<CountValue>>,
    resolver: &mut Resolver<'_>,
) -> ClientLimits {
    let number = connections.map_or(Some(defaults::CONNECTIONS_PER_CLIENT), |written| {
        let number = written.get_ref().0.and_then(|number| usize::try_from(number).ok());
        let fault = || ValueFault::new("it must be a number, from 1 on, or 0 for any number");
        resolver.accept(written.span(), number.ok_or_else(fault))
    });
    ClientLimits {
        stall: resolver.duration(stall, ZeroRule::Rejected, defaults::CLIENT_STALL),
        connections: number.and_then(NonZeroUsize::new),
    }
}

/// Every address; at least one, none twice.
pub(super) fn resolve(
    listen: Option<Spanned<OneOrMany<String>>>,
    tls: Option<Spanned<written::TlsTable>>,
    access: Option<Spanned<written::AccessTable>>,
    listeners: Vec<Spanned<written::ListenerTable>>,
    resolver: &mut Resolver<'_>,
) -> Vec<ListenerSettings> {
    let mut addresses = Vec::new();
    if listeners.is_empty() {
        return shorthand(listen, tls, access, resolver);
    }
    let spans = [
        listen.map(|it| ("listen", it.span())),
        tls.map(|it| ("[tls]", it.span())),
        access.map(|it| ("[access]", it.span())),
    ];
    for (key, span) in spans.into_iter().flatten() {
        let fault = ValueFault::new(format!("`{key}` and `[[listener]]` are both given"));
        let hint = "`listen`, `[tls]` and `[access]` are short for one `[[listener]]`; keep one of the two ways";
        resolver.report(span, fault.hint(hint));
    }
    let one = |listener| one(listener, &mut addresses, resolver);
    listeners.into_iter().filter_map(one).collect()
}

fn shorthand(
    listen: Option<Spanned<OneOrMany<String>>>,
    written: Option<Spanned<written::TlsTable>>,
    access: Option<Spanned<written::AccessTable>>,
    resolver: &mut Resolver<'_>,
) -> Vec<ListenerSettings> {
    let tls = written.and_then(|written| tls(written, resolver));
    let addresses = listen_addresses(listen, resolver);
    let access = access::resolve(access, &addresses, tls.as_ref(), resolver);
    let everything = |address| {
        let (names, doors, tls) = (Vec::new(), OpenDoors::all(), tls.clone());
        ListenerSettings { address, names, doors, tls, access: access.clone() }
    };
    addresses.into_iter().map(everything).collect()
}

fn one(
    written: Spanned<written::ListenerTable>,
    taken: &mut Vec<SocketAddr>,
    resolver: &mut Resolver<'_>,
) -> Option<ListenerSettings> {
    let span = written.span();
    let written = written.into_inner();
    let doors = doors(written.doors, resolver);
    let names = resolver.list(written.names, host);
    let has_tls = written.tls.is_some();
    let tls = written.tls.and_then(|written| tls(written, resolver));
    let Some(text) = &written.address else {
        resolver.report(span, ValueFault::new("the listener has no `address`"));
        return None;
    };
    let address = resolver.given(Some(text), address)?;
    claim(address, text.span(), taken, resolver);
    let access = access::resolve(written.access, &[address], tls.as_ref(), resolver);
    // Without its TLS it would be another listener, but then there is a problem anyway.
    (tls.is_some() == has_tls).then_some(ListenerSettings { address, names, doors, tls, access })
}

fn doors(written: Option<Spanned<Vec<Text>>>, resolver: &mut Resolver<'_>) -> OpenDoors {
    let Some(written) = written else { return OpenDoors::all() };
    if written.get_ref().is_empty() {
        let fault = ValueFault::new("without doors nobody gets in");
        resolver.report(written.span(), fault.hint("leave the key out for all of them"));
    }
    let door = |text: &str| {
        let found = Door::ALL.into_iter().find(|door| door.as_str() == text);
        let known = Door::ALL.map(Door::as_str).join("`, `");
        let fault = || ValueFault::new(format!("{} is not a door", quoted(text)));
        found.ok_or_else(|| fault().hint(format!("known here: `{known}`")))
    };
    resolver.list(Some(written), door).into_iter().collect()
}

fn listen_addresses(
    written: Option<Spanned<OneOrMany<String>>>,
    resolver: &mut Resolver<'_>,
) -> Vec<SocketAddr> {
    let Some(written) = written else { return vec![defaults::LISTEN] };
    let whole = written.span();
    let items = OneOrMany::into_items(written);
    if items.is_empty() {
        let fault = ValueFault::new("there is no address to listen on");
        resolver.report(whole, fault.hint("leave the key out for the default"));
    }
    let mut addresses = Vec::new();
    for item in items {
        for text in item.get_ref().split(',') {
            if let Some(address) = resolver.accept(item.span(), address(text.trim())) {
                claim(address, item.span(), &mut addresses, resolver);
            }
        }
    }
    addresses
}

/// Notes an address, or complains that it was noted before.
fn claim(
    address: SocketAddr,
    span: Range<usize>,
    taken: &mut Vec<SocketAddr>,
    resolver: &mut Resolver<'_>,
) {
    // Port 0 is another free port each time.
    if address.port() != 0 && taken.contains(&address) {
        resolver.report(span, ValueFault::new(format!("`{address}` is listed twice")));
    }
    taken.push(address);
}

fn address(text: &str) -> Result<SocketAddr, ValueFault> {
    text.parse().map_err(|_| {
        ValueFault::new(format!("{} is not an IP address with a port", quoted(text)))
            .hint("write `127.0.0.1:5000` for this machine, `0.0.0.0:5000` or `[::]:5000` for all")
    })
}

fn tls(written: Spanned<written::TlsTable>, resolver: &mut Resolver<'_>) -> Option<TlsSettings> {
    let span = written.span();
    let written = written.into_inner();
    let clients = clients(&written, resolver);
    let (Some(cert), Some(key)) = (&written.cert, &written.key) else {
        let missing = if written.cert.is_none() { "cert" } else { "key" };
        let fault = ValueFault::new(format!("TLS needs a `{missing}`"));
        resolver.report(span, fault.hint("`cert` and `key` name PEM files"));
        return None;
    };
    let cert_pem = resolver.file(cert, PEM_LEN_MAX, false);
    let key_pem = resolver.file(key, PEM_LEN_MAX, true);
    let identity = ServerCertificate::from_pem(&cert_pem?, &key_pem?).map_err(|error| {
        let span = if error.is_of_key() { key.span() } else { cert.span() };
        resolver.report(span, fault_of(&error));
    });
    Some(TlsSettings {
        cert: resolver.path(cert.get_ref()).ok()?,
        key: resolver.path(key.get_ref()).ok()?,
        identity: identity.ok()?,
        clients,
    })
}

fn clients(written: &written::TlsTable, resolver: &mut Resolver<'_>) -> Option<ClientCa> {
    let is_required = resolver.given(written.client_auth.as_ref(), |text| match text {
        "optional" => Ok(false),
        "required" => Ok(true),
        _ => Err(ValueFault::new(format!("{} is neither `optional` nor `required`", quoted(text)))),
    });
    let Some(ca) = &written.client_ca else {
        if let Some(auth) = &written.client_auth {
            let fault = ValueFault::new("`client_auth` is given without `client_ca`");
            resolver.report(auth.span(), fault.hint("say who signs the clients' certificates"));
        }
        return None;
    };
    let pem = resolver.file(ca, PEM_LEN_MAX, false)?;
    let good = check_ca(&pem)
        .map_err(|error| ValueFault::new(format!("this file cannot be trusted: {error}")));
    resolver.accept(ca.span(), good)?;
    Some(ClientCa { pem, is_required: is_required.unwrap_or(false) })
}

fn fault_of(error: &IdentityError) -> ValueFault {
    let fault = ValueFault::new(error.to_string());
    match error {
        IdentityError::EncryptedKey => {
            fault.hint("Larder cannot ask for a passphrase; `openssl pkey` removes it")
        }
        IdentityError::NoCertificate => fault
            .hint("it needs one or more `-----BEGIN CERTIFICATE-----` blocks, the own one first"),
        IdentityError::NoKey => fault.hint("it needs a `-----BEGIN PRIVATE KEY-----` block"),
        IdentityError::Mismatch => {
            fault.hint("the first certificate in `cert` must be the one made for `key`")
        }
        _ => fault,
    }
}

/// A chain has a few KiB, a bundle of all public CAs about 250.
const PEM_LEN_MAX: u64 = 1 << 20;
