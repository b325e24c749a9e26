//! What a registry was asked for, from its access log.

use std::fmt;
use std::str::FromStr;

/// One line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Of the body.
    pub(crate) bytes: u64,
    pub(crate) kind: Kind,
}

/// What a request was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Blob,
    ManifestByDigest,
    ManifestByTag,
    /// The ping, lists, uploads.
    Other,
}

/// A line that is not of the access log.
#[derive(Debug)]
pub(crate) struct NotAccess;

impl FromStr for Request {
    type Err = NotAccess;

    /// `127.0.0.1 - - [date] "GET /v2/library/debian/manifests/x HTTP/1.1" 200 1234 "" "agent"`
    fn from_str(line: &str) -> Result<Self, NotAccess> {
        let mut quoted = line.split('"');
        let mut request = quoted.nth(1).ok_or(NotAccess)?.split(' ');
        let (Some(method), Some(path)) = (request.next(), request.next()) else {
            return Err(NotAccess);
        };
        let mut numbers = quoted.next().ok_or(NotAccess)?.split_whitespace();
        let status = numbers.next().and_then(|n| n.parse().ok()).ok_or(NotAccess)?;
        let bytes = numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);

        Ok(Self { method: method.into(), path: path.into(), status, bytes, kind: kind(path) })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}, {} bytes", self.method, self.path, self.status, self.bytes)
    }
}

fn kind(path: &str) -> Kind {
    let path = path.split('?').next().unwrap_or(path);
    match path.rsplit('/').collect::<Vec<_>>()[..] {
        [digest, "blobs", ..] if digest.contains(':') => Kind::Blob,
        [digest, "manifests", ..] if digest.contains(':') => Kind::ManifestByDigest,
        [_, "manifests", ..] => Kind::ManifestByTag,
        _ => Kind::Other,
    }
}
