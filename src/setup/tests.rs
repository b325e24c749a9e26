//! The files of all clients: new ones, and those that others wrote first.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{ClientFileError, ClientProgram, MirrorTargets, SetupPlan, plan};

/// The plan of a client, given files by their paths below `/`.
fn planned(
    client: ClientProgram,
    larder: &str,
    files: &[(&str, &str)],
) -> Result<SetupPlan, ClientFileError> {
    let files: BTreeMap<_, _> = files.iter().copied().collect();
    let read = |path: &Path| -> io::Result<Option<String>> {
        Ok(files.get(path.to_str().unwrap()).map(|&text| text.to_owned()))
    };
    let registries = ["docker.io", "localhost:5005"].map(|name| name.parse().unwrap()).to_vec();
    let targets = MirrorTargets { larder: larder.parse().unwrap(), registries };
    plan(client, &targets, Path::new("/"), &read)
}

/// The text of a file after the plan.
fn after(plan: &SetupPlan, path: &str) -> String {
    let file = plan.files.iter().find(|file| file.path == Path::new(path));
    file.unwrap_or_else(|| panic!("{path}: {plan:#?}")).after.clone()
}

const HERE: &str = "http://127.0.0.1:5000";
const DAEMON: &str = "/etc/docker/daemon.json";
const CONTAINERD: &str = "/etc/containerd/config.toml";
const BUILDKITD: &str = "/etc/buildkit/buildkitd.toml";
const K3S: &str = "/etc/rancher/k3s/registries.yaml";

#[test]
fn what_others_wrote_stays_and_a_second_run_changes_nothing() {
    for (client, path, text, kept) in [
        (
            ClientProgram::Docker,
            DAEMON,
            r#"{"data-root": "/big", "registry-mirrors": ["https://other"]}"#,
            &["/big", "https://other"][..],
        ),
        (
            ClientProgram::Containerd,
            CONTAINERD,
            "version = 3 # ours\noom_score = -999\n[plugins.\"io.containerd.cri.v1.images\"]\n\
             snapshotter = \"overlayfs\"\n",
            &["# ours", "oom_score = -999", "snapshotter = \"overlayfs\""],
        ),
        (
            ClientProgram::Buildkit,
            BUILDKITD,
            "# by hand\ndebug = true\n[registry.\"docker.io\"]\nmirrors = [\"other\"]\n",
            &["# by hand", "debug = true", "\"other\""],
        ),
    ] {
        let once = after(&planned(client, HERE, &[(path, text)]).unwrap(), path);
        assert!(kept.iter().all(|kept| once.contains(kept)), "{once}");
        let twice = after(&planned(client, HERE, &[(path, &once)]).unwrap(), path);
        assert_eq!(once, twice);
    }
}

#[test]
fn containerd_finds_the_directory_of_hosts_whatever_its_version() {
    for (text, want) in [
        ("", "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd"),
        ("version = 2\n", "\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n"),
        ("version = 3\n", "\n[plugins.\"io.containerd.cri.v1.images\".registry]\n"),
    ] {
        let files = [(CONTAINERD, text)];
        let plan = planned(ClientProgram::Containerd, HERE, &files[usize::from(text.is_empty())..]);
        let plan = plan.unwrap();
        let path = "/etc/containerd/certs.d/localhost_5005_/hosts.toml";
        assert!(after(&plan, CONTAINERD).contains(want), "{}", after(&plan, CONTAINERD));
        assert!(after(&plan, path).contains("[host.\"http://127.0.0.1:5000/localhost:5005\"]"));
    }
    let paths = "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\n\
                 config_path = \"/etc/containerd/certs.d:/etc/docker/certs.d\"\n";
    let plan = planned(ClientProgram::Containerd, HERE, &[(CONTAINERD, paths)]).unwrap();
    assert_eq!(after(&plan, CONTAINERD), paths);
    let old = planned(ClientProgram::Containerd, HERE, &[(CONTAINERD, "version = 1\n")]);
    assert!(old.unwrap_err().to_string().contains("version is 1"));
}

#[test]
fn plain_http_to_another_machine_is_permitted_and_tls_needs_no_permission() {
    for (client, path, word) in [
        (ClientProgram::Docker, DAEMON, "insecure-registries"),
        (ClientProgram::Podman, "/etc/containers/registries.conf.d/larder.conf", "insecure = true"),
        (ClientProgram::Buildkit, BUILDKITD, "http = true"),
    ] {
        for (larder, want) in [("http://larder.corp:5000", true), ("https://larder.corp", false)] {
            let text = after(&planned(client, larder, &[]).unwrap(), path);
            assert_eq!(text.contains(word), want, "{client:?} {larder}: {text}");
            assert!(text.contains("larder.corp"), "{text}");
        }
    }
    let here = after(&planned(ClientProgram::Docker, HERE, &[]).unwrap(), DAEMON);
    assert_eq!(here, "{\n  \"registry-mirrors\": [\n    \"http://127.0.0.1:5000\"\n  ]\n}\n");
}

#[test]
fn a_file_that_cannot_be_changed_safely_is_refused_with_what_belongs_in_it() {
    for (client, path, text, want) in [
        (ClientProgram::Docker, DAEMON, "{,}", "/etc/docker/daemon.json is not understood"),
        (ClientProgram::Docker, DAEMON, r#"{"registry-mirrors": 1}"#, "is no list"),
        (ClientProgram::Buildkit, BUILDKITD, "registry = 1", "`registry` is no table"),
        (ClientProgram::Containerd, CONTAINERD, "version = 2\nplugins = 1", "is no table"),
        (ClientProgram::K3s, K3S, "mirrors: {}\n", "- \"http://127.0.0.1:5000\""),
    ] {
        let error = planned(client, HERE, &[(path, text)]).unwrap_err().to_string();
        assert!(error.contains(want) && error.contains(path), "{error}");
    }
    let written = after(&planned(ClientProgram::K3s, HERE, &[]).unwrap(), K3S);
    assert_eq!(
        after(&planned(ClientProgram::K3s, HERE, &[(K3S, &written)]).unwrap(), K3S),
        written
    );
}
