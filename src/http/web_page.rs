//! Requests that a web page may have a browser send: which ones they are, and where they come from.
//!
//! A page of another site can have a browser reach a listener that only its user reaches, by a form
//! or a script (cross-site request), or by a name of its own that it lets point here (DNS
//! rebinding). Clients of registries send none of the headers that browsers always send.

use http::header::{ACCEPT_LANGUAGE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Host;

use super::HostPort;

/// Whether a browser may have sent these headers: scripts cannot leave all of them out.
pub fn is_of_browser(headers: &HeaderMap) -> bool {
    // Most clients send few headers: comparing them all costs less than hashing three names.
    headers
        .keys()
        .any(|name| *name == ACCEPT_LANGUAGE || *name == ORIGIN || *name == SEC_FETCH_SITE)
}

/// Whether a page of another origin has sent the request: by `Sec-Fetch-Site` (W3C Fetch Metadata),
/// else by an `Origin` that has another host than the request (RFC 6454).
pub fn is_cross_site(request: &Parts) -> bool {
    if let Some(site) = request.headers.get(SEC_FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = request.headers.get(ORIGIN) else { return false };
    let header = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = request.uri.authority().map(http::uri::Authority::as_str).or(header);
    let of_origin = origin.to_str().ok().and_then(|it| it.split_once("://"));
    of_origin.map(|(_, of_origin)| of_origin) != host
}

/// Whether a name of this machine, or an address, is asked for: no page of another site has one.
pub fn is_local_host(host: &HostPort) -> bool {
    match &host.host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    }
}

/// Whether a browser may ask for another site's name here. `host` is that of the request.
pub fn is_rebound(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map(HeaderValue::to_str).and_then(Result::ok);
    let host = host.and_then(|host| host.parse::<HostPort>().ok());
    is_of_browser(headers) && !host.is_some_and(|host| is_local_host(&host))
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(host: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().uri("/v2/").header(HOST, host);
        let with = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
        with.body(()).unwrap().into_parts().0
    }

    #[test]
    fn requests_of_other_sites_are_told_by_the_headers_of_browsers() {
        let table: [(&[(&str, &str)], bool); 9] = [
            (&[], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("origin", "http://a.corp:5000")], false),
            (&[("origin", "http://a.corp")], true),
            (&[("origin", "https://evil.test")], true),
            (&[("origin", "null")], true),
        ];
        for (headers, is_cross) in table {
            assert_eq!(is_cross_site(&head("a.corp:5000", headers)), is_cross, "{headers:?}");
        }
    }

    #[test]
    fn a_browser_asks_for_a_name_of_this_machine_or_an_address() {
        let browser = [("accept-language", "en")];
        for (host, is_foreign) in [
            ("localhost:9090", false),
            ("a.localhost", false),
            ("127.0.0.1:9090", false),
            ("[::1]:9090", false),
            ("10.0.0.7", false),
            ("evil.test:9090", true),
            ("localhost.evil.test", true),
            ("bad host", true),
        ] {
            assert_eq!(is_rebound(&head(host, &browser).headers), is_foreign, "{host}");
            assert!(!is_rebound(&head(host, &[]).headers), "{host}: no browser");
        }
    }
}
