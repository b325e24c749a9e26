//! The same set-up without Larder: when one of these fails, Larder is not what is broken.

use crate::support::client::{Client as _, KINDS};
use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::one_shot::{self, OneShot};
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::token_server::{Guarded, HTPASSWD, TOKENS, USER, behind_htpasswd};
use crate::support::tools::{present, requires};
use crate::support::traffic::Kind;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

/// Also shows that the access log tells requests apart by kind.
#[test]
fn control_every_client_pulls_straight_from_the_registry() {
    let test = requires!(DISTRIBUTION);
    let images = Image::small();
    for client in KINDS.into_iter().filter(|client| present(test, &[client.tools])) {
        let work = Work::new(test);
        let mut upstream = Registry::start(&work, &Guard::Open);
        let way = Way::plain(Door::Mirror, upstream.port);
        let program = (client.start)(&work, &way);
        upstream.forget();
        for image in &images {
            let pulled = program.pull(&way, &Wanted::by_tag(image));
            pulled.unwrap_or_else(|error| panic!("{}: {error}", client.name));
        }

        let asked = upstream.requests();
        let count = |kind: Kind| asked.iter().filter(|request| request.kind == kind).count();
        assert!(count(Kind::ManifestByTag) >= 1, "{}: {asked:#?}", client.name);
        assert!(count(Kind::ManifestByDigest) >= 1, "{}: {asked:#?}", client.name);
        let blobs = images.iter().map(|image| image.blobs().count()).sum();
        assert!(count(Kind::Blob) >= blobs, "{}: {asked:#?}", client.name);
    }
}

#[test]
fn control_skopeo_pulls_from_a_registry_behind_htpasswd() {
    let work = Work::new(requires!(&["skopeo"], HTPASSWD));
    lets_in_who_has_the_password(&work, &behind_htpasswd(&work, "right"));
}

#[test]
fn control_skopeo_pulls_from_a_registry_behind_a_token_server() {
    let work = Work::new(requires!(&["skopeo"], TOKENS));
    let Guarded { certificates, server, upstream } = &Guarded::by_tokens(&work, "right");

    let ping = Curl::get(&format!("{}/v2/", upstream.url()));
    let ping = ping.arg("--cacert").arg(&certificates.ca).send();
    assert_eq!(ping.status, 401, "{ping:?}");
    assert!(!server.was_asked());
    lets_in_who_has_the_password(&work, upstream);
    assert!(server.was_asked());
}

fn lets_in_who_has_the_password(work: &Work, upstream: &Registry) {
    let [image, _] = Image::small();
    let way = Way::plain(Door::Mirror, upstream.port);
    let pull = |password: &str| {
        let skopeo = OneShot::new(work, one_shot::skopeo);
        let skopeo = skopeo.with(format!("--src-creds={USER}:{password}"));
        skopeo.pull(&way, &Wanted::by_tag(&image))
    };

    assert!(pull("wrong").is_err_and(|error| error.contains("unauthorized")));
    pull("right").expect("the right password is taken");
}
