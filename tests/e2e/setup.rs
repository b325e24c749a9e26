//! `larder setup`: the files that it writes are read by the clients that they are for, what was
//! there before is kept, and after `--undo` a client goes to its registry by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::carry::text;
use crate::support::buildkit::Buildkit;
use crate::support::connect_proxy::ConnectProxy;
use crate::support::containerd::{Containerd, ContainerdVersion, NEWEST, PACKAGED};
use crate::support::dockerd::Dockerd;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::moby::{ImageStore, Moby};
use crate::support::node::Node;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools;
use crate::support::tools::requires;
use crate::support::wait;
use crate::support::way::Wanted;
use crate::support::work::Work;

/// Writes a client's files below a directory, has it pull `docker.io/library/small:1` by them, and
/// undoes them. `before` is the text of a file that was there: it is kept beside the new one.
/// `pull` gets the port of the proxy by which the client leaves this machine.
fn written_used_and_undone(
    work: &Work,
    client: &str,
    (file, before): (&str, &str),
    pull: impl Fn(&Path, &Image, u16) -> Result<(), String>,
) {
    let upstream = Registry::start(work, &Guard::Open);
    let larder = Larder::mirror(work, &upstream.url(), "");
    let (root, world) = (work.new_dir("root"), ConnectProxy::start([]));
    let (file, kept) = (root.join(file), root.join(format!("{file}.before-larder")));
    if !before.is_empty() {
        fs::create_dir_all(file.parent().expect("it is below the root")).expect("ours");
        fs::write(&file, before).expect("the test's directory can be written");
    }
    larder.run(&["setup", client, "--root", text(&root), "--write"]);
    assert_ne!(fs::read_to_string(&file).expect("the file is written"), before);
    let [image, _] = Image::small();
    let asked = |larder: &Larder| larder.log().matches("library/small").count();
    assert_eq!(asked(&larder), 0, "{client}");

    pull(&root, &image, world.port).expect("the client pulls");

    let asked_by_setup = asked(&larder);
    assert!(asked_by_setup > 0, "{client} passed by: {}", larder.log());
    if !before.is_empty() {
        assert_eq!(fs::read_to_string(&kept).expect("it was kept"), before, "{client}");
    }
    let blobs = larder.verified_blobs().len();
    assert!(blobs >= image.layers.len(), "{client}: {blobs} blobs came through");

    larder.run(&["setup", client, "--root", text(&root), "--undo"]);
    let after = fs::read_to_string(&file).ok();
    assert_eq!(after.as_deref(), Some(before).filter(|text| !text.is_empty()), "{client}");
    assert!(!kept.exists(), "{client}");
    let went = world.refused().len();
    pull(&root, &image, world.port).expect_err("the proxy refuses the registry of docker.io");
    // The proxy may note it after the client has its answer.
    wait::until("the client goes its own way", wait::DAEMON, || {
        let refused = world.refused();
        refused[went..].iter().any(|line| line.contains("docker.io:443")).then_some(())
    });
    assert_eq!(asked(&larder), asked_by_setup, "{client} still asks: {}", larder.log());
}

#[test]
fn dockerd_pulls_by_the_files_that_setup_wrote() {
    let tools = &["root", "dockerd", "docker", "containerd", "ctr", "runc"];
    let work = Work::new(requires!(tools, DISTRIBUTION));
    let before = ("etc/docker/daemon.json", "{\"debug\": false}\n");
    written_used_and_undone(&work, "dockerd", before, |root, image, world| {
        let config = root.join("etc/docker/daemon.json");
        let dockerd = Dockerd::configured(&work, &config, |it| tools::send_by(it, world));
        let pull = ["pull", "--quiet", "--platform", &image.platform, "small:1"];
        tools::run(dockerd.client().args(pull)).map(drop)
    });
}

#[test]
fn the_newest_dockerd_pulls_by_the_files_that_setup_wrote() {
    let tools = &["root", "newest/dockerd", "newest/containerd", "newest/ctr", "runc"];
    let test = requires!(tools, DISTRIBUTION);
    for store in [ImageStore::Own, ImageStore::Containerd] {
        let work = Work::new(test);
        let options = store.options().to_string();
        let before = ("etc/docker/daemon.json", &*options);
        written_used_and_undone(&work, "dockerd", before, |root, image, world| {
            let config = root.join("etc/docker/daemon.json");
            let moby = Moby::start(&work, &config, |it| tools::send_by(it, world));
            moby.pull("small", "1", &image.platform)
        });
    }
}

#[test]
fn containerd_pulls_by_the_files_that_setup_wrote() {
    let work = Work::new(requires!(&["root", "containerd", "ctr"], DISTRIBUTION));
    let before = ("etc/containerd/config.toml", "# ours\nversion = 2\n");
    written_used_and_undone(&work, "containerd", before, |root, image, world| {
        let containerd = Containerd::start(&work);
        let mut pull = containerd.ctr();
        tools::send_by(&mut pull, world);
        pull.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]);
        pull.arg(root.join("etc/containerd/certs.d"));
        pull.args(["--platform", &image.platform, "docker.io/library/small:1"]);
        tools::run(&mut pull).map(drop)
    });
}

#[test]
fn buildkit_pulls_by_the_files_that_setup_wrote() {
    let work = Work::new(requires!(&["root", "buildkitd", "buildctl", "runc"], DISTRIBUTION));
    let before = ("etc/buildkit/buildkitd.toml", "# ours\ndebug = false\n");
    written_used_and_undone(&work, "buildkit", before, |root, image, world| {
        let config = root.join("etc/buildkit/buildkitd.toml");
        let send = |command: &mut Command| tools::send_by(command, world);
        let buildkit = Buildkit::configured(&work, &config, "setup", send);
        let archive = work.data().join("built.tar");
        buildkit.build_archive(&Wanted::by_tag(image), "oci", "docker.io/team/a:1", &archive)
    });
}

#[test]
fn k3s_pulls_by_the_files_that_setup_wrote() {
    let work = Work::new(requires!(&["k3s-pull"], DISTRIBUTION));
    let before = ("etc/rancher/k3s/registries.yaml", "");
    written_used_and_undone(&work, "k3s", before, |root, image, world| {
        let mut k3s = tools::command("k3s-pull");
        tools::send_by(&mut k3s, world);
        k3s.arg(root.join("etc/rancher/k3s/registries.yaml"));
        k3s.args(["docker.io/library/small:1", &image.platform]);
        tools::run(k3s.arg(work.new_dir("pulled"))).map(drop)
    });
}

/// By the library that it pulls with, since Debian has no package of it.
#[test]
fn cri_o_pulls_by_the_files_that_setup_wrote() {
    let work = Work::new(requires!(&["crio-pull"], DISTRIBUTION));
    let before = ("etc/containers/registries.conf.d/larder.conf", "");
    written_used_and_undone(&work, "cri-o", before, |root, image, world| {
        let mut crio = tools::command("crio-pull");
        tools::send_by(&mut crio, world);
        crio.arg(root.join("etc/containers/registries.conf.d"));
        crio.args(["docker.io/library/small:1", &image.platform]);
        tools::run(crio.arg(work.new_dir("pulled"))).map(drop)
    });
}

#[test]
fn podman_pulls_by_the_files_that_setup_wrote() {
    let work = Work::new(requires!(&["podman"], DISTRIBUTION));
    let before = ("etc/containers/registries.conf.d/larder.conf", "");
    written_used_and_undone(&work, "podman", before, |root, image, world| {
        let policy = work.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            work.new_dir("graph").display(),
            work.sockets().join("podman").display(),
        );
        // The files of a user are read where those of the system are.
        let home = work.new_dir("home");
        std::os::unix::fs::symlink(root.join("etc"), home.join(".config")).expect("ours");
        let mut podman = tools::command("podman");
        tools::send_by(&mut podman, world);
        podman.env("CONTAINERS_STORAGE_CONF", work.file("storage.conf", &storage));
        podman.env("HOME", &home).env("XDG_CONFIG_HOME", home.join(".config"));
        podman.args(["--events-backend=none", "--cgroup-manager=cgroupfs", "pull", "--quiet"]);
        podman.arg("--signature-policy").arg(policy).args(["--platform", &image.platform]);
        tools::run(podman.arg("docker.io/library/small:1")).map(drop)
    });
}

#[test]
fn kubernetes_pulls_by_the_files_that_the_daemonset_wrote_on_a_node() {
    let tools = &["root", "daemonset", "chroot", "busybox", "containerd", "ctr"];
    a_node_pulls(requires!(tools, DISTRIBUTION), PACKAGED);
}

#[test]
fn kubernetes_pulls_with_the_newest_containerd_too() {
    let tools = &["root", "daemonset", "chroot", "busybox", "newest/containerd", "newest/ctr"];
    a_node_pulls(requires!(tools, DISTRIBUTION), NEWEST);
}

/// The document is applied to a node, changed, and undone, and the node's containerd pulls.
fn a_node_pulls(test: &str, version: ContainerdVersion) {
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let (node, world) = (Node::new(&work), ConnectProxy::start([]));
    let [image, _] = Image::small();
    let ours = node.certs().join("docker.io/hosts.toml");
    fs::create_dir_all(ours.parent().expect("it is below the root")).expect("ours");
    let before = "# of this node\nserver = \"https://registry-1.docker.io\"\n";
    fs::write(&ours, before).expect("the test's directory can be written");
    let pull = || {
        let containerd = Containerd::of_version(&work, version);
        let mut pull = containerd.ctr();
        tools::send_by(&mut pull, world.port);
        pull.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]).arg(node.certs());
        pull.args(["--platform", &image.platform, "docker.io/library/small:1"]);
        tools::run(&mut pull).map(drop)
    };
    let asked = || larder.log().matches("library/small").count();

    let more = larder.run(&["setup", "kubernetes", "--registry", "other.corp:5000"]);
    let first = node.apply(&more);
    assert!(node.certs().join("other.corp_5000_/hosts.toml").exists());
    pull().expect("the client pulls");
    let asked_by_setup = asked();
    assert!(asked_by_setup > 0, "containerd passed by: {}", larder.log());
    assert!(larder.verified_blobs().len() >= image.layers.len(), "blobs did not come through");

    let second = node.apply(&larder.run(&["setup", "kubernetes"]));
    assert_ne!(first.annotations, second.annotations, "pods stay as they are");
    assert!(!node.certs().join("other.corp_5000_").exists(), "it is not configured any more");
    assert!(fs::read_to_string(&ours).is_ok_and(|text| text.contains(&larder.address())));

    node.apply(&larder.run(&["setup", "kubernetes", "--undo"]));
    assert_eq!(fs::read_to_string(&ours).expect("it was there before"), before);
    let left = fs::read_dir(ours.parent().expect("as above")).expect("as above").count();
    assert_eq!(left, 1, "other files are left");
    pull().expect_err("there is no way to the registry itself");
    assert_eq!(asked(), asked_by_setup, "containerd still asks: {}", larder.log());
}
