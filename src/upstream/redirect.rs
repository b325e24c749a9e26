//! The URL that a redirect leads to, and whether it may be followed.
//!
//! It is judged by the URL alone. Whether the *address* behind it may be dialled is decided in the
//! connector, where it is known. The walk itself is in `walk`.

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::error::UpstreamError;
use super::shown::{host_of, origin_of};

/// The longest `Location`, in bytes. Signed URLs take up to 4 KiB.
const LOCATION_LEN_MAX: usize = 16 * 1024;

/// Which redirects of a request are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RedirectPolicy {
    /// All that lead to a usable URL.
    Any,
    /// Those that keep method and body (307 and 308; RFC 9110, 15.4), if there is a body to send
    /// again.
    Repeatable,
    /// Those to the upstream's own host. Registries that do not know referrers may redirect to
    /// a site that they stand in front of, which says as much as a 404.
    SameHost,
    /// Those within the origin that was asked: a token server's, which gets the credential anew
    /// each time.
    SameOrigin,
}

impl RedirectPolicy {
    /// Whether a redirect of this status keeps what is asked.
    pub(super) fn allows(self, status: StatusCode) -> bool {
        self != Self::Repeatable || matches!(status.as_u16(), 307 | 308)
    }
}

/// Whether a `Location` says where to go on (RFC 9110, 15.4).
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The URL that the `Location` of an answer from `current` names.
///
/// # Errors
///
/// [`UpstreamError::Forbidden`] for one that must not be followed, and
/// [`UpstreamError::Unexpected`] for one that is no URL. Neither shows more than its origin.
pub(super) fn next_url(
    current: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Url, UpstreamError> {
    let malformed = |reason| UpstreamError::unexpected(host_of(current), status, reason);
    let location = headers.get(LOCATION).ok_or_else(|| malformed("it redirects to nowhere"))?;
    if location.is_empty() || location.len() > LOCATION_LEN_MAX {
        return Err(malformed("its Location is empty or too long"));
    }
    let location = location.to_str().ok().and_then(|text| current.join(text).ok());
    let mut next = location.ok_or_else(|| malformed("its Location is not a URL"))?;
    next.set_fragment(None);
    check(current, &next)?;
    Ok(next)
}

fn check(current: &Url, next: &Url) -> Result<(), UpstreamError> {
    let forbidden = |target: String, reason: &str| {
        let (host, reason) = (host_of(current), reason.to_owned());
        Err(UpstreamError::Forbidden { host, target, reason })
    };
    match next.scheme() {
        "https" => {}
        "http" if current.scheme() == "http" => {}
        "http" => return forbidden(origin_of(next), "https must not lead to http"),
        // Without a host there is only a scheme to show.
        other => return forbidden(format!("{other}:"), "it is neither http nor https"),
    }
    if !next.username().is_empty() || next.password().is_some() {
        return forbidden(origin_of(next), "its URL has a user in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn lead(from: &str, location: &str) -> Result<String, UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
        next_url(&from.parse().unwrap(), StatusCode::FOUND, &headers).map(Url::into)
    }

    #[test]
    fn a_redirect_leads_to_http_or_https_and_never_from_https_to_http() {
        let from = "https://up.test/v2/a/blobs/x?y#z";
        let to = |from, location| lead(from, location).unwrap();
        assert_eq!(to(from, "https://cdn.test/x?sig=1#f"), "https://cdn.test/x?sig=1");
        assert_eq!(to(from, "/y"), "https://up.test/y");
        assert_eq!(to(from, "../z"), "https://up.test/v2/a/z");
        assert_eq!(to(from, "//cdn.test/x"), "https://cdn.test/x");
        assert_eq!(to("http://up.test/", "http://cdn.test/x"), "http://cdn.test/x");
        assert_eq!(to("http://up.test/", "https://cdn.test/x"), "https://cdn.test/x");

        let forbidden = |from, location| match lead(from, location) {
            Err(UpstreamError::Forbidden { target, .. }) => target,
            other => panic!("{location} gave {other:?}"),
        };
        assert_eq!(forbidden(from, "http://up.test/y?secret"), "http://up.test");
        assert_eq!(forbidden(from, "http://cdn.test:81/x?secret"), "http://cdn.test:81");
        assert_eq!(forbidden(from, "https://u:secret@cdn.test/x"), "https://cdn.test");
        assert_eq!(forbidden(from, "https://u@cdn.test/x"), "https://cdn.test");
        assert_eq!(forbidden(from, "javascript:secret"), "javascript:");
        assert_eq!(forbidden(from, "file:///etc/secret"), "file:");
        assert_eq!(forbidden(from, "ftp://secret.test/x"), "ftp:");
        assert_eq!(forbidden("http://up.test/", "unix:/run/secret"), "unix:");
    }

    #[test]
    fn a_location_that_is_no_url_leads_nowhere() {
        let long = format!("https://cdn.test/{}", "a".repeat(LOCATION_LEN_MAX));
        for bad in ["", "https://", "https://[::1/", "https://a b/", "ä", long.as_str()] {
            let lead = lead("https://up.test/", bad);
            assert!(
                matches!(lead, Err(UpstreamError::Unexpected { .. })),
                "{bad:.20} gave {lead:?}"
            );
        }
        let none =
            next_url(&"https://up.test/".parse().unwrap(), StatusCode::FOUND, &HeaderMap::new());
        assert!(matches!(none, Err(UpstreamError::Unexpected { .. })));
    }
}
