//! The client of a request, as far as events name it.

use std::net::IpAddr;

use crate::access::{Issuer, Principal};

/// The client of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventClient {
    /// Its address; over IPv6 the first one of its network of 64 bits.
    pub address: IpAddr,
    /// The name that it has logged in by, or that its certificate stands for. `None` if it is
    /// anonymous, was not asked yet, or sends a credential of its own for an upstream: that name is
    /// between the two, and only the upstream can verify it.
    pub user: Option<Box<str>>,
}

impl EventClient {
    /// The client at an address, before it has been identified.
    pub(super) fn at(address: IpAddr) -> Self {
        Self { address, user: None }
    }

    /// Notes who the client is.
    pub(super) fn identify(&mut self, principal: &Principal) {
        if matches!(principal.issuer, Issuer::Certificate | Issuer::Htpasswd) {
            self.user = Some(principal.subject.as_str().into());
        }
    }
}
