//! Access tokens of Google, and the URLs that may give one.

use std::time::Duration;

use secrecy::SecretString;
use url::{Host, Url};

use super::super::error::CredentialError;

/// The right that tokens are asked for: what the identity may is set in its roles.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A token, and for how long it is good.
pub(super) struct AccessToken {
    pub(super) secret: SecretString,
    pub(super) life: Duration,
    /// The identity that it is of, for people.
    pub(super) owner: String,
}

/// The URL that a credentials file names, which has to be Google's: such a file may be another's,
/// and what is sent there is good for a token.
///
/// # Errors
///
/// If it is not.
pub(super) fn google_url(text: &str, name: &str) -> Result<Url, CredentialError> {
    let is_google = |url: &Url| match url.host() {
        Some(Host::Domain(host)) => {
            let is_known = host.ends_with(".googleapis.com") || host == "accounts.google.com";
            is_known && url.scheme() == "https" && url.port().is_none()
        }
        _ => false,
    };
    if let Some(url) = Url::parse(text).ok().filter(is_google) {
        return Ok(url);
    }
    let reason = format!("`{name}` is no `https://` URL of Google's (`*.googleapis.com`)");
    Err(CredentialError::new(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_leads_to_google_alone() {
        let check = |text: &str| google_url(text, "token_uri").is_ok();
        for url in [
            "https://oauth2.googleapis.com/token",
            "https://accounts.google.com/o/oauth2/token",
            "https://sts.eu-west1.googleapis.com:443/v1/token",
        ] {
            assert!(check(url), "{url}");
        }
        for url in [
            "http://oauth2.googleapis.com/token",
            "https://googleapis.com.evil.test/token",
            "https://evilgoogleapis.com/token",
            "https://oauth2.googleapis.com@evil.test/token",
            "https://oauth2.googleapis.com:8443/token",
            "https://169.254.169.254/token",
            "file:///etc/passwd",
        ] {
            assert!(!check(url), "{url}");
        }
    }
}
