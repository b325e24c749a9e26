//! Larder's own credential opens the upstream; clients need none, and a wrong one leaves nothing.

use std::fs;

use crate::support::certificates::Certificates;
use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::registry::{Guard, Registry};
use crate::support::skopeo::Skopeo;
use crate::support::token_server::{TokenServer, USER, users};
use crate::support::tools::requires;
use crate::support::work::Work;

#[test]
fn a_client_without_credentials_pulls_from_an_upstream_behind_htpasswd() {
    let test = requires!("skopeo", "docker-registry", "curl", "htpasswd");
    let image = Image::debian();
    let work = Work::new(test);
    let file = users(&work, USER, RIGHT);
    let upstream = Registry::start(&work, &Guard::Htpasswd { file: &file });
    let larder = Larder::mirror(&work, &upstream.url(), &basic(RIGHT));

    pull(&work, &larder, &image).expect("Larder's credential is taken");
}

#[test]
fn a_wrong_password_at_an_upstream_behind_htpasswd_is_named_and_caches_nothing() {
    let test = requires!("skopeo", "docker-registry", "curl", "htpasswd");
    let image = Image::debian();
    let work = Work::new(test);
    let file = users(&work, USER, RIGHT);
    let upstream = Registry::start(&work, &Guard::Htpasswd { file: &file });
    let larder = Larder::mirror(&work, &upstream.url(), &basic(WRONG));

    pull(&work, &larder, &image).expect_err("no pull without a credential that is taken");
    is_refused_and_named(&work, &larder, &upstream, &image);
}

#[test]
fn a_client_without_credentials_pulls_from_an_upstream_behind_a_token_server() {
    let test =
        requires!("skopeo", "docker-registry", "curl", "htpasswd", "openssl", "token-server");
    let image = Image::debian();
    let work = Work::new(test);
    let certificates = Certificates::make(&work);
    let file = users(&work, USER, RIGHT);
    let server = TokenServer::start(&work, &file, &certificates);
    let guard = Guard::Tokens { server: &server, certificates: &certificates };
    let upstream = Registry::start(&work, &guard);
    let extra = over_tls(&certificates, &server, RIGHT);
    let larder = Larder::mirror(&work, &upstream.url(), &extra);

    pull(&work, &larder, &image).expect("Larder's credential is taken");
    assert!(server.was_asked());
}

#[test]
fn a_wrong_password_at_a_token_server_is_named_and_caches_nothing() {
    let test =
        requires!("skopeo", "docker-registry", "curl", "htpasswd", "openssl", "token-server");
    let image = Image::debian();
    let work = Work::new(test);
    let certificates = Certificates::make(&work);
    let file = users(&work, USER, RIGHT);
    let server = TokenServer::start(&work, &file, &certificates);
    let guard = Guard::Tokens { server: &server, certificates: &certificates };
    let upstream = Registry::start(&work, &guard);
    let extra = over_tls(&certificates, &server, WRONG);
    let larder = Larder::mirror(&work, &upstream.url(), &extra);

    pull(&work, &larder, &image).expect_err("no pull without a credential that is taken");
    is_refused_and_named(&work, &larder, &upstream, &image);
    assert!(server.was_asked());
}

/// An upstream that answers 401 chooses the realm; the operator chooses who gets the password.
#[test]
fn a_token_server_that_is_not_configured_is_never_given_the_password() {
    let test =
        requires!("skopeo", "docker-registry", "curl", "htpasswd", "openssl", "token-server");
    let image = Image::debian();
    let work = Work::new(test);
    let certificates = Certificates::make(&work);
    let file = users(&work, USER, RIGHT);
    let server = TokenServer::start(&work, &file, &certificates);
    let guard = Guard::Tokens { server: &server, certificates: &certificates };
    let upstream = Registry::start(&work, &guard);
    let extra = format!("{}\nca = \"{}\"", basic(RIGHT), certificates.ca.display());
    let larder = Larder::mirror(&work, &upstream.url(), &extra);

    pull(&work, &larder, &image).expect_err("no token, no pull");
    is_refused_and_named(&work, &larder, &upstream, &image);
    assert!(!server.was_asked());
}

fn basic(password: &str) -> String {
    format!("auth = {{ type = \"basic\", username = \"{USER}\", password = \"{password}\" }}")
}

fn over_tls(certificates: &Certificates, server: &TokenServer, password: &str) -> String {
    format!(
        "{}\nca = \"{}\"\ntoken_hosts = [\"127.0.0.1:{}\"]",
        basic(password),
        certificates.ca.display(),
        server.port,
    )
}

fn pull(work: &Work, larder: &Larder, image: &Image) -> Result<(), String> {
    Skopeo::new(work, &format!("{}/docker.io", larder.address())).pull(image)
}

fn is_refused_and_named(work: &Work, larder: &Larder, upstream: &Registry, image: &Image) {
    let body = work.file("refusal.json", "");
    let tag = format!("{}/manifests/{}", image.repository, image.tag);
    let reply = Curl::get(&larder.url(&tag)).to(&body).send();
    let text = fs::read_to_string(&body).expect("curl wrote the body");

    assert!((400..600).contains(&reply.status), "{reply:?}");
    assert!(text.contains(&format!("127.0.0.1:{}", upstream.port)), "{text}");
    assert!(!text.contains(WRONG) && !larder.log().contains(WRONG), "a password was told");
    assert_eq!(larder.verified_blobs().len(), 0);
    assert_eq!(larder.fills().len(), 0);
}

const RIGHT: &str = "right-8c41";
const WRONG: &str = "wrong-f07b";
