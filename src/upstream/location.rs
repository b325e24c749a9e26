//! The URL at which an upload goes on, as the upstream said.
//!
//! The same rules as for redirects hold, and are applied again each time it is used, since it was
//! in a client's hands and the configuration may have changed: http or https, never from https to
//! http, no user in it; no credential leaves the upstream's own origin, and the connector sees to
//! the address.

use std::fmt;

use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::error::UpstreamError;
use super::redirect::next_url;
use super::shown::{host_of, origin_of};
use super::written::written_target;

/// The URL of an upload under way. It is a secret: its query may be all that it takes to write.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadLocation {
    url: Url,
    /// Its path and query as the upstream wrote them.
    target: Option<PathAndQuery>,
}

impl UploadLocation {
    /// The longest that is taken, in bytes: it has to fit, sealed, in a path.
    pub const LEN_MAX: usize = 4096;

    /// The `Location` of an answer from the URL `asked`; `base` is the upstream.
    ///
    /// # Errors
    ///
    /// As for redirects, and [`UpstreamError::Unexpected`] for one longer than
    /// [`Self::LEN_MAX`].
    pub(super) fn read(
        base: &Url,
        asked: &Url,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Self, UpstreamError> {
        // Registries behind a proxy that ends TLS often believe that they are reached without it.
        // An upgraded URL is still the upstream's.
        let url = match next_url(asked, status, headers) {
            Err(error @ UpstreamError::Forbidden { .. }) => {
                upgraded(base, asked, headers).ok_or(error)?
            }
            other => other?,
        };
        if url.as_str().len() > Self::LEN_MAX {
            let reason = "its Location is too long for an upload";
            return Err(UpstreamError::unexpected(host_of(asked), status, reason));
        }
        let text = headers.get(LOCATION).and_then(|text| text.to_str().ok());
        Ok(Self { url, target: text.and_then(written_target) })
    }

    /// The whole URL, to be sealed.
    pub fn expose(&self) -> String {
        match &self.target {
            Some(target) => format!("{}{target}", self.url.origin().ascii_serialization()),
            None => self.url.to_string(),
        }
    }

    /// A URL that was sealed, if uploads to the upstream at `base` may go there today.
    pub(super) fn open(base: &Url, text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_allowed = match url.scheme() {
            "https" => true,
            "http" => base.scheme() == "http",
            _ => false,
        };
        let is_plain = url.username().is_empty() && url.password().is_none();
        let target = written_target(text);
        (is_allowed && is_plain && url.has_host()).then_some(Self { url, target })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn target(&self) -> Option<&PathAndQuery> {
        self.target.as_ref()
    }
}

/// The location over https, if it is at the upstream itself.
fn upgraded(base: &Url, asked: &Url, headers: &HeaderMap) -> Option<Url> {
    let text = headers.get(LOCATION)?.to_str().ok()?;
    let mut url = asked.join(text).ok()?;
    let is_the_upstream = base.scheme() == "https"
        && url.scheme() == "http"
        && url.host() == base.host()
        && url.username().is_empty()
        && url.password().is_none();
    if !is_the_upstream {
        return None;
    }
    let port = url.port().or(base.port());
    url.set_scheme("https").ok()?;
    url.set_port(port).ok()?;
    url.set_fragment(None);
    (url.origin() == base.origin()).then_some(url)
}

impl fmt::Debug for UploadLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&origin_of(&self.url))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(base: &str, location: &str) -> Option<String> {
        let base: Url = base.parse().unwrap();
        let asked = base.join("/v2/a/blobs/uploads/").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_str(location).unwrap());
        UploadLocation::read(&base, &asked, StatusCode::ACCEPTED, &headers)
            .ok()
            .map(|it| it.expose())
    }

    #[test]
    fn an_upload_goes_on_where_a_redirect_might_lead() {
        let some = |text: &str| Some(text.to_owned());
        let up = "https://up.test";
        assert_eq!(read(up, "/v2/a/blobs/uploads/7?_state=x"), {
            some("https://up.test/v2/a/blobs/uploads/7?_state=x")
        });
        assert_eq!(read(up, "7"), some("https://up.test/v2/a/blobs/uploads/7"));
        assert_eq!(read(up, "https://store.test/u?sig=1#f"), some("https://store.test/u?sig=1"));
        // The upstream's own idea of its scheme is often wrong.
        assert_eq!(read(up, "http://up.test/u"), some("https://up.test/u"));
        assert_eq!(read("https://up.test:8443", "http://up.test:8443/u"), {
            some("https://up.test:8443/u")
        });
        assert_eq!(read("http://up.test", "http://store.test/u"), some("http://store.test/u"));
        let long = format!("/{}", "a".repeat(UploadLocation::LEN_MAX));
        for bad in [
            "http://store.test/u",
            "http://up.test:81/u",
            "http://u@up.test/u",
            "https://u:p@up.test/u",
            "file:///etc/passwd",
            "javascript:x",
            "",
            &long,
        ] {
            assert_eq!(read(up, bad), None, "{bad}");
        }
    }

    #[test]
    fn what_was_sealed_is_checked_again() {
        let open = |base: &str, text| UploadLocation::open(&base.parse().unwrap(), text).is_some();
        assert!(open("https://up.test", "https://store.test/u?sig=1"));
        assert!(open("http://up.test", "http://store.test/u"));
        // The upstream has become https since.
        assert!(!open("https://up.test", "http://up.test/u"));
        for bad in ["", "up.test", "file:///x", "https://u@store.test/", "unix:/x"] {
            assert!(!open("https://up.test", bad), "{bad}");
        }
        let location = UploadLocation::open(
            &"https://up.test".parse().unwrap(),
            "https://store.test/u?secret",
        );
        assert_eq!(format!("{:?}", location.unwrap()), "https://store.test");
    }
}
