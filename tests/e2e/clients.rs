//! Each client pulls cold, warm, without the upstream, and after a restart without the upstream.

use crate::support::containerd::Containerd;
use crate::support::dockerd::Dockerd;
use crate::support::image::{GREETING, Image};
use crate::support::larder::Larder;
use crate::support::registry::{Guard, Registry};
use crate::support::skopeo::Skopeo;
use crate::support::tools::requires;
use crate::support::traffic::{Kind, Request};
use crate::support::work::Work;

/// The mirror door: dockerd says nothing about which registry it means.
#[test]
fn dockerd_pulls_through_its_mirror_and_runs_what_it_pulled() {
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
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let dockerd = Dockerd::mirrored_by(&work, &larder.address());

    pulls_survive_the_upstream(
        &image,
        larder,
        upstream,
        || dockerd.pull(&image),
        || {
            let said = dockerd.run(&image, &["cat", "/etc/os-release", "/larder-e2e"])?;
            assert!(said.contains("ID=debian") && said.ends_with(GREETING), "{said}");
            dockerd.forget(&image)
        },
    );
}

/// The `ns=` door.
#[test]
fn containerd_pulls_by_its_hosts_file() {
    let test = requires!("root", "containerd", "ctr", "docker-registry", "curl");
    let image = Image::debian();
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let containerd = Containerd::start(&work).mirrored_by(&larder.address());

    pulls_survive_the_upstream(
        &image,
        larder,
        upstream,
        || containerd.pull(&image),
        || containerd.forget(&image),
    );
}

/// The path-prefix door, which is also podman's, CRI-O's and buildah's, by registries.conf.
#[test]
fn skopeo_pulls_by_a_path_that_names_the_registry() {
    let test = requires!("skopeo", "docker-registry", "curl");
    let image = Image::debian();
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let skopeo = Skopeo::new(&work, &format!("{}/docker.io", larder.address()));

    pulls_survive_the_upstream(
        &image,
        larder,
        upstream,
        || skopeo.pull(&image),
        || {
            skopeo.forget();
            Ok(())
        },
    );
}

/// `forget` makes the client drop what it pulled, after a look at it.
fn pulls_survive_the_upstream(
    image: &Image,
    mut larder: Larder,
    mut upstream: Registry,
    pull: impl Fn() -> Result<(), String>,
    forget: impl Fn() -> Result<(), String>,
) {
    upstream.forget();

    pull().expect("a cold pull succeeds");
    let asked = upstream.requests();
    for digest in image.blobs() {
        let times = asked.iter().filter(|request| is_get_of(request, digest)).count();
        assert_eq!(times, 1, "{digest} is fetched once: {asked:#?}");
    }
    larder.verified_blobs();
    forget().expect("the client drops its copy");

    upstream.forget();
    pull().expect("a warm pull succeeds");
    let asked = upstream.requests();
    let content = |request: &&Request| matches!(request.kind, Kind::Blob | Kind::ManifestByDigest);
    assert_eq!(asked.iter().filter(content).count(), 0, "all is in the cache: {asked:#?}");
    forget().expect("the client drops its copy");

    upstream.stop();
    pull().expect("a pull succeeds while the upstream is down");
    forget().expect("the client drops its copy");

    larder.restart();
    pull().expect("a pull succeeds after a restart while the upstream is down");
    forget().expect("the client drops its copy");
}

fn is_get_of(request: &Request, digest: &str) -> bool {
    request.method == "GET" && request.path.contains(digest)
}
