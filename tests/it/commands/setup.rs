//! `larder setup`: files that are written and kept, and pulls that come through or pass by.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

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
