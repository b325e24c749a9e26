//! Where a redirect may lead, and the walk along it.
//!
//! [`next`] decides by the URL alone. That the *address* behind it is one that may be dialled is
//! decided in the connector, where it is known.
//!
//! Registries answer a blob with a redirect to storage whose URL is signed. Such a URL is followed
//! at once and forgotten: never cached, logged or shown. Storage refuses requests that carry a
//! second credential, and must not learn ours: `Authorization` goes to the upstream's own origin
//! only, and not even there again once the walk has left it, because whoever points back chooses
//! the path.

use std::sync::Arc;

use http::header::{AUTHORIZATION, LOCATION, VIA};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::Url;

use super::UpstreamError;
use super::answer::UpstreamReply;
use super::request::ReadRequest;
use super::transport::{CallKind, CallPurpose, UpstreamTransport, host_of, origin_of};

/// The most redirects that are followed for one request. Two are common (registry, storage, CDN).
pub(super) const HOPS_MAX: usize = 5;

/// The longest `UploadLocation`, in bytes. Signed URLs take up to 4 KiB.
const LOCATION_LEN_MAX: usize = 16 * 1024;

impl UpstreamTransport {
    /// Sends `request` to the upstream and follows where it points, to the first answer that is
    /// no redirect.
    pub(super) async fn follow(
        &self,
        request: &ReadRequest,
        authorization: Option<&HeaderValue>,
    ) -> Result<UpstreamReply, UpstreamError> {
        self.check(&request.url, request.class, request.who)?;
        let permit = self.permit().await?;
        let mut url = request.url.clone();
        let mut is_foreign = false;
        let mut status = StatusCode::FOUND;
        for _ in 0..=HOPS_MAX {
            let mut headers = request.headers();
            headers.extend(request.via.header(self.instance).map(|value| (VIA, value)));
            if let Some(value) = authorization.filter(|_| !is_foreign) {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let purpose = if is_foreign { CallPurpose::Redirect } else { CallPurpose::Registry };
            let reason = CallKind { purpose, class: request.class, who: request.who };
            let response = self.send(&request.method, &url, headers, reason).await?;
            let host = host_of(&url);
            if !is_redirect(response.status()) {
                return Ok(UpstreamReply::new(
                    response,
                    host,
                    is_foreign,
                    (permit, Arc::clone(&self.meter)),
                ));
            }
            status = response.status();
            url = next(&url, response.headers()).map_err(|refusal| match refusal {
                RedirectRefusal::Forbidden { target, reason } => {
                    UpstreamError::Forbidden { host, target, reason: reason.to_owned() }
                }
                RedirectRefusal::Malformed(reason) => {
                    UpstreamError::Unexpected { host, status, reason: reason.to_owned() }
                }
            })?;
            if request.is_local && url.host() != self.url.host() {
                return Err(UpstreamError::NotFound { host: self.host.clone(), said: None });
            }
            is_foreign = is_foreign || url.origin() != self.url.origin();
        }
        Err(UpstreamError::Unexpected {
            host: self.host.clone(),
            status,
            reason: format!("it leads through more than {HOPS_MAX} redirects"),
        })
    }
}

/// Why a redirect is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RedirectRefusal {
    /// It leads to where it must not.
    Forbidden {
        /// Scheme, host and port.
        target: String,
        /// Why it must not.
        reason: &'static str,
    },
    /// It leads nowhere.
    Malformed(&'static str),
}

/// The URL that a redirect from `current` leads to.
pub(super) fn next(current: &Url, headers: &HeaderMap) -> Result<Url, RedirectRefusal> {
    let location =
        headers.get(LOCATION).ok_or(RedirectRefusal::Malformed("it redirects to nowhere"))?;
    if location.is_empty() || location.len() > LOCATION_LEN_MAX {
        return Err(RedirectRefusal::Malformed("its Location is empty or too long"));
    }
    let location = location.to_str().ok().and_then(|text| current.join(text).ok());
    let mut next = location.ok_or(RedirectRefusal::Malformed("its Location is not a URL"))?;
    next.set_fragment(None);
    let forbidden = |target, reason| Err(RedirectRefusal::Forbidden { target, reason });
    match next.scheme() {
        "https" => {}
        "http" if current.scheme() == "http" => {}
        "http" => return forbidden(origin_of(&next), "https must not lead to http"),
        // Without a host there is only a scheme to show.
        other => return forbidden(format!("{other}:"), "it is neither http nor https"),
    }
    if !next.username().is_empty() || next.password().is_some() {
        return forbidden(origin_of(&next), "its URL has a user in it");
    }
    Ok(next)
}

pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(from: &str, location: &str) -> Result<String, RedirectRefusal> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
        next(&from.parse().unwrap(), &headers).map(Url::into)
    }

    #[test]
    fn a_redirect_leads_to_http_or_https_and_never_from_https_to_http() {
        let from = "https://up.test/v2/a/blobs/x?y#z";
        let to = |url: &str| Ok(url.to_owned());
        assert_eq!(lead(from, "https://cdn.test/x?sig=1#f"), to("https://cdn.test/x?sig=1"));
        assert_eq!(lead(from, "/y"), to("https://up.test/y"));
        assert_eq!(lead(from, "../z"), to("https://up.test/v2/a/z"));
        assert_eq!(lead(from, "//cdn.test/x"), to("https://cdn.test/x"));
        assert_eq!(lead("http://up.test/", "http://cdn.test/x"), to("http://cdn.test/x"));
        assert_eq!(lead("http://up.test/", "https://cdn.test/x"), to("https://cdn.test/x"));

        let forbidden = |from, location| match lead(from, location) {
            Err(RedirectRefusal::Forbidden { target, .. }) => target,
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
            assert!(matches!(lead, Err(RedirectRefusal::Malformed(_))), "{bad:.20} gave {lead:?}");
        }
        let none = next(&"https://up.test/".parse().unwrap(), &HeaderMap::new());
        assert!(matches!(none, Err(RedirectRefusal::Malformed(_))));
    }
}
