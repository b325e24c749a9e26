//! The requests to a registry, from its access log.

use std::fmt;
use std::str::FromStr;

/// One line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// The length of the body, if the registry logs it.
    pub(crate) bytes: u64,
    pub(crate) kind: Kind,
}

/// The subject of a request.
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

    /// Lines of `docker-registry`: `… "GET /v2/library/debian/manifests/x HTTP/1.1" 200 1234 …`; of
    /// olareg: `… msg=ServeHTTP duration=1ms method=GET url=/v2/… status=200 …`, without the bytes.
    fn from_str(line: &str) -> Result<Self, NotAccess> {
        let (method, path, status, bytes) =
            if line.contains(" msg=ServeHTTP ") { of_olareg(line) } else { of_distribution(line) }
                .ok_or(NotAccess)?;
        Ok(Self { method: method.into(), path: path.into(), status, bytes, kind: kind(path) })
    }
}

fn of_distribution(line: &str) -> Option<(&str, &str, u16, u64)> {
    let mut quoted = line.split('"');
    let mut request = quoted.nth(1)?.split(' ');
    let (method, path) = (request.next()?, request.next()?);
    let mut numbers = quoted.next()?.split_whitespace();
    let status = numbers.next()?.parse().ok()?;
    Some((method, path, status, numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0)))
}

fn of_olareg(line: &str) -> Option<(&str, &str, u16, u64)> {
    let field = |name: &str| {
        let value = &line[line.find(name)? + name.len()..];
        // Quoted where it has a question mark; no path here has a space or a quote.
        value.trim_start_matches('"').split([' ', '"']).next()
    };
    Some((field(" method=")?, field(" url=")?, field(" status=")?.parse().ok()?, 0))
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
