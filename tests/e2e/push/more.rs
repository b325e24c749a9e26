//! Pushes beyond images of one platform: artifacts that refer to one, and an index with
//! attestations.

use std::fs;
use std::path::Path;

use super::{REPOSITORY, empty, open, push_with_crane};
use crate::support::built::Built;
use crate::support::oras::{Oras, SBOM, SIGNATURE};
use crate::support::registry::{DISTRIBUTION, Guard, OLAREG, Registry};
use crate::support::tools::{self, requires};
use crate::support::way::{Door, Way};
use crate::support::work::Work;

/// A registry that has referrers says so with `OCI-Subject`, which oras looks for.
#[test]
fn oras_attaches_to_an_image_at_a_registry_with_referrers() {
    let work = Work::new(requires!(&["oras", "crane"], OLAREG));
    attaches(&work, Registry::olareg(&work));
}

/// One that has none does not say so, and oras keeps a tag with the list.
#[test]
fn oras_attaches_to_an_image_at_a_registry_without_referrers() {
    let work = Work::new(requires!(&["oras", "crane"], DISTRIBUTION));
    let upstream = empty(&work, &Guard::Open);
    attaches(&work, upstream);
}

fn attaches(work: &Work, mut upstream: Registry) {
    let mut larder = open(work, &upstream, "");
    let way = larder.by(Door::Prefix);
    push_with_crane(work, &way, &Built::version(work, "2.3.0"), REPOSITORY);
    let oras = Oras::new(work);
    let image = format!("{}/{REPOSITORY}:2.3.0", way.place());
    assert!(!oras.discover(&image, &[]).contains(SBOM), "nothing refers to it yet");

    let sbom = oras.attach(&image, SBOM);
    assert!(oras.discover(&image, &[]).contains(&sbom), "at once");
    let of_sbom = format!("{}/{REPOSITORY}@{sbom}", way.place());
    let signature = oras.attach(&of_sbom, SIGNATURE);

    let check = |way: &Way<'_>, when: &str| {
        let all = oras.discover(&format!("{}/{REPOSITORY}:2.3.0", way.place()), &[]);
        assert!(all.contains(&sbom) && all.contains(&signature), "{when}: {all}");
        for (digest, kind) in [(&sbom, SBOM), (&signature, SIGNATURE)] {
            let file = oras.pull(&format!("{}/{REPOSITORY}@{digest}", way.place()));
            assert_eq!(file, kind, "{when}");
        }
    };
    check(&Way::plain(Door::Mirror, upstream.port), "without Larder");
    check(&way, "through Larder");
    upstream.stop();
    check(&way, "while the upstream is down");
    larder.restart();
    check(&way, "after a restart, while the upstream is down");
}

/// As buildx makes it: an index of an image, and of an attestation for a platform that is none.
#[test]
fn an_index_with_attestations_is_pushed_by_crane() {
    let work = Work::new(requires!(&["crane"], DISTRIBUTION));
    let layout = Built::version(&work, "2.3.0").attested(&work);
    is_pushed_whole(&work, &layout, |way| {
        let mut push = tools::command("crane");
        push.env("DOCKER_CONFIG", work.data()).arg("push").arg(&layout);
        tools::run(push.arg(format!("{}/{REPOSITORY}:2.3.0", way.place()))).map(drop)
    });
}

#[test]
fn an_index_with_attestations_is_pushed_by_skopeo() {
    let work = Work::new(requires!(&["skopeo"], DISTRIBUTION));
    let layout = Built::version(&work, "2.3.0").attested(&work);
    let policy = work.file("policy.json", ACCEPT_ANYTHING);
    is_pushed_whole(&work, &layout, |way| {
        let mut copy = tools::command("skopeo");
        copy.arg("--policy").arg(&policy).args(["copy", "--quiet", "--all"]);
        copy.args(["--preserve-digests", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:2.3.0", layout.display()));
        tools::run(copy.arg(format!("docker://{}/{REPOSITORY}:2.3.0", way.place()))).map(drop)
    });
}

/// The client of Docker 29 and of `BuildKit`.
#[test]
fn an_index_with_attestations_is_pushed_by_containerd_pull() {
    let work = Work::new(requires!(&["containerd-pull"], DISTRIBUTION));
    let layout = Built::version(&work, "2.3.0").attested(&work);
    is_pushed_whole(&work, &layout, |way| {
        let mut push = tools::command("containerd-pull");
        push.arg("--push").arg(format!("{}/{REPOSITORY}:2.3.0", way.place())).arg(&layout);
        tools::run(&mut push).map(drop)
    });
}

fn is_pushed_whole(work: &Work, layout: &Path, push: impl Fn(&Way<'_>) -> Result<(), String>) {
    let mut upstream = empty(work, &Guard::Open);
    let larder = open(work, &upstream, "");
    let way = larder.by(Door::Prefix);
    push(&way).expect("an index is pushed");

    reads_all(work, &Way::plain(Door::Mirror, upstream.port), layout);
    assert_eq!(larder.verified_blobs().len(), blobs(layout).len(), "all of it is kept");
    upstream.stop();
    reads_all(work, &way, layout);
}

/// Every blob and manifest of the layout comes back as it was.
fn reads_all(work: &Work, way: &Way<'_>, layout: &Path) {
    let into = work.new_dir("back").join("layout");
    let mut pull = tools::command("crane");
    pull.env("DOCKER_CONFIG", work.data()).args(["pull", "--format", "oci"]);
    tools::run(pull.arg(format!("{}/{REPOSITORY}:2.3.0", way.place())).arg(&into))
        .expect("crane pulls an index");
    for name in blobs(layout) {
        let [pushed, back] = [layout, &into].map(|dir| dir.join("blobs/sha256").join(&name));
        let [pushed, back] = [pushed, back].map(|file| fs::read(file).unwrap_or_default());
        assert!(pushed == back, "{}", name.display());
    }
}

fn blobs(layout: &Path) -> Vec<std::ffi::OsString> {
    let dir = fs::read_dir(layout.join("blobs/sha256")).expect("the test made it");
    dir.map(|entry| entry.expect("it can be listed").file_name()).collect()
}

const ACCEPT_ANYTHING: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
