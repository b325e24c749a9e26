//! Larder reports a blob as existing only if the registry has it in that very repository: else
//! clients would leave out a layer, and the registry would refuse their image.

use std::fs;
use std::path::{Path, PathBuf};

use super::{REPOSITORY, arrived, crane, empty, open, push_with_crane};
use crate::support::built::Built;
use crate::support::client::{Client as _, KINDS};
use crate::support::curl::Curl;
use crate::support::larder::Larder;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{present, requires};
use crate::support::traffic::{Kind, Request};
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

/// It is in the cache because it was pulled from repository A. B does not have it, and needs it.
#[test]
fn a_layer_that_is_cached_from_one_repository_is_not_claimed_in_another() {
    let test = requires!(&["crane"], DISTRIBUTION);
    for kind in KINDS.into_iter().filter(|client| present(test, &[client.tools])) {
        let work = Work::new(test);
        let built = Built::version(&work, "2.3.0");
        let upstream = empty(&work, &Guard::Open);
        let direct = Way::plain(Door::Mirror, upstream.port);
        push_with_crane(&work, &direct, &built, "library/a");
        let image = arrived(&work, &upstream, &built, "library/a");
        let larder = open(&work, &upstream, "");
        let way = larder.by(Door::Mirror);
        crane(&work).pull(&way, &Wanted::by_tag(&image)).expect("it is cached now");
        for digest in image.blobs() {
            assert_eq!(head(&larder, "library/a", digest), 200);
            assert_eq!(head(&larder, "library/b", digest), 404, "{digest}");
        }

        let pushed = (kind.start)(&work, &way).push(&way, &built, "library/b");
        pushed.unwrap_or_else(|error| panic!("{}: {error}", kind.name));

        arrived(&work, &upstream, &built, "library/b");
    }
}

/// Larder asks each time: the very next push sends what is lost.
#[test]
fn a_layer_that_the_registry_has_lost_is_sent_again() {
    let work = Work::new(requires!(&["crane"], DISTRIBUTION));
    let storage = work.new_dir("storage");
    let upstream = Registry::guarded(&storage, &work, &Guard::Open);
    let larder = open(&work, &upstream, "membership_ttl = \"0s\"");
    let way = larder.by(Door::Mirror);
    let [old, new] = ["2.3.0", "2.4.0"].map(|version| Built::version(&work, version));
    push_with_crane(&work, &way, &old, REPOSITORY);
    let image = arrived(&work, &upstream, &old, REPOSITORY);

    lose(&storage, &image.layers[0]);
    assert_eq!(head(&larder, REPOSITORY, &image.layers[0]), 404);

    push_with_crane(&work, &way, &new, REPOSITORY);
    arrived(&work, &upstream, &new, REPOSITORY);
    arrived(&work, &upstream, &old, REPOSITORY);
}

/// A blob that was reported a moment ago is lost at the registry. Its refusal is noticed, and the
/// next push sends the blob.
#[test]
fn a_layer_that_is_lost_within_the_time_of_a_claim_is_sent_again_after_a_refusal() {
    let test = requires!(&["crane"], DISTRIBUTION);
    for kind in KINDS.into_iter().filter(|client| present(test, &[client.tools])) {
        let work = Work::new(test);
        let storage = work.new_dir("storage");
        let mut upstream = Registry::guarded(&storage, &work, &Guard::Open);
        let larder = open(&work, &upstream, "membership_ttl = \"1h\"");
        let way = larder.by(Door::Mirror);
        let [old, new] = ["2.3.0", "2.4.0"].map(|version| Built::version(&work, version));
        let client = (kind.start)(&work, &way);
        client.push(&way, &old, REPOSITORY).expect("the first version is pushed");
        let image = arrived(&work, &upstream, &old, REPOSITORY);
        lose(&storage, &image.layers[0]);

        upstream.forget();
        // Some try again by themselves.
        if let Err(refused) = client.push(&way, &new, REPOSITORY) {
            println!("{}: {refused}", kind.name);
            let again = client.push(&way, &new, REPOSITORY);
            again.unwrap_or_else(|error| panic!("{}: {error}", kind.name));
        }

        let asked = upstream.requests();
        let is_put = |it: &&Request| it.method == "PUT" && it.kind == Kind::ManifestByTag;
        let puts: Vec<u16> = asked.iter().filter(is_put).map(|it| it.status).collect();
        assert_eq!(puts, [400, 201], "{}: it was told that the layer is there", kind.name);
        arrived(&work, &upstream, &new, REPOSITORY);
    }
}

fn head(larder: &Larder, repository: &str, digest: &str) -> u16 {
    Curl::get(&larder.url(&format!("{repository}/blobs/{digest}"))).arg("-I").send().status
}

/// As garbage collection does that ran too early.
fn lose(storage: &Path, digest: &str) {
    let file = blob_dir(storage, digest);
    fs::remove_dir_all(file).expect("the registry keeps it");
}

fn blob_dir(storage: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").expect("distribution keeps sha256");
    storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex)
}
