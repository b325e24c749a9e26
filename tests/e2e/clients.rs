//! Each client pulls cold, warm, without the upstream, and after a restart without the upstream: by
//! every door that it can use, over plain HTTP and over TLS.

use crate::support::certificates::Certificates;
use crate::support::client::{BUILDKIT, Client, KINDS};
use crate::support::dockerd::Dockerd;
use crate::support::image::{GREETING, Image};
use crate::support::larder::{Larder, Setup};
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{present, requires};
use crate::support::traffic::{Kind, Request};
use crate::support::wait;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

#[test]
fn dockerd_pulls_by_every_door() {
    pulls_by_every_door("dockerd");
}

#[test]
fn containerd_pulls_by_every_door() {
    pulls_by_every_door("containerd");
}

#[test]
fn containerd_pull_pulls_by_every_door() {
    pulls_by_every_door("containerd-pull");
}

#[test]
fn newest_containerd_pulls_by_every_door() {
    pulls_by_every_door("newest-containerd");
}

#[test]
fn buildkit_pulls_by_every_door() {
    pulls_by_every_door("buildkit");
}

#[test]
fn regctl_pulls_by_every_door() {
    pulls_by_every_door("regctl");
}

#[test]
fn podman_pulls_by_every_door() {
    pulls_by_every_door("podman");
}

#[test]
fn buildah_pulls_by_every_door() {
    pulls_by_every_door("buildah");
}

#[test]
fn skopeo_pulls_by_every_door() {
    pulls_by_every_door("skopeo");
}

#[test]
fn crane_pulls_by_every_door() {
    pulls_by_every_door("crane");
}

#[test]
fn oras_pulls_by_every_door() {
    pulls_by_every_door("oras");
}

/// An image that comes through Larder starts.
#[test]
fn dockerd_runs_what_it_pulled() {
    let dockerd = &["root", "dockerd", "docker", "containerd", "ctr", "runc"];
    let work = Work::new(requires!(dockerd, DISTRIBUTION));
    let image = Image::debian();
    let upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let way = larder.by(Door::Mirror);
    let dockerd = Dockerd::start(&work, &way);

    for time in ["cold", "warm"] {
        let command = ["cat", "/etc/os-release", "/larder-e2e"];
        let said = dockerd.pull_and_run(&way, &Wanted::by_tag(&image), &command);
        let said = said.unwrap_or_else(|error| panic!("{time}: {error}"));
        assert!(said.contains("ID=debian") && said.ends_with(GREETING), "{said}");
    }
}

fn pulls_by_every_door(name: &str) {
    let mut kinds = KINDS.into_iter().chain([BUILDKIT]);
    let client = kinds.find(|client| client.name == name).expect("it is in the table");
    let test = format!("{}_pulls_by_every_door", name.replace('-', "_"));
    if !present(&test, &[client.tools, DISTRIBUTION, &["openssl"]]) {
        return;
    }
    let work = Work::new(&test);
    let certificates = Certificates::make(&work);
    let mut upstream = Registry::start(&work, &Guard::Open);
    let (plain, tls) = (wait::free_port(), wait::free_port());
    let ways: Vec<Way<'_>> = client
        .doors
        .iter()
        .flat_map(|&door| {
            let over_tls = Way::plain(door, tls).over_tls(&certificates);
            [Way::plain(door, plain), over_tls]
        })
        .collect();

    let images = Image::small();
    let of_here = [Wanted::by_tag(&images[0])];
    // A multi-platform index takes as many pulls again, and once is enough.
    let of_all = [of_here[0], Wanted::by_tag(&images[1]), Wanted::by_digest(&images[0])];
    for (n, way) in ways.iter().enumerate() {
        let wanted = if n == 0 { &of_all[..] } else { &of_here[..] };
        println!("by {way}");
        let program = (client.start)(&work, way);
        let larder = Setup { way: Some(*way), ..Setup::new(&work, &upstream.url()) }.start();
        survives_the_upstream(&*program, way, wanted, larder, &mut upstream);
        upstream.start_again();
    }
    let ways: Vec<String> = ways.iter().map(ToString::to_string).collect();
    println!("client: {name}: {}; by {}", client.version(), ways.join(", "));
}

/// Ends with the upstream stopped.
fn survives_the_upstream(
    client: &dyn Client,
    way: &Way<'_>,
    wanted: &[Wanted<'_>],
    mut larder: Larder,
    upstream: &mut Registry,
) {
    let pull = |when: &str| {
        for wanted in wanted {
            let pulled = client.pull(way, wanted);
            pulled.unwrap_or_else(|error| panic!("by {way}, {when}: {wanted}: {error}"));
        }
    };
    upstream.forget();

    pull("cold");
    let asked = upstream.requests();
    let times = |digest: &str| asked.iter().filter(|request| is_get_of(request, digest)).count();
    for Wanted { image, .. } in wanted {
        for digest in image.digests() {
            assert_eq!(times(digest), 1, "by {way}: {digest} is fetched once: {asked:#?}");
        }
    }
    larder.verified_blobs();

    upstream.forget();
    pull("warm");
    let asked = upstream.requests();
    let content = |request: &&Request| matches!(request.kind, Kind::Blob | Kind::ManifestByDigest);
    assert_eq!(asked.iter().filter(content).count(), 0, "by {way}: it is cached: {asked:#?}");

    upstream.stop();
    pull("while the upstream is down");

    larder.restart();
    pull("after a restart, while the upstream is down");
}

fn is_get_of(request: &Request, digest: &str) -> bool {
    request.method == "GET" && request.path.contains(digest)
}
