//! Images that are carried behind an air gap, by the programs that their users have there.

use std::path::Path;
use std::process::Command;

use crate::support::client::{Client as _, KINDS};
use crate::support::cosign::Cosign;
use crate::support::curl::Curl;
use crate::support::image::{self, Image};
use crate::support::larder::{Larder, Setup};
use crate::support::one_shot::{self, OneShot};
use crate::support::oras::{Oras, SBOM, SIGNATURE};
use crate::support::publish::Publisher;
use crate::support::registry::{DISTRIBUTION, Guard, OLAREG, Registry};
use crate::support::tools;
use crate::support::tools::{present, requires};
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// A Larder behind the gap.
pub(crate) fn far_side(work: &Work) -> Larder {
    let far = Larder::mirror(work, NOWHERE, "offline = true");
    // It has its cache directory when it answers.
    assert_eq!(Curl::get(&far.url("")).send().status, 200);
    far
}

fn export(larder: &Larder, bundle: &Path, images: &[&str]) {
    larder.run(&[&["export", "-o", text(bundle)], images].concat());
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// The image `library/small` of two platforms, pulled on one side and carried to the other.
fn carried(work: &Work) -> (Larder, std::path::PathBuf) {
    let upstream = Registry::start(work, &Guard::Open);
    let near = Larder::mirror(work, &upstream.url(), "");
    let skopeo = OneShot::new(work, one_shot::skopeo);
    for image in &Image::small() {
        let pulled = skopeo.pull(&near.by(Door::Mirror), &Wanted::by_tag(image));
        pulled.expect("the near side has an upstream");
    }
    let bundle = work.data().join("bundle.tar");
    export(&near, &bundle, &["small:1"]);
    let far = far_side(work);
    let said = far.run(&["import", text(&bundle)]);
    assert!(said.contains("imported docker.io/library/small:1\n"), "{said}");
    (far, bundle)
}

#[test]
fn every_client_pulls_behind_the_gap_what_was_carried_there() {
    let test = requires!(&["skopeo"], DISTRIBUTION);
    let images = Image::small();
    for client in KINDS.into_iter().filter(|client| present(test, &[client.tools])) {
        let work = Work::new(test);
        let (far, _) = carried(&work);
        let way = far.by(Door::Mirror);
        let way = if client.doors.contains(&Door::Mirror) { way } else { far.by(client.doors[0]) };
        let program = (client.start)(&work, &way);
        for image in &images {
            let pulled = program.pull(&way, &Wanted::by_tag(image));
            pulled.unwrap_or_else(|error| panic!("{}: {error}\n{}", client.name, far.log()));
        }
        println!("client: {}: pulls both platforms behind the gap", client.name);
    }
}

/// A bundle is no format of Larder's own.
#[test]
fn skopeo_podman_oras_and_crane_read_a_bundle() {
    let work = Work::new(requires!(&["skopeo", "podman", "oras", "crane"], DISTRIBUTION, OLAREG));
    let [image, _] = Image::small();
    let (_far, bundle) = carried(&work);
    let named = format!("{}:docker.io/library/small:1", bundle.display());
    let into = |name: &str| work.new_dir(name).join("layout");

    let policy = work.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let mut skopeo = tools::command("skopeo");
    let layout = into("skopeo");
    skopeo.arg("--policy").arg(&policy).args(["copy", "--all", "--preserve-digests"]);
    let archive = format!("oci-archive:{named}");
    tools::run(skopeo.arg(&archive).arg(format!("oci:{}:it", layout.display())))
        .expect("skopeo reads it");
    one_shot::holds(&layout, &image);

    let mut podman = tools::command("podman");
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        work.new_dir("graph").display(),
        work.sockets().join("podman").display(),
    );
    podman.env("CONTAINERS_STORAGE_CONF", work.file("storage.conf", &storage));
    podman.args(["--events-backend=none", "--cgroup-manager=cgroupfs", "pull", "--quiet"]);
    podman.arg("--signature-policy").arg(&policy);
    let id = tools::run(podman.arg(&archive)).expect("podman reads it");
    assert!(image.config.ends_with(id.trim()), "{id}");

    let mut oras = tools::command("oras");
    let layout = into("oras");
    oras.args(["copy", "--no-tty", "--from-oci-layout"]);
    oras.arg(format!("{}@{}", bundle.display(), image.index)).arg("--to-oci-layout");
    tools::run(oras.arg(format!("{}:it", layout.display()))).expect("oras reads it");
    one_shot::holds(&layout, &image);

    let registry = Registry::olareg(&work);
    let unpacked = work.new_dir("unpacked");
    tools::run(Command::new("tar").arg("xf").arg(&bundle).arg("-C").arg(&unpacked))
        .expect("tar reads it");
    let mut crane = tools::command("crane");
    let name = format!("127.0.0.1:{}/pushed:1", registry.port);
    tools::run(crane.args(["push", "--insecure", "--index", text(&unpacked), &name]))
        .expect("crane reads it");
}

/// Each has its own idea of an archive.
#[test]
fn archives_of_skopeo_podman_and_distribution_are_taken() {
    let work = Work::new(requires!(&["skopeo", "crane"], DISTRIBUTION));
    let [image, _] = Image::small();
    let upstream = Registry::start(&work, &Guard::Open);
    let policy = work.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let from = format!("docker://127.0.0.1:{}/library/small:1", upstream.port);
    let file = |name: &str| work.data().join(name);
    for (format, reference) in [
        ("docker-archive", "team/saved:1"),
        ("oci-archive", "docker.io/team/saved:1"),
        ("oci", "1"),
    ] {
        let path = file(format);
        let mut skopeo = tools::command("skopeo");
        skopeo.arg("--policy").arg(&policy).args(["copy", "--src-tls-verify=false", &from]);
        tools::run(skopeo.arg(format!("{format}:{}:{reference}", path.display())))
            .unwrap_or_else(|error| panic!("{format}: {error}"));
        let far = far_side(&work);
        let name = if format == "oci" { &["--name", "team/saved"][..] } else { &[] };
        let said = far.run(&[&["import", text(&path)], name].concat());
        assert!(said.contains("imported docker.io/team/saved:1\n"), "{format}: {said}");
        let into = work.new_dir("pulled").join("layout");
        let place = far.by(Door::Prefix).place().replace("/library", "");
        let mut crane = tools::command("crane");
        crane.args(["pull", "--insecure", "--format", "oci", &format!("{place}/team/saved:1")]);
        tools::run(crane.arg(&into)).unwrap_or_else(|error| panic!("{format}: {error}"));
    }

    let far = far_side(&work);
    let mut tree = far.command(&["import", "--registry", "docker.io", text(&image::storage())]);
    // Some tests leave images there by half.
    let said = tree.output().expect("the program can be run");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("imported docker.io/library/small:1\n"), "{said}");
    let skopeo = OneShot::new(&work, one_shot::skopeo);
    skopeo.pull(&far.by(Door::Mirror), &Wanted::by_tag(&image)).expect("all of it is there");
}

/// A signature or an SBOM is found behind the gap as it was before it: that of the index, and that
/// of one of its platforms.
#[test]
fn referrers_travel_with_their_image() {
    let work = Work::new(requires!(&["oras", "skopeo"], OLAREG));
    let upstream = Registry::olareg(&work);
    let publisher = Publisher { registry: &upstream.url(), algorithm: "sha256", work: &work };
    let platforms = [image::HERE, image::ELSEWHERE];
    let images = publisher.publish("team/signed", "1", &platforms, image::small_layers);
    let oras = Oras::new(&work);
    let direct = Way::plain(Door::Mirror, upstream.port);
    let at = |place: &str| Wanted::by_tag(&images[0]).at(place);
    let child = |place: &str| {
        let named = at(place);
        let repository = named.strip_suffix(":1").expect("it ends in its tag");
        format!("{repository}@{}", images[1].manifest)
    };
    let sbom = oras.attach(&at(&direct.place()), SBOM);
    let signature = oras.attach(&child(&direct.place()), SIGNATURE);
    let near = Larder::mirror(&work, &upstream.url(), "");
    let graph = |larder: &Larder| {
        let place = larder.by(Door::Prefix).place();
        for (name, referrer) in [(at(&place), &sbom), (child(&place), &signature)] {
            let layout = oras.copy(&name);
            assert!(layout.join("blobs").join(referrer.replace(':', "/")).exists(), "{name}");
            let found = oras.discover(&name, &[]);
            assert!(found.contains(referrer.as_str()), "{name}: {found}");
        }
    };
    graph(&near);
    let bundle = work.data().join("bundle.tar");
    export(&near, &bundle, &["team/signed:1"]);
    let far = far_side(&work);
    far.run(&["import", text(&bundle)]);
    graph(&far);
    let skopeo = OneShot::new(&work, one_shot::skopeo);
    for image in &images {
        let pulled = skopeo.pull(&far.by(Door::Prefix), &Wanted::by_tag(image));
        pulled.unwrap_or_else(|error| panic!("{error}\n{}", far.log()));
    }
}

/// Neither side reads a layer as a whole into its memory.
#[test]
fn a_bundle_may_be_larger_than_the_memory_of_both_sides() {
    let work = Work::new(requires!(&["skopeo", "prlimit"], DISTRIBUTION));
    let image = Image::large();
    let upstream = Registry::start(&work, &Guard::Open);
    let mut near = Larder::mirror(&work, &upstream.url(), "");
    let skopeo = OneShot::new(&work, one_shot::skopeo);
    skopeo.pull(&near.by(Door::Prefix), &Wanted::by_tag(&image)).expect("it has an upstream");
    near.stop();
    let bundle = work.data().join("bundle.tar");
    let within = |larder: &Larder, arguments: &[&str]| {
        let command = larder.command(arguments);
        let mut limited = tools::command("prlimit");
        limited.arg(format!("--data={MEMORY_BYTES}")).arg("--").arg(command.get_program());
        tools::run(limited.args(command.get_args())).unwrap_or_else(|error| panic!("{error}"))
    };
    within(&near, &["export", "-o", text(&bundle), "large:1"]);
    drop(near);
    let mut far = far_side(&work);
    far.stop();
    within(&far, &["import", text(&bundle)]);
    far.start();
    skopeo.pull(&far.by(Door::Prefix), &Wanted::by_tag(&image)).expect("all of it is there");
}

/// A fifth of the bundle, for all that a process writes: heap, stacks of its threads, and data.
const MEMORY_BYTES: u64 = 200 << 20;

/// A signature is of no format of Larder's own either, on both ways.
#[test]
fn cosign_verifies_a_signed_bundle_and_signs_one_that_is_imported() {
    let work = Work::new(requires!(&["skopeo", "cosign", "openssl"], DISTRIBUTION));
    let [image, _] = Image::small();
    let upstream = Registry::start(&work, &Guard::Open);
    let near = Larder::mirror(&work, &upstream.url(), "");
    let skopeo = OneShot::new(&work, one_shot::skopeo);
    skopeo.pull(&near.by(Door::Mirror), &Wanted::by_tag(&image)).expect("it has an upstream");
    let file = |name: &str| work.data().join(name);
    let (key, public, bundle) = (file("near.key"), file("near.pub"), file("bundle.tar"));
    let mut openssl = tools::command("openssl");
    openssl.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]);
    tools::run(openssl.arg(&key)).expect("openssl makes a key");
    let mut openssl = tools::command("openssl");
    openssl.args(["pkey", "-pubout", "-in", text(&key), "-out", text(&public)]);
    tools::run(&mut openssl).expect("openssl prints the public key");
    export(&near, &bundle, &["small:1", "--sign", text(&key)]);

    let unpacked = work.new_dir("unpacked");
    tools::run(Command::new("tar").arg("xf").arg(&bundle).arg("-C").arg(&unpacked))
        .expect("tar reads it");
    let (index, signature) = (unpacked.join("index.json"), unpacked.join("index.json.sig"));
    let cosign = Cosign::new(&work);
    cosign.verify_file(&public, &index, &signature).expect("cosign verifies it");
    cosign.verify_file(&cosign.public_key(), &index, &signature).expect_err("by another key");

    let trusts = |key: &Path| {
        let keys = format!("offline = true\n[import]\nkeys = [\"{}\"]", key.display());
        let far = Setup { registry_keys: &keys, ..Setup::new(&work, NOWHERE) }.start();
        assert_eq!(Curl::get(&far.url("")).send().status, 200);
        far
    };
    let holds = |far: &Larder| {
        let skopeo = OneShot::new(&work, one_shot::skopeo);
        skopeo.pull(&far.by(Door::Mirror), &Wanted::by_tag(&image)).expect("all of it is there");
    };
    let far = trusts(&public);
    far.run(&["import", text(&bundle)]);
    holds(&far);
    let far = trusts(&cosign.public_key());
    let refused = far.command(&["import", text(&bundle)]).output().expect("it can be run");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    cosign.sign_file(&index, &signature);
    far.run(&["import", text(&unpacked)]);
    holds(&far);
}
