//! Names of registries and repositories.
//!
//! Both become directories on disk and parts of upstream URLs, so what is parsed here can hold
//! no separator, no dot-dot, no control character and no upper case.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A repository within a registry, as in `library/alpine`.
///
/// Grammar: distribution-spec, "Pulling manifests". Limit: [`RepositoryName::LEN_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName {
    /// Shared: a name is in the request's right, in its event, and in what is noted behind it.
    text: Arc<str>,
}

impl RepositoryName {
    /// The longest name, in bytes: many clients refuse more for host and name together.
    pub const LEN_MAX: usize = 255;

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The components between the slashes; at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.text.split('/')
    }

    /// This name under `parent`, as in `library` + `alpine`.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] when the two together are too long or `parent` is not a name.
    pub fn under(&self, parent: &str) -> Result<Self, InvalidName> {
        format!("{parent}/{self}").parse()
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::LEN_MAX {
            return Err(InvalidName::TooLong { got: text.len(), max: Self::LEN_MAX });
        }
        if text.is_empty() || !text.split('/').all(is_component) {
            return Err(InvalidName::Grammar);
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A registry, as in `docker.io` or `registry.corp:5000`.
///
/// A host name or IPv4 address in lower case with an optional port, or an IPv6 address in
/// brackets. The default port `:443` and one trailing dot are folded away, so that one registry
/// has one name. It is a key into the configuration, whose patterns alone make an address of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName {
    text: Box<str>,
}

impl RegistryName {
    /// The longest name, in bytes: a DNS name (RFC 1035, 253) and a port.
    pub const LEN_MAX: usize = 259;

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for RegistryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::LEN_MAX {
            return Err(InvalidName::TooLong { got: text.len(), max: Self::LEN_MAX });
        }
        let folded = text.to_ascii_lowercase();
        let (host, port) = split_port(&folded);
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_host(host) {
            return Err(InvalidName::Grammar);
        }
        let text = match port {
            None | Some("443") => host.to_owned(),
            Some(port) => {
                let number: u16 = port.parse().map_err(|_| InvalidName::Grammar)?;
                // `+80` and `080` parse as numbers but are other spellings.
                if number == 0 || number.to_string() != port {
                    return Err(InvalidName::Grammar);
                }
                format!("{host}:{port}")
            }
        };
        Ok(Self { text: text.into_boxed_str() })
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// It has characters, or an order of them, that a name cannot have.
    #[error("the name does not follow the grammar of the distribution-spec")]
    Grammar,
    /// It has too many bytes.
    #[error("the name has {got} bytes, more than {max}")]
    TooLong {
        /// How many bytes there were.
        got: usize,
        /// How many there may be.
        max: usize,
    },
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let mut separator = "";
    let mut rest = text;
    loop {
        let run = rest.bytes().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).count();
        let separator_is_right = matches!(separator, "" | "." | "_" | "__")
            || separator.bytes().all(|byte| byte == b'-');
        if run == 0 || !separator_is_right {
            return false;
        }
        rest = &rest[run..];
        if rest.is_empty() {
            return true;
        }
        let gap = rest.bytes().take_while(|b| matches!(b, b'.' | b'_' | b'-')).count();
        if gap == 0 {
            return false;
        }
        (separator, rest) = rest.split_at(gap);
    }
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    !host.is_empty() && host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        let longest = "a".repeat(255);
        for good in [
            "a",
            "library/alpine",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "0/1/2",
            "manifests",
            "blobs/uploads",
            longest.as_str(),
        ] {
            assert_eq!(good.parse::<RepositoryName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a___b",
            "a._b",
            "a-_b",
            "..",
            "a/../b",
            "a/./b",
            "ü",
            "a b",
            "a\0b",
            "a%2fb",
            "a;b",
            "_catalog",
            "a:b",
            "a\\b",
            too_long.as_str(),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn registry_names_are_hosts_and_have_one_spelling() {
        let table = [
            ("docker.io", "docker.io"),
            ("DOCKER.IO", "docker.io"),
            ("docker.io:443", "docker.io"),
            ("docker.io.", "docker.io"),
            ("registry.corp:5000", "registry.corp:5000"),
            ("localhost:5000", "localhost:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("[::1]", "[::1]"),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<RegistryName>().unwrap().as_str(), want);
        }
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "docker.io@evil",
            "http://127.0.0.1:1/",
            "a/b",
            "a b",
            "-a",
            "a:0",
            "a:",
            "a:x",
            "a:+80",
            "a:080",
            "a:65536",
            "[zz]",
            "unix:/x",
            "a_b",
            "docker.io%2f",
            "_blobs",
        ] {
            assert!(bad.parse::<RegistryName>().is_err(), "{bad:?}");
        }
    }
}
