//! A host and a port, as an origin or a line in a list of allowed hosts has them.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// A host in its one spelling (lower case, IDNA, no trailing dot), and a port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address.
    pub host: Host,
    /// `None` where a list entry leaves it open: any port of the host is meant.
    pub port: Option<u16>,
}

impl HostPort {
    /// The host and port that `url` would be fetched from; `None` for URLs without a host.
    pub fn of(url: &Url) -> Option<Self> {
        let host = match url.host()? {
            Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
            Host::Ipv4(address) => Host::Ipv4(address),
            Host::Ipv6(address) => Host::Ipv6(address),
        };
        Some(Self { host, port: url.port_or_known_default() })
    }

    /// Whether `other`, which has a port, is meant by this entry.
    pub fn covers(&self, other: &Self) -> bool {
        self.host == other.host && (self.port.is_none() || self.port == other.port)
    }
}

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A scheme whose default port cannot be written by accident keeps `:443` and `:80` apart.
        let url = Url::parse(&format!("ftp://{text}/")).map_err(|_| InvalidHostPort)?;
        let is_bare = url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare {
            return Err(InvalidHostPort);
        }
        let mut this = Self::of(&url).ok_or(InvalidHostPort)?;
        this.port = url.port().or_else(|| text.ends_with(":21").then_some(21));
        Ok(this)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl fmt::Debug for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `host` or `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not `host` or `host:port`")]
pub struct InvalidHostPort;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_a_port_covers_every_port_of_its_host() {
        let origin = HostPort::of(&Url::parse("https://Registry.Corp./v2/").unwrap()).unwrap();
        assert_eq!(origin.to_string(), "registry.corp:443");
        for covering in ["registry.corp", "REGISTRY.corp:443"] {
            assert!(covering.parse::<HostPort>().unwrap().covers(&origin), "{covering}");
        }
        for other in ["registry.corp:80", "registry.corp.evil", "corp", "127.0.0.1", "[::1]:443"] {
            assert!(!other.parse::<HostPort>().unwrap().covers(&origin), "{other}");
        }
        for bad in ["", "a/b", "u@a", "http://a", "a:x", "a?b", "a b"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad:?}");
        }
    }
}
