//! Larder's own credential opens the upstream; clients need none, and a wrong one leaves nothing.

use std::fs;

use crate::support::client::Client as _;
use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::one_shot::{self, OneShot};
use crate::support::registry::Registry;
use crate::support::token_server::{Guarded, HTPASSWD, TOKENS, USER, behind_htpasswd};
use crate::support::tools::requires;
use crate::support::way::{Door, Wanted};
use crate::support::work::Work;

#[test]
fn a_client_without_credentials_pulls_from_an_upstream_behind_htpasswd() {
    let work = Work::new(requires!(&["skopeo"], HTPASSWD));
    let upstream = behind_htpasswd(&work, RIGHT);
    let larder = Larder::mirror(&work, &upstream.url(), &basic(RIGHT));

    pull(&work, &larder).expect("Larder's credential is taken");
}

#[test]
fn a_wrong_password_at_an_upstream_behind_htpasswd_is_named_and_caches_nothing() {
    let work = Work::new(requires!(&["skopeo"], HTPASSWD));
    let upstream = behind_htpasswd(&work, RIGHT);
    let larder = Larder::mirror(&work, &upstream.url(), &basic(WRONG));

    is_refused_and_named(&work, &larder, &upstream);
}

#[test]
fn a_client_without_credentials_pulls_from_an_upstream_behind_a_token_server() {
    let work = Work::new(requires!(&["skopeo"], TOKENS));
    let guarded = Guarded::by_tokens(&work, RIGHT);
    let larder = Larder::mirror(&work, &guarded.upstream.url(), &trusting(&guarded, RIGHT));

    pull(&work, &larder).expect("Larder's credential is taken");
    assert!(guarded.server.was_asked());
}

#[test]
fn a_wrong_password_at_a_token_server_is_named_and_caches_nothing() {
    let work = Work::new(requires!(&["skopeo"], TOKENS));
    let guarded = Guarded::by_tokens(&work, RIGHT);
    let larder = Larder::mirror(&work, &guarded.upstream.url(), &trusting(&guarded, WRONG));

    is_refused_and_named(&work, &larder, &guarded.upstream);
    assert!(guarded.server.was_asked());
}

/// An upstream that answers 401 chooses the realm; the operator chooses who gets the password.
#[test]
fn a_token_server_that_is_not_configured_is_never_given_the_password() {
    let work = Work::new(requires!(&["skopeo"], TOKENS));
    let guarded = Guarded::by_tokens(&work, RIGHT);
    let extra = format!("{}\nca = \"{}\"", basic(RIGHT), guarded.certificates.ca.display());
    let larder = Larder::mirror(&work, &guarded.upstream.url(), &extra);

    is_refused_and_named(&work, &larder, &guarded.upstream);
    assert!(!guarded.server.was_asked());
}

fn basic(password: &str) -> String {
    format!("auth = {{ type = \"basic\", username = \"{USER}\", password = \"{password}\" }}")
}

/// The same for the token server, too.
fn trusting(guarded: &Guarded, password: &str) -> String {
    format!(
        "{}\nca = \"{}\"\ntoken_hosts = [\"127.0.0.1:{}\"]",
        basic(password),
        guarded.certificates.ca.display(),
        guarded.server.port,
    )
}

fn pull(work: &Work, larder: &Larder) -> Result<(), String> {
    let [image, _] = Image::small();
    let skopeo = OneShot::new(work, one_shot::skopeo);
    skopeo.pull(&larder.by(Door::Prefix), &Wanted::by_tag(&image))
}

fn is_refused_and_named(work: &Work, larder: &Larder, upstream: &Registry) {
    pull(work, larder).expect_err("no pull without a credential that is taken");
    let [image, _] = Image::small();
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
