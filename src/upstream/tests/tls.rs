//! Whose certificates are believed, and what options are refused.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::sites::reply;
use super::*;
use crate::http::ClientIdentity;
use crate::upstream::SetupError;

fn issue(name: &str) -> (TlsAcceptor, Vec<u8>) {
    serving(rcgen::generate_simple_self_signed([name.to_owned()]).unwrap())
}

fn serving(issued: CertifiedKey<KeyPair>) -> (TlsAcceptor, Vec<u8>) {
    let CertifiedKey { cert, signing_key } = issued;
    let key = signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem().into_bytes())
}

/// A server that wants a client's certificate, its own certificate, and the client's.
fn issue_mutual(name: &str, client: &CertifiedKey<KeyPair>) -> (TlsAcceptor, Vec<u8>) {
    let CertifiedKey::<KeyPair> { cert, signing_key } =
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem().into_bytes())
}

/// The certificate that identifies Larder to its registry is not for the storage that it redirects
/// to.
#[tokio::test(start_paused = true)]
async fn a_client_certificate_is_shown_to_the_upstream_and_to_nobody_else() {
    let client = rcgen::generate_simple_self_signed(["larder".to_owned()]).unwrap();
    let identity = ClientIdentity {
        cert_pem: client.cert.pem().into_bytes(),
        key_pem: client.signing_key.serialize_pem().into_bytes().into(),
    };
    let network = world();
    let (own, mut pem) = issue_mutual("up.example.com", &client);
    let (elsewhere, elsewhere_pem) = issue_mutual("cdn.test", &client);
    pem.extend(elsewhere_pem);
    network.serve_tls("10.0.0.1:443", own, |seen| {
        if seen.target.contains("/blobs/") {
            return reply(307, &[("Location", "https://cdn.test/x")], "");
        }
        reply(200, &[], "manifest")
    });
    network.serve_tls("1.0.0.3:443", elsewhere, |_| reply(200, &[], "layer"));

    let with = UpstreamOptions { client_identity: Some(identity), ..https(Some(pem.clone())) };
    let with = upstream(&network, &with);
    assert!(ask(&with, &manifest("a")).await.is_ok());
    let error = pull(&with).await.unwrap_err();
    assert!(
        matches!(&error, UpstreamError::Unreachable { host, .. } if host == "cdn.test"),
        "{error:?}"
    );
    assert_eq!(network.count("cdn.test"), 0);

    let without = upstream(&network, &https(Some(pem)));
    assert!(ask(&without, &manifest("a")).await.is_err());
}

fn https(ca_pem: Option<Vec<u8>>) -> UpstreamOptions {
    UpstreamOptions { url: "https://up.example.com".parse().unwrap(), ca_pem, ..options() }
}

#[tokio::test(start_paused = true)]
async fn a_given_ca_is_believed_and_nobody_else_is() {
    let network = world();
    let (acceptor, pem) = issue("up.example.com");
    network.serve_tls("10.0.0.1:443", acceptor, |_| reply(200, &[], "layer"));
    let (_, other_pem) = issue("up.example.com");

    assert_eq!(pull(&upstream(&network, &https(Some(pem)))).await.unwrap(), "layer");

    for ca_pem in [None, Some(other_pem)] {
        let Ok(upstream) = Upstream::new(&https(ca_pem), &egress(&network), &Arc::default()) else {
            continue;
        };
        let error = pull(&upstream).await.unwrap_err();
        let UpstreamError::Unreachable { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.contains("certificate"), "{reason}");
    }
    assert_eq!(network.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_for_another_name_is_refused() {
    let network = world();
    let (acceptor, pem) = issue("other.example.com");
    network.serve_tls("10.0.0.1:443", acceptor, |_| reply(200, &[], "layer"));
    let error = pull(&upstream(&network, &https(Some(pem)))).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Unreachable { .. }), "{error:?}");
    assert_eq!(network.seen().len(), 0);
}

/// A certificate of yesterday or of tomorrow is not trusted either, whichever authority issued it.
#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_no_longer_valid_is_refused() {
    for (from, until, is_valid) in [(2000, 2020, false), (2900, 2999, false), (2000, 2999, true)] {
        let mut params = CertificateParams::new(["up.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let signing_key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        let (acceptor, pem) = serving(CertifiedKey { cert, signing_key });
        let network = world();
        network.serve_tls("10.0.0.1:443", acceptor, |_| reply(200, &[], "layer"));

        let pulled = pull(&upstream(&network, &https(Some(pem)))).await;

        assert_eq!(pulled.is_ok(), is_valid, "{from} to {until}: {pulled:?}");
        assert_eq!(network.seen().len(), usize::from(is_valid));
    }
}

/// A certificate as `openssl req -x509` makes it: a CA's, signed by itself, for `up.example.com`.
fn self_signed_ca(change: impl FnOnce(&mut CertificateParams)) -> CertifiedKey<KeyPair> {
    let mut params = CertificateParams::new(["up.example.com".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    CertifiedKey { cert, signing_key }
}

/// Asks a server that shows the certificate with `ca_pem` as `ca`.
async fn pull_from(shown: CertifiedKey<KeyPair>, ca_pem: Option<Vec<u8>>) -> Result<(), String> {
    let (acceptor, _) = serving(shown);
    let network = world();
    network.serve_tls("10.0.0.1:443", acceptor, |_| reply(200, &[], "layer"));
    let upstream = Upstream::new(&https(ca_pem), &egress(&network), &Arc::default());
    let upstream = upstream.map_err(|error| error.to_string())?;
    let pulled = pull(&Arc::new(upstream)).await;
    assert_eq!(network.seen().len(), usize::from(pulled.is_ok()));
    pulled.map(drop).map_err(|error| error.to_string())
}

/// Many private registries have one such certificate, which is their clients' `ca` as well.
#[tokio::test(start_paused = true)]
async fn a_self_signed_ca_is_taken_as_the_servers_certificate_if_it_is_the_given_one() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    type Change = fn(&mut CertificateParams);
    let rows: [(&str, Change, Option<&str>); 9] = [
        ("plain", |_| {}, None),
        ("path length", |it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), None),
        ("for servers", |it| it.extended_key_usages = vec![ServerAuth], None),
        ("for both", |it| it.extended_key_usages = vec![ClientAuth, ServerAuth], None),
        ("for clients", |it| it.extended_key_usages = vec![ClientAuth], Some("InvalidPurpose")),
        (
            "other name",
            |it| it.subject_alt_names = vec![rcgen::SanType::IpAddress([10, 0, 0, 1].into())],
            Some("not valid for name"),
        ),
        ("no name", |it| it.subject_alt_names.clear(), Some("not valid for")),
        ("expired", |it| it.not_after = rcgen::date_time_ymd(2020, 1, 1), Some("expired")),
        ("early", |it| it.not_before = rcgen::date_time_ymd(2999, 1, 1), Some("not valid yet")),
    ];
    for (name, change, refusal) in rows {
        let shown = self_signed_ca(change);
        let ca_pem = shown.cert.pem().into_bytes();

        let pulled = pull_from(shown, Some(ca_pem)).await;

        let said = pulled.err();
        let is_as_wanted = match (refusal, &said) {
            (None, None) => true,
            (Some(refusal), Some(said)) => said.contains(refusal),
            _ => false,
        };
        assert!(is_as_wanted, "{name}: {said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_is_not_the_given_one_is_no_servers_certificate() {
    let given = self_signed_ca(|_| {});
    let given_pem = given.cert.pem();
    // The key, the name and the time are the given one's; the certificate is not.
    let mut params = CertificateParams::new(["up.example.com".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let again = params.self_signed(&given.signing_key).unwrap();
    let key = || KeyPair::from_pem(&given.signing_key.serialize_pem()).unwrap();
    let again = CertifiedKey { cert: again, signing_key: key() };
    let issuer = Issuer::new(params.clone(), key());
    let below_key = KeyPair::generate().unwrap();
    let below = params.signed_by(&below_key, &issuer).unwrap();
    let below = CertifiedKey { cert: below, signing_key: below_key };
    let other_pem = self_signed_ca(|_| {}).cert.pem();
    for (name, shown, ca_pem) in [
        ("another with the same key", again, Some(given_pem.clone())),
        ("a CA that the given one signed", below, Some(given_pem.clone())),
        ("another is given", self_signed_ca(|_| {}), Some(other_pem.clone())),
    ] {
        let said = pull_from(shown, ca_pem.map(String::into_bytes)).await.unwrap_err();
        assert!(said.contains("`ca` has to hold this very certificate"), "{name}: {said}");
    }
    assert!(pull_from(self_signed_ca(|_| {}), None).await.is_err(), "none is given");
    let bundle = format!("{other_pem}{given_pem}");
    assert_eq!(pull_from(given, Some(bundle.into_bytes())).await, Ok(()), "one of several");
}

#[tokio::test(start_paused = true)]
async fn an_https_upstream_leads_nobody_to_http() {
    let network = world();
    let (acceptor, pem) = issue("up.example.com");
    let location = "http://cdn.test/x";
    network.serve_tls("10.0.0.1:443", acceptor, move |_| reply(307, &[("Location", location)], ""));
    network.serve(CDN, |_| reply(200, &[], "layer"));

    let error = pull(&upstream(&network, &https(Some(pem)))).await.unwrap_err();

    let UpstreamError::Forbidden { target, .. } = error else { panic!("{error:?}") };
    assert_eq!(target, "http://cdn.test");
    assert_eq!(network.dialled(), ["10.0.0.1:443"]);
}

/// A plain server on a TLS port: an answer before the handshake is no answer.
#[tokio::test(start_paused = true)]
async fn what_does_not_speak_tls_is_unreachable() {
    let network = world();
    network.serve("10.0.0.1:443", |_| reply(200, &[], "layer"));
    let (_, pem) = issue("up.example.com");
    let error = pull(&upstream(&network, &https(Some(pem)))).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::Stalled { .. } | UpstreamError::Unreachable { .. }),
        "{error:?}"
    );
}

#[test]
fn options_that_cannot_work_are_refused_by_name() {
    let network = ScriptedSites::default();
    let setup = |options: &UpstreamOptions| {
        Upstream::new(options, &egress(&network), &Arc::default()).map(|_| ()).unwrap_err()
    };
    for url in [
        "ftp://up.test",
        "http://up.test/v2/Hub",
        "http://up.test/?x",
        "http://up.test/#x",
        "http://u@up.test/",
        "http://u:p@up.test/",
        "file:///x",
    ] {
        let options = UpstreamOptions { url: url.parse().unwrap(), ..options() };
        assert_eq!(setup(&options), SetupError::Url, "{url}");
    }
    let error = setup(&https(Some(b"hello".to_vec()))).to_string();
    assert_eq!(error, "`ca` for up.example.com: there is no certificate in it");
    for username in ["a:b", "a\nb"] {
        let credential = ProxyCredential::Basic {
            username: username.to_owned(),
            password: "p".to_owned().into(),
        };
        let error = setup(&UpstreamOptions { credential, ..options() });
        assert!(matches!(error, SetupError::Username { .. }), "{username:?}");
    }
}
