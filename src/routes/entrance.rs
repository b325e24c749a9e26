//! One listener, as requests see it: the hosts that it serves, its open doors and its access.
//!
//! The host of a request is read here, from `:authority`, an absolute target or `Host`, and nowhere
//! else. A client's text is never sent back. Which registry a host means is decided in `door.rs`.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Version};

use super::error::RequestError;
use crate::access::ListenerAccess;
use crate::http::HostPort;
use crate::registry::OpenDoors;

/// The settings of a listener that a request depends on.
#[derive(Debug)]
pub struct Entrance {
    /// The hosts that it serves; every host if the list is empty.
    pub names: Vec<HostPort>,
    /// The doors that are open.
    pub doors: OpenDoors,
    /// Whether it speaks TLS, which decides the port of a host without one.
    pub is_tls: bool,
    /// How clients are identified and granted access.
    pub access: ListenerAccess,
}

impl Entrance {
    /// A listener with every host, every door, and no TLS.
    pub fn to_all(access: ListenerAccess) -> Self {
        Self { names: Vec::new(), doors: OpenDoors::all(), is_tls: false, access }
    }

    /// The host of a request. `Ok(None)` if it has none, or if neither the listener nor `is_wanted`
    /// needs it: parsing a host takes longer than a look-up of a manifest.
    ///
    /// # Errors
    ///
    /// Every [`RequestError`] that is about the host.
    pub(super) fn host(
        &self,
        request: &Parts,
        is_wanted: bool,
    ) -> Result<Option<HostPort>, RequestError> {
        let Some(text) = written(request)? else {
            return if self.names.is_empty() { Ok(None) } else { Err(RequestError::ForeignHost) };
        };
        if self.names.is_empty() && !is_wanted {
            return Ok(None);
        }
        let mut host: HostPort = text.parse().map_err(|_| RequestError::InvalidHost)?;
        host.port = host.port.or(Some(if self.is_tls { 443 } else { 80 }));
        if !self.names.is_empty() && !self.names.iter().any(|name| name.covers(&host)) {
            return Err(RequestError::ForeignHost);
        }
        Ok(Some(host))
    }
}

/// The host as the request has it, of plausible characters.
fn written(request: &Parts) -> Result<Option<&str>, RequestError> {
    let mut headers = request.headers.get_all(HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(RequestError::MultipleHosts);
    }
    let header =
        header.map(HeaderValue::to_str).transpose().map_err(|_| RequestError::InvalidHost)?;
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    let is_2 = request.version == Version::HTTP_2;
    let text = match (authority, header) {
        // RFC 9113, 8.3.1. Over HTTP/1.1 the target's own host wins (RFC 9112, 3.2.2).
        (Some(authority), Some(header)) if is_2 && !authority.eq_ignore_ascii_case(header) => {
            return Err(RequestError::MultipleHosts);
        }
        (Some(authority), _) => authority,
        (None, Some(header)) => header,
        (None, None) if request.version < Version::HTTP_11 => return Ok(None),
        (None, None) => return Err(RequestError::MissingHost),
    };
    if is_plausible(text) { Ok(Some(text)) } else { Err(RequestError::InvalidHost) }
}

/// Whether `text` has only characters of a host and a port (RFC 3986, 3.2.2), and no user.
fn is_plausible(text: &str) -> bool {
    let is_of_host = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    (1..=HOST_LEN_MAX).contains(&text.len()) && text.bytes().all(is_of_host)
}

/// In bytes: a DNS name has at most 253 characters, and a port with its colon six more.
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

    fn host(version: Version, uri: &str, hosts: &[&str]) -> Result<Option<String>, String> {
        text_of(to_all().host(&parts(version, uri, hosts), true))
    }

    fn text_of(host: Result<Option<HostPort>, RequestError>) -> Result<Option<String>, String> {
        host.map(|host| host.map(|host| host.to_string())).map_err(|error| error.to_string())
    }

    fn refused(error: &RequestError) -> Result<Option<String>, String> {
        Err(error.to_string())
    }

    #[test]
    fn a_host_is_read_where_the_version_of_http_has_it() {
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
    fn a_missing_ambiguous_or_invalid_host_is_refused() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        assert_eq!(host(one, "/v2/", &[]), refused(&RequestError::MissingHost));
        assert_eq!(host(two, "/v2/", &[]), refused(&RequestError::MissingHost));
        assert_eq!(host(one, "/v2/", &["a", "a"]), refused(&RequestError::MultipleHosts));
        assert_eq!(
            host(Version::HTTP_10, "/v2/", &["a", "b"]),
            refused(&RequestError::MultipleHosts)
        );
        assert_eq!(host(two, "http://a.b/v2/", &["c.d"]), refused(&RequestError::MultipleHosts));
        let long = "a".repeat(260);
        for bad in ["", "a b", "u@a", "a/b", "a,b", "a:b:c", "a:99999", "[::1", "<a>", "ä", &long]
        {
            assert_eq!(host(one, "/v2/", &[bad]), refused(&RequestError::InvalidHost), "{bad:?}");
        }
    }

    /// A host that is not needed is not parsed, but one of implausible characters is refused.
    #[test]
    fn a_host_that_is_not_needed_is_still_checked() {
        let read =
            |hosts: &[&str]| text_of(to_all().host(&parts(Version::HTTP_11, "/v2/", hosts), false));
        assert_eq!(read(&["hub.corp"]), Ok(None));
        assert_eq!(read(&["<script>"]), refused(&RequestError::InvalidHost));
        assert_eq!(read(&[]), refused(&RequestError::MissingHost));
    }

    #[test]
    fn a_listener_with_names_serves_no_other_host() {
        let entrance = Entrance {
            names: vec!["mirror.corp".parse().unwrap(), "b.corp:5000".parse().unwrap()],
            ..to_all()
        };
        let read =
            |version, hosts: &[&str]| text_of(entrance.host(&parts(version, "/v2/", hosts), false));
        for served in ["mirror.corp", "MIRROR.corp:1", "mirror.corp.", "b.corp:5000"] {
            assert!(read(Version::HTTP_11, &[served]).is_ok(), "{served}");
        }
        for foreign in ["mirror.corp.evil", "10.0.0.1", "b.corp", "b.corp:5001"] {
            assert_eq!(
                read(Version::HTTP_11, &[foreign]),
                refused(&RequestError::ForeignHost),
                "{foreign}"
            );
        }
        assert_eq!(read(Version::HTTP_10, &[]), refused(&RequestError::ForeignHost));
    }
}
