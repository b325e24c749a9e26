//! Archives that other programs write, each with its own idea of one: all are imported, and what
//! comes is pulled again with its configuration and layers as they were.

use std::path::Path;
use std::process::Command;

use crate::carry::{far_side, text};
use crate::support::buildkit::Buildkit;
use crate::support::containerd::{Containerd, ContainerdVersion, NEWEST, PACKAGED};
use crate::support::dockerd::Dockerd;
use crate::support::image::Image;
use crate::support::moby::{ImageStore, Moby};
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools;
use crate::support::tools::requires;
use crate::support::way::{Door, Wanted, Way};
use crate::support::work::Work;

/// The configuration and the layers of an image that Larder has, each pulled and verified by crane.
struct PulledImage {
    config: String,
    layers: usize,
}

/// Imports an archive on a far side of its own, and pulls an image of it.
fn carried(work: &Work, archive: &Path, name: &str, platform: &str) -> PulledImage {
    let far = far_side(work);
    let said = far.run(&["import", text(archive)]);
    assert!(said.contains(&format!("imported docker.io/{name}\n")), "{said}");
    let full = format!("{}/{name}", far.by(Door::Prefix).place().replace("/library", ""));
    let crane = |command: &str| {
        let mut crane = tools::command("crane");
        crane.args([command, "--insecure", "--platform", platform]);
        crane
    };
    let into = work.new_dir("pulled").join("layout");
    tools::run(crane("pull").args(["--format", "oci", &full]).arg(&into))
        .unwrap_or_else(|error| panic!("{}: {error}\n{}", archive.display(), far.log()));
    let manifest = tools::run(crane("manifest").arg(&full)).expect("the manifest is there");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("it is JSON");
    PulledImage {
        config: manifest["config"]["digest"].as_str().unwrap_or_default().to_owned(),
        layers: manifest["layers"].as_array().map_or(0, Vec::len),
    }
}

fn assert_is(pulled: &PulledImage, image: &Image, what: &str) {
    assert_eq!(pulled.config, image.config, "{what}");
    assert_eq!(pulled.layers, image.layers.len(), "{what}");
}

/// Files by any name, without manifests, as Docker wrote them before it had an image store of
/// containerd: two images in one archive, one of which has two names.
#[test]
fn an_archive_of_docker_save_is_imported() {
    let tools = &["root", "dockerd", "docker", "containerd", "ctr", "runc", "crane"];
    let work = Work::new(requires!(tools, DISTRIBUTION));
    let upstream = Registry::start(&work, &Guard::Open);
    let dockerd = Dockerd::start(&work, &Way::plain(Door::Mirror, upstream.port));
    let images = Image::small();
    let image = &images[0];
    let docker = |arguments: &[&str]| {
        tools::run(dockerd.client().args(arguments)).unwrap_or_else(|error| panic!("{error}"))
    };
    docker(&["pull", "--quiet", "--platform", &image.platform, "small:1"]);
    docker(&["tag", "small:1", "team/saved:2"]);
    let archive = work.data().join("saved.tar");
    docker(&["save", "-o", text(&archive), "small:1", "team/saved:2"]);

    for name in ["library/small:1", "team/saved:2"] {
        assert_is(&carried(&work, &archive, name, &image.platform), image, name);
    }
}

/// A layout and a `manifest.json` in one, as Docker writes it since version 25, from each of the
/// two places in which it keeps images.
#[test]
fn archives_of_docker_save_of_today_are_imported() {
    let tools = &["root", "newest/dockerd", "newest/containerd", "newest/ctr", "runc", "crane"];
    let test = requires!(tools, DISTRIBUTION);
    let images = Image::small();
    let image = &images[0];
    for store in [ImageStore::Own, ImageStore::Containerd] {
        let work = Work::new(test);
        let upstream = Registry::start(&work, &Guard::Open);
        let mut config = store.options();
        config["registry-mirrors"] = [upstream.url()].into();
        let moby = Moby::start(&work, &work.file("moby.json", &config.to_string()), |_| ());
        let archive = work.data().join("saved.tar");
        moby.pull("small", "1", &image.platform).expect("it pulls");
        moby.tag("small:1", "team/saved", "2").expect("it gives names");
        moby.save(&["small:1", "team/saved:2"], &archive).expect("it saves");
        let listed = tools::run(Command::new("tar").arg("tf").arg(&archive)).expect("tar reads it");
        for file in ["manifest.json", "index.json", "oci-layout"] {
            assert!(listed.lines().any(|line| line == file), "{store:?}: {listed}");
        }
        for name in ["library/small:1", "team/saved:2"] {
            let pulled = carried(&work, &archive, name, &image.platform);
            assert_is(&pulled, image, &format!("{store:?}"));
        }
    }
}

/// The same from an image store of containerd, which `docker save` of Docker 25 and later exports
/// too: a layout with all platforms, and a `manifest.json` beside it.
#[test]
fn an_archive_of_an_image_store_of_containerd_is_imported() {
    let test = requires!(&["root", "containerd", "ctr", "crane"], DISTRIBUTION);
    an_exported_archive_is_imported(test, PACKAGED);
}

#[test]
fn an_archive_of_an_image_store_of_the_newest_containerd_is_imported() {
    let test = requires!(&["root", "newest/containerd", "newest/ctr", "crane"], DISTRIBUTION);
    an_exported_archive_is_imported(test, NEWEST);
}

fn an_exported_archive_is_imported(test: &str, version: ContainerdVersion) {
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let containerd = Containerd::of_version(&work, version);
    let ctr = |arguments: &[&str]| {
        tools::run(containerd.ctr().args(arguments)).unwrap_or_else(|error| panic!("{error}"))
    };
    let (from, name) =
        (format!("127.0.0.1:{}/library/small:1", upstream.port), "docker.io/library/small:1");
    ctr(&["content", "fetch", "--plain-http", "--all-platforms", &from]);
    ctr(&["images", "tag", &from, name]);
    let archive = work.data().join("exported.tar");
    ctr(&["images", "export", "--all-platforms", text(&archive), name]);
    let listed = tools::run(Command::new("tar").arg("tf").arg(&archive)).expect("tar reads it");
    assert!(listed.contains("manifest.json") && listed.contains("index.json"), "{listed}");

    for image in &Image::small() {
        let pulled = carried(&work, &archive, "library/small:1", &image.platform);
        assert_is(&pulled, image, &image.platform);
    }
}

#[test]
fn archives_of_podman_save_are_imported_in_both_formats() {
    let work = Work::new(requires!(&["podman", "crane"], DISTRIBUTION));
    let upstream = Registry::start(&work, &Guard::Open);
    let image = &Image::small()[0];
    let policy = work.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        work.new_dir("graph").display(),
        work.sockets().join("podman").display(),
    );
    let storage = work.file("storage.conf", &storage);
    let podman = |arguments: &[&str]| {
        let mut podman = tools::command("podman");
        podman.env("CONTAINERS_STORAGE_CONF", &storage);
        podman.args(["--events-backend=none", "--cgroup-manager=cgroupfs"]).args(arguments);
        tools::run(&mut podman).unwrap_or_else(|error| panic!("{error}"))
    };
    let from = format!("127.0.0.1:{}/library/small:1", upstream.port);
    let pull = ["pull", "--quiet", "--tls-verify=false", "--platform", &image.platform];
    podman(&[&pull[..], &["--signature-policy", text(&policy), &from]].concat());
    podman(&["tag", &from, "docker.io/team/saved:1"]);
    for format in ["docker-archive", "oci-archive"] {
        let archive = work.data().join(format);
        let save = ["save", "--quiet", "--signature-policy", text(&policy), "--format", format];
        podman(&[&save[..], &["-o", text(&archive), "docker.io/team/saved:1"]].concat());
        let pulled = carried(&work, &archive, "team/saved:1", &image.platform);
        assert_is(&pulled, image, format);
    }
}

#[test]
fn an_archive_that_buildkit_wrote_is_imported() {
    let tools = &["root", "buildkitd", "buildctl", "runc", "crane"];
    let work = Work::new(requires!(tools, DISTRIBUTION));
    let upstream = Registry::start(&work, &Guard::Open);
    let way = Way::plain(Door::Ns, upstream.port);
    let buildkit = Buildkit::start(&work, &way);
    let image = &Image::small()[0];
    for output in ["oci", "docker"] {
        let archive = work.data().join(format!("built-{output}.tar"));
        buildkit
            .build_archive(&Wanted::by_tag(image), output, "docker.io/team/built:1", &archive)
            .expect("buildkit builds it");
        let pulled = carried(&work, &archive, "team/built:1", &image.platform);
        assert_eq!(pulled.layers, image.layers.len(), "{output}");
    }
}
