//! Fuzz targets of what a registry and its token server say about logging in.

use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use url::Url;

use super::challenge::{self, ChallengeOffer};
use super::{realm, token_server};

/// `WWW-Authenticate`, a line of it for each line: the realm that is asked is one of the upstream's
/// own domain, over TLS.
pub(crate) fn challenge(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    challenge::token_fault(&headers);
    let Some(ChallengeOffer::Bearer { realm, .. }) = challenge::read(&headers) else { return };
    let Ok(upstream) = Url::parse("https://registry-1.docker.io") else { return };
    if let Ok(allowed) = realm::check(&upstream, &[], &realm) {
        let host = allowed.host_str().unwrap_or_default().trim_end_matches('.');
        let is_at_home = host == "docker.io" || host.ends_with(".docker.io");
        assert!(allowed.scheme() == "https" && is_at_home, "{realm}");
    }
}

/// The answer of a token server: a token can be sent, and its life is bounded.
pub(crate) fn token(bytes: &[u8]) {
    if let Ok((token, life)) = token_server::read(bytes) {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        assert!(header.is_ok() && !token.expose_secret().is_empty());
        assert!((Duration::from_secs(60)..=Duration::from_secs(3600)).contains(&life), "{life:?}");
    }
}
