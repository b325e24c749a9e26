//! Blobs that the registry has are not sent to it again: the bytes are counted on the way there.

use super::{REPOSITORY, arrived, empty, push_with_crane};
use crate::support::arrived::Reader;
use crate::support::built::{Built, SHARED_BYTES};
use crate::support::client::KINDS;
use crate::support::larder::Setup;
use crate::support::registry::{DISTRIBUTION, Guard};
use crate::support::relay::Relay;
use crate::support::tools::{self, present, requires};
use crate::support::wait;
use crate::support::way::{Door, Way};
use crate::support::work::Work;

#[test]
fn dockerd_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("dockerd");
}

#[test]
fn containerd_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("containerd");
}

#[test]
fn containerd_pull_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("containerd-pull");
}

#[test]
fn podman_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("podman");
}

#[test]
fn buildah_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("buildah");
}

#[test]
fn skopeo_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("skopeo");
}

#[test]
fn crane_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("crane");
}

#[test]
fn oras_uploads_only_the_layers_that_changed() {
    uploads_only_what_changed("oras");
}

fn uploads_only_what_changed(name: &str) {
    let kind = KINDS.into_iter().find(|client| client.name == name).expect("it is in the table");
    let test = format!("{}_uploads_only_the_layers_that_changed", name.replace('-', "_"));
    if !present(&test, &[kind.tools, DISTRIBUTION]) {
        return;
    }
    let work = Work::new(&test);
    let [old, new] = ["2.3.0", "2.4.0"].map(|tag| Built::version(&work, tag));
    let upstream = empty(&work, &Guard::Open);
    let relay = Relay::to(upstream.port);
    let way = Way::plain(Door::Mirror, wait::free_port());
    let url = relay.url();
    let _larder = Setup { way: Some(way), pushes: true, ..Setup::new(&work, &url) }.start();
    let client = (kind.start)(&work, &way);

    client.push(&way, &old, REPOSITORY).expect("the first version is pushed");
    let all = relay.sent();
    assert!(all > SHARED_BYTES, "{all} bytes were sent");
    client.push(&way, &new, REPOSITORY).expect("the second version is pushed");
    let changed = relay.sent() - all;

    let url = upstream.url();
    let reader = Reader { work: &work, registry: &url, login: None };
    let image = reader.image(REPOSITORY, &new);
    let own = reader.length(&format!("{REPOSITORY}/blobs/{}", image.layers[2]));
    println!(
        "client: {name}: {all} bytes for 2.3.0, {changed} for 2.4.0, of which one layer is {own}"
    );
    assert!((own..own + TALK_BYTES).contains(&changed), "{changed} bytes, the layer is {own}");
}

/// The registry takes the layers from the one repository to the other by itself.
#[test]
fn crane_copies_from_repository_to_repository_without_a_layer_on_the_way() {
    let work = Work::new(requires!(&["crane"], DISTRIBUTION));
    let built = Built::version(&work, "2.3.0");
    let upstream = empty(&work, &Guard::Open);
    let relay = Relay::to(upstream.port);
    let url = relay.url();
    let larder = Setup { pushes: true, ..Setup::new(&work, &url) }.start();
    push_with_crane(&work, &larder.by(Door::Mirror), &built, REPOSITORY);
    let all = relay.sent();

    let place = larder.by(Door::Prefix).place();
    let [from, to] = [REPOSITORY, "library/other"].map(|it| format!("{place}/{it}:2.3.0"));
    let mut copy = tools::command("crane");
    tools::run(copy.env("DOCKER_CONFIG", work.data()).args(["copy", &from, &to]))
        .expect("crane copies an image");

    arrived(&work, &upstream, &built, "library/other");
    let talk = relay.sent() - all;
    assert!(talk < TALK_BYTES, "{talk} bytes were sent");
}

/// docker names where it has pushed the layers before; what it does not name, Larder knows.
#[test]
fn docker_pushes_to_another_repository_without_a_layer_on_the_way() {
    let tools = &["root", "dockerd", "docker", "containerd", "ctr", "runc"];
    let work = Work::new(requires!(tools, DISTRIBUTION));
    let built = Built::version(&work, "2.3.0");
    let upstream = empty(&work, &Guard::Open);
    let relay = Relay::to(upstream.port);
    let way = Way::plain(Door::Mirror, wait::free_port());
    let url = relay.url();
    let _larder = Setup { way: Some(way), pushes: true, ..Setup::new(&work, &url) }.start();
    let docker = (KINDS[0].start)(&work, &way);
    docker.push(&way, &built, REPOSITORY).expect("it is pushed");
    let all = relay.sent();

    docker.push(&way, &built, "library/other").expect("it is pushed again");

    arrived(&work, &upstream, &built, "library/other");
    let talk = relay.sent() - all;
    assert!(talk < TALK_BYTES, "{talk} bytes were sent");
}

/// For everything that is no layer: questions, the configuration, the manifest.
const TALK_BYTES: u64 = 64 << 10;
