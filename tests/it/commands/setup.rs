//! `larder setup`: files that are written and kept, and pulls that come through or pass by.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::process::{CommandRun, Process};
use crate::support::{Image, ScriptedRegistry};

const REPOSITORY: &str = "library/app";

async fn larder() -> Process {
    let hub = ScriptedRegistry::new();
    hub.put_image(REPOSITORY, "latest", &Image::random(1, &[10]));
    Process::before(hub.listen().await, "").await
}

#[tokio::test]
async fn files_are_written_with_the_original_kept_and_not_touched_when_they_are_right() {
    let larder = larder().await;
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc/docker");
    fs::create_dir_all(&etc).unwrap();
    let daemon = etc.join("daemon.json");
    let original = r#"{"debug": true}"#;
    fs::write(&daemon, original).unwrap();
    fs::set_permissions(&daemon, fs::Permissions::from_mode(0o600)).unwrap();
    let setup = |deed: &'static [&'static str]| {
        let root = root.path().to_str().unwrap();
        let arguments = [&["setup", "dockerd", "--root", root], deed].concat();
        let larder = &larder;
        async move { larder.command(&arguments).await }
    };

    for deed in [&[][..], &["--dry-run"]] {
        let shown = setup(deed).await;
        assert!(shown.code == Some(0) && shown.out.contains("registry-mirrors"), "{shown:?}");
        assert_eq!(fs::read_to_string(&daemon).unwrap(), original);
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 1, "{deed:?} wrote a file");
    }
    let written = setup(&["--write"]).await;
    assert!(written.out.contains("then: restart dockerd"), "{written:?}");
    let text = fs::read_to_string(&daemon).unwrap();
    let options: serde_json::Value = serde_json::from_str(&text).unwrap();
    let address = options["registry-mirrors"][0].as_str().unwrap();
    assert!(address.starts_with("http://127.") && options["debug"] == true, "{text}");
    assert_eq!(fs::metadata(&daemon).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(etc.join("certs.d/docker.io/hosts.toml").exists());

    let again = setup(&["--write", "--address", "https://larder.corp"]).await;
    assert!(again.out.contains("written") && again.code == Some(0), "{again:?}");
    let kept = fs::read_to_string(etc.join("daemon.json.before-larder")).unwrap();
    assert_eq!(kept, original, "the first text is the operator's");
    let right = setup(&["--write", "--address", "https://larder.corp"]).await;
    assert!(!right.out.contains("written") && right.out.contains("unchanged"), "{right:?}");

    fs::write(&daemon, "{").unwrap();
    let refused = setup(&["--write"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("daemon.json is not understood"), "{refused:?}");
    assert!(refused.err.contains("hint: correct the file"), "{refused:?}");
    assert_eq!(fs::read_to_string(&daemon).unwrap(), "{");
}

/// Everything below a directory: the files with their texts and permissions, and the directories.
fn tree(root: &Path) -> BTreeMap<PathBuf, (String, u32)> {
    let (mut tree, mut todo) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = todo.pop() {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        let text = match fs::read_dir(&path) {
            Ok(entries) => {
                todo.extend(entries.map(|entry| entry.unwrap().path()));
                String::new()
            }
            Err(_) => fs::read_to_string(&path).unwrap(),
        };
        tree.insert(path, (text, mode));
    }
    tree
}

/// Runs `larder setup dockerd` below a directory, and says how it ended and what it printed.
async fn setup(larder: &Process, root: &Path, deed: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["setup", "dockerd", "--root", root.to_str().unwrap()], deed].concat();
    let run = larder.command(&arguments).await;
    (run.code, run.out + &run.err)
}

#[tokio::test]
async fn an_undo_leaves_every_file_as_it_was_before_the_first_write() {
    let larder = larder().await;
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir_all(root.join("etc/docker/certs.d/other.corp")).unwrap();
    let daemon = root.join("etc/docker/daemon.json");
    fs::write(&daemon, "{ \"debug\": true }\n").unwrap();
    fs::set_permissions(&daemon, fs::Permissions::from_mode(0o600)).unwrap();
    let before = tree(root);

    let (code, said) = setup(&larder, root, &["--undo"]).await;
    assert!(code == Some(0) && said.contains("unchanged"), "nothing was written: {said}");
    assert_eq!(tree(root), before);

    for writes in [&["http://a.corp"][..], &["http://a.corp", "http://b.corp"]] {
        for address in writes {
            let (code, said) = setup(&larder, root, &["--write", "--address", address]).await;
            assert_eq!(code, Some(0), "{said}");
        }
        let written = tree(root);
        assert!(written.len() > before.len());
        let (code, said) = setup(&larder, root, &["--undo", "--dry-run"]).await;
        assert!(code == Some(0) && said.contains("\n+{ \"debug\": true }\n"), "{said}");
        assert!(said.contains("\n+++ /dev/null\n"), "{said}");
        assert_eq!(tree(root), written, "a dry run changed something");

        let (code, said) = setup(&larder, root, &["--undo"]).await;
        assert!(code == Some(0) && said.contains("then: restart dockerd"), "{said}");
        for word in ["restored ", "removed "] {
            assert!(said.contains(word), "{said}");
        }
        assert_eq!(tree(root), before, "{writes:?}");
    }
}

#[tokio::test]
async fn an_undo_changes_nothing_if_somebody_else_has_changed_a_file_since() {
    let larder = larder().await;
    for (file, text) in [
        ("daemon.json", "{\"debug\": false}"),
        ("certs.d/docker.io/hosts.toml", "server = \"https://ours.corp\"\n"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("etc/docker")).unwrap();
        fs::write(root.join("etc/docker/daemon.json"), "{}\n").unwrap();
        let (code, said) = setup(&larder, root, &["--write"]).await;
        assert_eq!(code, Some(0), "{said}");
        fs::write(root.join("etc/docker").join(file), text).unwrap();
        let changed = tree(root);

        let (code, said) = setup(&larder, root, &["--undo"]).await;

        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("{file} was changed since Larder wrote it")), "{said}");
        assert!(said.contains("hint: take Larder's lines out"), "{said}");
        assert_eq!(tree(root), changed);

        // A write in between does not make the change Larder's own.
        let (code, said) = setup(&larder, root, &["--write"]).await;
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = setup(&larder, root, &["--undo"]).await;
        if file == "daemon.json" {
            assert!(code == Some(1) && said.contains("was changed since"), "{said}");
        }
    }
}

/// Its operator renames a registry between the write and the undo.
#[tokio::test]
async fn an_undo_finds_the_files_of_registries_that_are_not_configured_any_more() {
    let larder = larder().await;
    for (client, certs) in
        [("dockerd", "etc/docker/certs.d"), ("containerd", "etc/containerd/certs.d")]
    {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let run = async |deed: &[&str]| {
            let fixed = ["setup", client, "--root", root.to_str().unwrap()];
            larder.command(&[&fixed[..], deed].concat()).await
        };
        let certs = root.join(certs);
        for (registry, text) in [("kept.corp", "server = \"https://kept.corp\"\n"), ("ours", "#\n")]
        {
            fs::create_dir_all(certs.join(registry)).unwrap();
            fs::write(certs.join(registry).join("hosts.toml"), text).unwrap();
        }
        fs::write(certs.join("a file"), "").unwrap();
        let before = tree(&certs);
        let old = ["--registry", "old.corp:5000", "--registry", "kept.corp"];
        let written = run(&[&["--write"], &old[..]].concat()).await;
        assert_eq!(written.code, Some(0), "{written:?}");
        assert!(fs::read_to_string(certs.join("kept.corp/hosts.toml")).unwrap().contains("127."));

        let undone = run(&["--undo"]).await;

        assert_eq!(undone.code, Some(0), "{undone:?}");
        assert!(undone.out.contains("kept.corp/hosts.toml\n"), "{undone:?}");
        assert_eq!(tree(&certs), before, "{client}");
    }
}

#[tokio::test]
async fn what_was_applied_to_a_cluster_is_undone_by_another_document() {
    let larder = larder().await;
    let run = larder.command(&["setup", "kubernetes", "--undo"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("\ndata: {}\n") && run.out.contains("kind: DaemonSet"), "{run:?}");
    assert!(run.out.contains("# then: delete it: `kubectl -n kube-system delete"), "{run:?}");
    for deed in ["--write", "--dry-run"] {
        let run = larder.command(&["setup", "kubernetes", deed]).await;
        assert!(run.code == Some(2) && run.err.contains("applied to a cluster"), "{run:?}");
    }
}

/// A stand-in for podman, which the command finds first.
async fn check(larder: &Process, script: &str) -> CommandRun {
    let bin = tempfile::tempdir().unwrap();
    let podman = bin.path().join("podman");
    fs::write(&podman, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&podman, fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let image = format!("docker.io/{REPOSITORY}:latest");
    let check = ["setup", "podman", "--check", "--image", &image, "--timeout", "2s"];
    larder.command_on(&path, &check).await
}

#[tokio::test]
async fn a_check_tells_a_pull_that_came_through_from_one_that_passed_by_or_failed() {
    let larder = larder().await;
    larder.until(|larder| larder.cache_dir().join("control.sock").exists(), "a socket").await;
    let bypassed = check(&larder, "exit 0").await;
    assert_eq!(bypassed.code, Some(1), "{bypassed:?}");
    assert!(bypassed.err.contains("this server was not asked for it"), "{bypassed:?}");
    assert!(bypassed.out.contains("no client has asked for docker.io"), "{bypassed:?}");

    let failed = check(&larder, "echo no such image >&2; exit 125").await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.err.contains("failed: no such image"), "{failed:?}");

    let hung = check(&larder, "exec sleep 1000").await;
    assert_eq!(hung.code, Some(1), "{hung:?}");
    assert!(hung.err.contains(":latest` takes longer than 2s"), "{hung:?}");

    let address = larder.address;
    let get = format!(
        "[ \"$1 $2\" = 'pull docker.io/{REPOSITORY}:latest' ] || exit 9\n\
         exec 3<>/dev/tcp/{}/{}\n\
         printf 'GET /v2/{REPOSITORY}/manifests/latest HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' >&3\n\
         cat <&3 >/dev/null",
        address.ip(),
        address.port(),
    );
    let came = check(&larder, &get).await;
    assert_eq!((came.code, came.err.as_str()), (Some(0), ""), "{came:?}");
    assert!(came.out.contains("came through Larder: 1 requests"), "{came:?}");
    assert!(!came.out.contains("no client has asked"), "{came:?}");
}
