//! The same set-up without Larder: when one of these fails, Larder is not what is broken.

use crate::support::certificates::Certificates;
use crate::support::containerd::Containerd;
use crate::support::curl::Curl;
use crate::support::dockerd::Dockerd;
use crate::support::image::{GREETING, Image};
use crate::support::registry::{Guard, Registry};
use crate::support::skopeo::Skopeo;
use crate::support::token_server::{TokenServer, USER, users};
use crate::support::tools::requires;
use crate::support::traffic::Kind;
use crate::support::work::Work;

/// Also shows that containers can start on this machine.
#[test]
fn control_dockerd_pulls_straight_from_the_registry() {
    let test = requires!(
        "root",
        "dockerd",
        "docker",
        "containerd",
        "ctr",
        "runc",
        "docker-registry",
        "curl"
    );
    let image = Image::debian();
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let dockerd = Dockerd::mirrored_by(&work, &format!("127.0.0.1:{}", upstream.port));

    dockerd.pull(&image).expect("dockerd pulls");
    let said = dockerd.run(&image, &["cat", "/larder-e2e"]).expect("a container starts");
    assert_eq!(said, GREETING);
    dockerd.forget(&image).expect("dockerd removes the image");
}

/// Also shows that the access log tells requests apart by kind.
#[test]
fn control_containerd_pulls_straight_from_the_registry() {
    let test = requires!("root", "containerd", "ctr", "docker-registry", "curl");
    let image = Image::debian();
    let work = Work::new(test);
    let mut upstream = Registry::start(&work, &Guard::Open);
    let mirror = format!("127.0.0.1:{}", upstream.port);
    let containerd = Containerd::start(&work).mirrored_by(&mirror);
    upstream.forget();

    containerd.pull(&image).expect("containerd pulls");
    let asked = upstream.requests();
    let count = |kind: Kind| asked.iter().filter(|request| request.kind == kind).count();
    assert!(count(Kind::ManifestByTag) >= 1, "{asked:#?}");
    assert!(count(Kind::ManifestByDigest) >= 1, "{asked:#?}");
    assert_eq!(count(Kind::Blob), image.blobs().count(), "{asked:#?}");
    containerd.forget(&image).expect("containerd removes the image");
}

#[test]
fn control_skopeo_pulls_from_a_registry_behind_htpasswd() {
    let test = requires!("skopeo", "docker-registry", "curl", "htpasswd");
    let image = Image::debian();
    let work = Work::new(test);
    let file = users(&work, USER, "right");
    let upstream = Registry::start(&work, &Guard::Htpasswd { file: &file });
    let from = format!("127.0.0.1:{}", upstream.port);

    let wrong = Skopeo::new(&work, &from).logged_in(USER, "wrong").pull(&image);
    assert!(wrong.is_err_and(|error| error.contains("unauthorized")));
    let right = Skopeo::new(&work, &from).logged_in(USER, "right").pull(&image);
    right.expect("the right password is taken");
}

#[test]
fn control_skopeo_pulls_from_a_registry_behind_a_token_server() {
    let test =
        requires!("skopeo", "docker-registry", "curl", "htpasswd", "openssl", "token-server");
    let image = Image::debian();
    let work = Work::new(test);
    let certificates = Certificates::make(&work);
    let file = users(&work, USER, "right");
    let server = TokenServer::start(&work, &file, &certificates);
    let guard = Guard::Tokens { server: &server, certificates: &certificates };
    let upstream = Registry::start(&work, &guard);
    let from = format!("127.0.0.1:{}", upstream.port);

    let ping = Curl::get(&format!("{}/v2/", upstream.url()));
    let ping = ping.arg("--cacert").arg(&certificates.ca).send();
    assert_eq!(ping.status, 401, "{ping:?}");
    assert!(!server.was_asked());
    let wrong = Skopeo::new(&work, &from).logged_in(USER, "wrong").pull(&image);
    assert!(wrong.is_err_and(|error| error.contains("unauthorized")));
    let right = Skopeo::new(&work, &from).logged_in(USER, "right").pull(&image);
    right.expect("the right password is taken");
    assert!(server.was_asked());
}
