//! The facts that every client is told: the address of Larder, and the registries behind it.

use std::fmt;

use url::{Host, Url};

use crate::oci::RegistryName;

/// The address at which clients reach Larder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LarderAddress {
    /// Whether it speaks TLS there.
    pub is_tls: bool,
    /// `host:port`, or `host` at the scheme's port.
    pub authority: String,
}

/// Why a text is no address of Larder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not http://HOST:PORT or https://HOST")]
pub struct InvalidAddress;

impl std::str::FromStr for LarderAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let url = Url::parse(text).map_err(|_| InvalidAddress)?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let has_login = !url.username().is_empty() || url.password().is_some();
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidAddress)?;
        if !is_bare || has_login || !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidAddress);
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self { is_tls: url.scheme() == "https", authority: format!("{host}{port}") })
    }
}

impl fmt::Display for LarderAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl LarderAddress {
    /// Whether it is on the client's own machine.
    pub(super) fn is_loopback(&self) -> bool {
        let url = Url::parse(&self.to_string());
        match url.as_ref().ok().and_then(Url::host) {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }
}

/// The registries that clients are to pull through a Larder.
#[derive(Clone, Debug)]
pub struct MirrorTargets {
    /// Larder.
    pub larder: LarderAddress,
    /// The registries, by the names that clients know them by.
    pub registries: Vec<RegistryName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for (text, want, is_loopback) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", true),
            ("https://Larder.corp/", "https://larder.corp", false),
            ("http://[::1]:5000", "http://[::1]:5000", true),
            ("http://localhost:5000", "http://localhost:5000", true),
        ] {
            let address: LarderAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (want, is_loopback));
        }
        for bad in [
            "larder.corp:5000",
            "ftp://larder.corp",
            "http://larder.corp/v2/",
            "http://ann:pw@larder.corp",
            "http://larder.corp?a",
            "http://",
            "",
        ] {
            assert_eq!(bad.parse::<LarderAddress>(), Err(InvalidAddress), "{bad}");
        }
    }
}
