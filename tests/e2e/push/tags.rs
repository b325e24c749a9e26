//! A tag that is pushed anew means the new image at once, through every door; and what two push at
//! once is whole.

use std::fs;

use super::{REPOSITORY, arrived, crane, empty, open, push_with_crane};
use crate::support::built::Built;
use crate::support::client::{Client as _, KINDS};
use crate::support::curl::Curl;
use crate::support::hash;
use crate::support::image::Image;
use crate::support::larder::{Larder, Setup};
use crate::support::one_shot::OneShot;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::requires;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

/// The registry is not asked what the tag means: the change by the push counts.
#[test]
fn a_tag_that_is_pushed_again_is_the_new_image_by_every_door() {
    let work = Work::new(requires!(&["crane", "containerd-pull"], DISTRIBUTION));
    let [old, new] = ["2.3.0", "2.4.0"].map(|version| Built::tagged(&work, version, "stable"));
    let upstream = empty(&work, &Guard::Open);
    let larder = believing_tags(&work, &upstream);
    let client = KINDS.into_iter().find(|client| client.name == "containerd-pull");
    let client = client.expect("it is in the table");
    let pull = |image: &Image| {
        for &door in client.doors {
            let way = larder.by(door);
            let pulled = (client.start)(&work, &way).pull(&way, &Wanted::by_tag(image));
            pulled.unwrap_or_else(|error| panic!("by {way}: {error}"));
        }
    };

    let mut doors = client.doors.iter().cycle();
    for built in [&old, &new, &old, &new] {
        let door = *doors.next().expect("there is no end of doors");
        let by = if matches!(door, Door::Ns | Door::Registry) { Door::Mirror } else { door };
        push_with_crane(&work, &larder.by(by), built, REPOSITORY);
        let image = arrived(&work, &upstream, built, REPOSITORY);
        for url in urls(&larder, &format!("{REPOSITORY}/manifests/stable")) {
            for accept in ["application/vnd.oci.image.manifest.v1+json", "*/*"] {
                let accept = format!("Accept: {accept}");
                let file = work.data().join("manifest");
                let reply = Curl::get(&url).arg("-H").arg(&accept).to(&file).send();
                assert_eq!(reply.status, 200, "{url}: {reply:?}");
                assert_eq!(hash::of_file(&file), image.manifest, "{url}, {accept}");
                let reply = Curl::get(&url).arg("-I").arg("-H").arg(accept).send();
                assert_eq!(reply.header("docker-content-digest"), image.manifest, "{url}");
            }
        }
        pull(&image);
    }
}

/// A list that was asked for a moment ago has what has been pushed since.
#[test]
fn a_list_of_tags_has_what_was_pushed_by_every_door() {
    let work = Work::new(requires!(&["crane"], DISTRIBUTION));
    let upstream = empty(&work, &Guard::Open);
    let larder = believing_tags(&work, &upstream);
    let mut pushed = Vec::new();
    for version in ["2.3.0", "2.4.0"] {
        push_with_crane(&work, &larder.by(Door::Host), &Built::version(&work, version), REPOSITORY);
        pushed.push(version);
        for url in urls(&larder, &format!("{REPOSITORY}/tags/list")) {
            let file = work.data().join("list");
            let reply = Curl::get(&url).to(&file).send();
            assert_eq!(reply.status, 200, "{url}: {reply:?}");
            let text = fs::read(&file).expect("curl wrote it");
            let list: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
            let tags = list["tags"].as_array().expect("it is a list");
            let mut tags: Vec<&str> = tags.iter().filter_map(|tag| tag.as_str()).collect();
            // In no order that this registry would keep.
            tags.sort_unstable();
            assert_eq!(tags, pushed, "{url}");
        }
    }
}

#[test]
fn two_clients_push_the_same_image_under_the_same_tag_at_once() {
    let work = Work::new(requires!(&["crane"], DISTRIBUTION));
    let mut upstream = empty(&work, &Guard::Open);
    let larder = open(&work, &upstream, "");
    for version in ["1", "2", "3"] {
        let built = Built::tagged(&work, version, "edge");
        let [one, other] = [crane(&work), crane(&work)];
        std::thread::scope(|scope| {
            for (client, door) in [(one, Door::Mirror), (other, Door::Prefix)] {
                let (way, built) = (larder.by(door), &built);
                scope.spawn(move || push_beside_another(&client, &way, built));
            }
        });
        let image = arrived(&work, &upstream, &built, REPOSITORY);
        larder.verified_blobs();
        assert!(larder.uploads().is_empty(), "{:?}", larder.uploads());

        upstream.stop();
        let way = larder.by(Door::Prefix);
        crane(&work).pull(&way, &Wanted::by_tag(&image)).expect("it is cached");
        upstream.start_again();
    }
}

/// The last push has the tag, at the registry and here; either of the two may be the last.
#[test]
fn two_clients_that_push_two_images_under_one_tag_leave_one_of_them() {
    let work = Work::new(requires!(&["crane"], DISTRIBUTION));
    let upstream = empty(&work, &Guard::Open);
    let larder = believing_tags(&work, &upstream);
    for _ in 0..5 {
        let two = ["2.3.0", "2.4.0"].map(|version| Built::tagged(&work, version, "edge"));
        std::thread::scope(|scope| {
            for built in &two {
                let (client, way) = (crane(&work), larder.by(Door::Mirror));
                scope.spawn(move || push_beside_another(&client, &way, built));
            }
        });
        let path = format!("{REPOSITORY}/manifests/edge");
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let digest = |url: &str| {
            Curl::get(url).arg("-I").arg("-H").arg(accept).send().header("docker-content-digest")
        };
        let there = digest(&format!("{}/v2/{path}", upstream.url()));
        for url in urls(&larder, &path) {
            assert_eq!(digest(&url), there, "HEAD {url}");
            let file = work.data().join("manifest");
            assert_eq!(Curl::get(&url).arg("-H").arg(accept).to(&file).send().status, 200);
            assert_eq!(hash::of_file(&file), there, "GET {url}");
        }
    }
}

/// docker-registry writes again, in place, that a repository has a layer, when it is sent once
/// more. It refuses a manifest that it checks in that moment, with or without Larder, and takes it
/// the next time.
fn push_beside_another(client: &OneShot, way: &Way<'_>, built: &Built) {
    let Err(refused) = client.push(way, built, REPOSITORY) else { return };
    assert!(refused.contains("DIGEST_INVALID: provided digest did not match"), "{refused}");
    client.push(way, built, REPOSITORY).expect("the other one has ended, or is about to");
}

/// For an hour it would not ask the registry what a tag means.
fn believing_tags(work: &Work, upstream: &Registry) -> Larder {
    let url = upstream.url();
    Setup { pushes: true, tag_ttl: "1h", ..Setup::new(work, &url) }.start()
}

/// A path under `/v2/`, by each door.
fn urls(larder: &Larder, path: &str) -> [String; 5] {
    let (port, name) = (larder.port, "docker.io");
    [
        format!("http://127.0.0.1:{port}/v2/{path}"),
        format!("http://127.0.0.1:{port}/v2/{name}/{path}"),
        format!("http://127.0.0.1:{port}/{name}/v2/{path}"),
        format!("http://127.0.0.1:{port}/v2/{path}?ns={name}"),
        format!("http://localhost:{port}/v2/{path}"),
    ]
}
