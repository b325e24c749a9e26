//! Which token servers an upstream may send us to.
//!
//! The realm is chosen by the upstream, or by a proxy in between, and it is where our
//! credential goes: CVE-2026-33540 was a proxy that sent it wherever the realm said. So a realm
//! is believed only on the upstream's own host or registrable domain, or where the operator
//! listed it. Whether its address may be dialled is decided in the connector.

use url::{Host, Url};

use super::error::UpstreamError;
use super::shown::{host_of, origin_of};
use crate::http::HostPort;

/// The URL of a token server of `upstream`, from the text of a challenge.
///
/// # Errors
///
/// [`UpstreamError::Forbidden`] for one that must not be asked, with no more of it than its origin.
pub(super) fn check(
    upstream: &Url,
    token_hosts: &[HostPort],
    realm: &str,
) -> Result<Url, UpstreamError> {
    let refuse = |target, reason: &str| {
        let (host, reason) = (host_of(upstream), reason.to_owned());
        Err(UpstreamError::Forbidden { host, target, reason })
    };
    let Ok(realm) = Url::parse(realm) else {
        return refuse("a token server".to_owned(), "its realm is not a URL");
    };
    let target = origin_of(&realm);
    match realm.scheme() {
        "https" => {}
        "http" if upstream.scheme() == "http" => {}
        "http" => return refuse(target, "the token server of an https upstream must be https"),
        other => return refuse(format!("{other}:"), "it is neither http nor https"),
    }
    if !realm.username().is_empty() || realm.password().is_some() {
        return refuse(target, "its URL has a user in it");
    }
    if realm.fragment().is_some() {
        return refuse(target, "its URL has a fragment");
    }
    let (Some(at), Some(home)) = (HostPort::of(&realm), HostPort::of(upstream)) else {
        return refuse(target, "its URL has no host");
    };
    if !is_at_home(&home, &at) && !token_hosts.iter().any(|entry| entry.covers(&at)) {
        return refuse(target, "it is not on the upstream's domain; `token_hosts` would allow it");
    }
    Ok(realm)
}

/// Whether both belong to the same owner, as far as names can tell. Addresses and single labels
/// (`localhost`, `registry`) have no owner: there host and port must be the same.
fn is_at_home(upstream: &HostPort, realm: &HostPort) -> bool {
    if upstream == realm {
        return true;
    }
    let (Host::Domain(upstream), Host::Domain(realm)) = (&upstream.host, &realm.host) else {
        return false;
    };
    if !upstream.contains('.') {
        return false;
    }
    upstream == realm
        || psl::domain_str(upstream).is_some_and(|own| psl::domain_str(realm) == Some(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(upstream: &str, realm: &str) -> bool {
        check(&upstream.parse().unwrap(), &[], realm).is_ok()
    }

    #[test]
    fn a_realm_on_the_upstreams_host_or_domain_is_asked() {
        for (upstream, realm) in [
            ("https://registry-1.docker.io", "https://auth.docker.io/token"),
            ("https://registry-1.docker.io", "https://AUTH.Docker.IO./token"),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth?x=y"),
            ("https://ghcr.io", "https://ghcr.io/token"),
            ("https://quay.io", "https://quay.io:8443/v2/auth"),
            ("https://r.example.co.uk", "https://auth.example.co.uk/t"),
            ("https://acme.azurecr.io", "https://acme.azurecr.io/oauth2/token"),
            ("https://registry.corp.lan", "https://sso.corp.lan/t"),
            ("http://registry.corp.lan:5000", "http://registry.corp.lan:5001/t"),
            ("http://registry.corp.lan", "https://registry.corp.lan/t"),
            ("http://localhost:5000", "http://localhost:5000/t"),
            ("https://10.0.0.1", "https://10.0.0.1:443/t"),
            ("https://[fd00::1]:5000", "https://[fd00:0::1]:5000/t"),
        ] {
            assert!(is_allowed(upstream, realm), "{upstream} {realm}");
        }
    }

    #[test]
    fn a_realm_elsewhere_is_not() {
        let hub = "https://registry-1.docker.io";
        for (upstream, realm) in [
            (hub, "https://auth.docker.io.evil.com/token"),
            (hub, "https://docker.io@evil.com/token"),
            (hub, "https://auth.docker.io@evil.com/token"),
            (hub, "https://user:pass@auth.docker.io/token"),
            (hub, "https://@auth.docker.io:x@evil.com/token"),
            (hub, "https://evildocker.io/token"),
            (hub, "https://xn--dcker-jua.io/token"),
            (hub, "https://io/token"),
            (hub, "http://auth.docker.io/token"),
            (hub, "http://registry-1.docker.io/token"),
            (hub, "https://auth.docker.io/token#x"),
            (hub, "https://127.0.0.1/token"),
            (hub, "https://[::1]/token"),
            (hub, "https://[64:ff9b::a9fe:a9fe]/token"),
            (hub, "https:\\\\evil.com\\auth.docker.io"),
            (hub, "//auth.docker.io/token"),
            (hub, "/token"),
            (hub, "file:///token"),
            (hub, "ftp://auth.docker.io/token"),
            (hub, "javascript:alert(1)"),
            (hub, ""),
            (hub, "https://"),
            ("https://co.uk", "https://evil.co.uk/t"),
            ("https://registry.co.uk", "https://evil.co.uk/t"),
            ("https://a.github.io", "https://b.github.io/t"),
            ("https://a.herokuapp.com", "https://b.herokuapp.com/t"),
            ("http://localhost:5000", "http://localhost:5001/t"),
            ("http://registry:5000", "http://auth/t"),
            ("https://10.0.0.1", "https://10.0.0.2/t"),
            ("https://10.0.0.1", "https://10.0.0.1:8443/t"),
            ("https://[fd00::1]:5000", "https://[fd00::1]/t"),
        ] {
            assert!(!is_allowed(upstream, realm), "{upstream} {realm}");
        }
    }

    #[test]
    fn a_listed_host_may_be_anywhere_but_not_weaker() {
        let upstream = "https://harbor.corp.lan".parse().unwrap();
        let listed = ["sso.other.lan".parse().unwrap(), "10.0.0.9:8443".parse().unwrap()];
        let check = |realm| check(&upstream, &listed, realm);
        assert!(check("https://sso.other.lan:444/t").is_ok());
        assert!(check("https://10.0.0.9:8443/t").is_ok());
        for refused in [
            "https://10.0.0.9/t",
            "https://x.sso.other.lan/t",
            "http://sso.other.lan/t",
            "https://u@sso.other.lan/t",
        ] {
            assert!(check(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_refusal_shows_no_more_of_the_realm_than_its_origin() {
        let upstream = "https://up.test".parse().unwrap();
        let refusal = check(&upstream, &[], "https://u:secret@evil.test/secret?secret#secret");
        let Err(UpstreamError::Forbidden { target, .. }) = refusal else { panic!("{refusal:?}") };
        assert_eq!(target, "https://evil.test");
    }
}
