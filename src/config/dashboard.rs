//! `dashboard`: the address of the page for operators, and the users who may look at it.

use std::net::SocketAddr;

use super::access::{self, AccessSettings};
use super::diagnostics::ValueFault;
use super::keys::{DashboardTable, FileTable};
use super::listeners::{self, ListenerSettings};
use super::resolver::Resolver;
use crate::access::{AccessOptions, ChallengePolicy, HtpasswdUsers};
use crate::http::HostPort;

/// The address of the page, and the users who may look at it.
#[derive(Clone, Debug, Default)]
pub struct DashboardSettings {
    /// The address, if it has one.
    pub address: Option<SocketAddr>,
    /// The hosts by which browsers may ask for it, beside addresses and `localhost`.
    pub names: Vec<HostPort>,
    /// The users; everybody if there is no file of them.
    pub access: AccessSettings,
}

/// The meaning of `[dashboard]` beside these listeners and the admin address.
pub(super) fn resolve(
    file: &FileTable,
    listeners: &[ListenerSettings],
    resolver: &mut Resolver<'_>,
) -> DashboardSettings {
    let written = &file.dashboard;
    let address = written.listen.value.0;
    let taken = listeners.iter().map(|listener| Some(listener.address));
    let mut taken = taken.chain([file.admin_listen.value.0]).flatten();
    let clash = address.and_then(|it| taken.find(|other| listeners::overlap(other, &it)));
    if let Some(other) = clash.filter(|_| written.listen.is_given()) {
        let fault = ValueFault::new(format!("`{other}` is an address of Larder already"));
        resolver.report(&written.listen.at, fault.hint("give the page an address of its own"));
    }
    check_guard(written, resolver);
    let users = written.htpasswd.as_ref().and_then(|path| access::users(path, resolver));
    let htpasswd = written.htpasswd.as_ref().and_then(|path| resolver.path(&path.value).ok());
    let options = AccessOptions {
        challenge: ChallengePolicy::Basic,
        htpasswd: users.map(HtpasswdUsers::new),
        ..AccessOptions::default()
    };
    DashboardSettings {
        address,
        names: written.names.clone(),
        access: AccessSettings { options, htpasswd },
    }
}

/// Beyond this machine a password is asked for, and belongs to everyone on a network that it
/// crosses in the clear.
fn check_guard(written: &DashboardTable, resolver: &mut Resolver<'_>) {
    let address = written.listen.value.0;
    let Some(address) = address.filter(|it| !it.ip().to_canonical().is_loopback()) else { return };
    let (fault, hint) = match &written.htpasswd {
        None => (
            format!("the page at `{address}` would be open to everybody"),
            "it names what is pulled: set `htpasswd` to a file of users, or listen on 127.0.0.1",
        ),
        Some(_) if !written.insecure_basic.0 => (
            format!("passwords would come to `{address}` without encryption"),
            "set `insecure_basic = true` if something in front of it has TLS",
        ),
        Some(_) => return,
    };
    resolver.report(&written.listen.at, ValueFault::new(fault).hint(hint));
}
