//! How much of a URL messages show: its query may be a secret, and its user is one.

use url::Url;

/// Host, and port if the URL writes one.
pub(super) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

/// Scheme, host and port.
pub(super) fn origin_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), host_of(url))
}
