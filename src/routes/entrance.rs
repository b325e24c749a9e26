//! What a listener lets in: the hosts it answers to, and the doors that are open there.
//!
//! The host of a request is read here, from `:authority`, an absolute target or `Host`, and
//! nowhere else. What a client wrote in its place is never sent back.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Version};

use crate::access::ListenerAccess;
use crate::http::HostPort;
use crate::registry::OpenDoors;

/// One listener, as a request sees it.
#[derive(Debug)]
pub struct Entrance {
    /// The hosts it answers to; any if there are none.
    pub names: Vec<HostPort>,
    /// The doors that are open.
    pub doors: OpenDoors,
    /// Whether it speaks TLS, which is where a host without a port has its port from.
    pub is_tls: bool,
    /// Who is let in, and to what.
    pub access: ListenerAccess,
}

/// Why a request is turned away by the host that it names, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHost {
    /// It names a host that this listener does not answer to.
    #[error("this host is not served on this address")]
    Foreign,
    /// What it names is no host.
    #[error("the request's host is not `host` or `host:port`")]
    Invalid,
    /// RFC 9112, 3.2, and RFC 9113, 8.3.1: there must be one.
    #[error("the request names no host")]
    Missing,
    /// Two hosts, of which another reader might take the other.
    #[error("the request names more than one host")]
    Several,
}

impl Entrance {
    /// Any host, every door, no TLS.
    pub fn to_all(access: ListenerAccess) -> Self {
        Self { names: Vec::new(), doors: OpenDoors::all(), is_tls: false, access }
    }

    /// The host of a request. `Ok(None)` if it has none, or nobody wants to know: reading it takes
    /// longer than looking a manifest up.
    pub(super) fn host(
        &self,
        request: &Parts,
        is_wanted: bool,
    ) -> Result<Option<HostPort>, BadHost> {
        let Some(text) = written(request)? else {
            return if self.names.is_empty() { Ok(None) } else { Err(BadHost::Foreign) };
        };
        if self.names.is_empty() && !is_wanted {
            return Ok(None);
        }
        let mut host: HostPort = text.parse().map_err(|_| BadHost::Invalid)?;
        host.port = host.port.or(Some(if self.is_tls { 443 } else { 80 }));
        if !self.names.is_empty() && !self.names.iter().any(|name| name.covers(&host)) {
            return Err(BadHost::Foreign);
        }
        Ok(Some(host))
    }
}

/// The host as the request has it, seen to be one by its characters.
fn written(request: &Parts) -> Result<Option<&str>, BadHost> {
    let mut headers = request.headers.get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(BadHost::Several);
    }
    let header = header.map(HeaderValue::to_str).transpose().map_err(|_| BadHost::Invalid)?;
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    let is_2 = request.version == Version::HTTP_2;
    let text = match (authority, header) {
        // RFC 9113, 8.3.1. Over HTTP/1.1 the target's own host wins (RFC 9112, 3.2.2).
        (Some(authority), Some(header)) if is_2 && !authority.eq_ignore_ascii_case(header) => {
            return Err(BadHost::Several);
        }
        (Some(authority), _) => authority,
        (None, Some(header)) => header,
        (None, None) if request.version < Version::HTTP_11 => return Ok(None),
        (None, None) => return Err(BadHost::Missing),
    };
    if is_plausible(text) { Ok(Some(text)) } else { Err(BadHost::Invalid) }
}

/// Whether `text` has only what a host and a port are made of (RFC 3986, 3.2.2), without a user.
fn is_plausible(text: &str) -> bool {
    let is_of_host = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    (1..=HOST_LEN_MAX).contains(&text.len()) && text.bytes().all(is_of_host)
}

/// A name of the DNS has at most 253 characters, and a port six more with its colon.
const HOST_LEN_MAX: usize = 259;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::access::{AccessOptions, LoginCache};

    fn to_all() -> Entrance {
        let ledger = std::sync::Arc::new(LoginCache::new().unwrap());
        Entrance::to_all(ListenerAccess::new(AccessOptions::default(), ledger))
    }

    fn parts(version: Version, uri: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn host(version: Version, uri: &str, hosts: &[&str]) -> Result<Option<String>, BadHost> {
        let host = to_all().host(&parts(version, uri, hosts), true)?;
        Ok(host.map(|host| host.to_string()))
    }

    #[test]
    fn a_host_is_read_from_where_the_version_has_it() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(host(one, "/v2/", &["Hub.Corp"]), some("hub.corp:80"));
        assert_eq!(host(one, "/v2/", &["[::1]:5000"]), some("[::1]:5000"));
        assert_eq!(host(one, "http://a.b:1/v2/", &["c.d"]), some("a.b:1"));
        assert_eq!(host(two, "http://a.b:1/v2/", &[]), some("a.b:1"));
        assert_eq!(host(two, "http://a.b:1/v2/", &["A.b:1"]), some("a.b:1"));
        assert_eq!(host(two, "/v2/", &["a.b"]), some("a.b:80"));
        assert_eq!(host(Version::HTTP_10, "/v2/", &[]), Ok(None));

        let tls = Entrance { is_tls: true, ..to_all() };
        let host = tls.host(&parts(one, "/v2/", &["a.b"]), true).unwrap().unwrap();
        assert_eq!(host.port, Some(443));
    }

    /// Two readers of one request must not see two hosts in it.
    #[test]
    fn a_host_that_is_missing_doubtful_or_none_is_refused() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(host(one, "/v2/", &[]), Err(BadHost::Missing));
        assert_eq!(host(two, "/v2/", &[]), Err(BadHost::Missing));
        assert_eq!(host(one, "/v2/", &["a", "a"]), Err(BadHost::Several));
        assert_eq!(host(Version::HTTP_10, "/v2/", &["a", "b"]), Err(BadHost::Several));
        assert_eq!(host(two, "http://a.b/v2/", &["c.d"]), Err(BadHost::Several));
        let long = "a".repeat(260);
        for bad in ["", "a b", "u@a", "a/b", "a,b", "a:b:c", "a:99999", "[::1", "<a>", "ä", &long]
        {
            assert_eq!(host(one, "/v2/", &[bad]), Err(BadHost::Invalid), "{bad:?}");
        }
    }

    /// What nobody wants to know is not parsed, but what is no host is refused all the same.
    #[test]
    fn a_host_that_matters_to_nobody_is_still_checked() {
        let read = |hosts: &[&str]| to_all().host(&parts(Version::HTTP_11, "/v2/", hosts), false);
        assert_eq!(read(&["hub.corp"]), Ok(None));
        assert_eq!(read(&["<script>"]), Err(BadHost::Invalid));
        assert_eq!(read(&[]), Err(BadHost::Missing));
    }

    #[test]
    fn a_listener_with_names_answers_to_no_other() {
        let entrance = Entrance {
            names: vec!["mirror.corp".parse().unwrap(), "b.corp:5000".parse().unwrap()],
            ..to_all()
        };
        let read = |version, hosts: &[&str]| entrance.host(&parts(version, "/v2/", hosts), false);
        for served in ["mirror.corp", "MIRROR.corp:1", "mirror.corp.", "b.corp:5000"] {
            assert!(read(Version::HTTP_11, &[served]).is_ok(), "{served}");
        }
        for foreign in ["mirror.corp.evil", "10.0.0.1", "b.corp", "b.corp:5001"] {
            assert_eq!(read(Version::HTTP_11, &[foreign]), Err(BadHost::Foreign), "{foreign}");
        }
        assert_eq!(read(Version::HTTP_10, &[]), Err(BadHost::Foreign));
    }
}
