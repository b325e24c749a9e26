//! The client of a pull, as far as events name it.

use std::net::IpAddr;

/// A client that has pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventClient {
    /// Its address; over IPv6 the first one of its network of 64 bits.
    pub address: IpAddr,
    /// The name that it has logged in by, or that its certificate stands for.
    pub user: Option<Box<str>>,
}

impl EventClient {
    /// The client at an address; without a name it is anonymous.
    pub(super) fn new(address: IpAddr, name: &str) -> Self {
        Self { address, user: Some(name).filter(|name| !name.is_empty()).map(Into::into) }
    }
}
