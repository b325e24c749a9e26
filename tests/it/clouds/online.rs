//! `larder check --online`: the real program asks real sockets, and says what it heard.

use std::fs;

use super::aws::{self, REGION, SECRETS, STATIC};
use crate::support::{Auth, Fault, ScriptedRegistry, When};

const PASSWORD: &str = "canary-of-check";

fn header(name: &'static str, value: &str) -> Fault {
    Fault::Header(name, value.to_owned())
}

/// Exit code, standard output and standard error.
async fn check(config: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, config).unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(["check", "--online", "--config"])
        .arg(&path)
        .env_clear()
        .env("HOME", dir.path())
        .env("LARDER_LOG", "trace")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// An upstream at a socket, and its entry.
async fn entry(name: &str, auth: Auth, written: &str) -> (ScriptedRegistry, String) {
    let hub = ScriptedRegistry::new();
    hub.requires(auth);
    let address = hub.listen().await;
    let entry = format!("[registry.'{name}']\nupstream = 'http://{address}'\n{written}\n");
    (hub, entry)
}

#[tokio::test]
async fn each_upstream_says_whether_it_takes_the_credential() {
    let basic = format!("auth = {{ type = 'basic', username = 'robot', password = '{PASSWORD}' }}");
    let taken = Auth::basic("robot", PASSWORD);
    let (_a, good) = entry("good.test", taken.clone(), &basic).await;
    let (_b, open) = entry("open.test", Auth::Open, "").await;
    let offline = "[registry.'off.test']\noffline = true\n[registry.'*.azurecr.io']\n";
    let (code, out, err) = check(&format!("{good}{open}{offline}"), &[]).await;
    assert_eq!(code, Some(0), "{out} {err}");
    for (name, want) in [
        ("good.test", "takes the login of `robot`"),
        ("open.test", "answers without a login"),
        ("off.test", "not asked, since it is offline"),
        ("*.azurecr.io", "not asked, since it names no host"),
    ] {
        let is_said = |line: &str| line.starts_with(&format!("{name}: ")) && line.contains(want);
        assert!(out.lines().any(is_said), "{name}: {out}");
    }
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "{out} {err}");

    let (_c, refused) = entry("refused.test", Auth::basic("robot", "another"), &basic).await;
    let gone = "[registry.'gone.test']\nupstream = 'http://127.0.0.1:1'\n";
    let (code, out, err) = check(&format!("{good}{refused}{gone}"), &[]).await;
    assert_eq!(code, Some(1), "{out} {err}");
    for (name, want) in
        [("good.test", "takes the login"), ("refused.test", "FAILED: "), ("gone.test", "FAILED: ")]
    {
        let is_said = |line: &str| line.starts_with(&format!("{name}: ")) && line.contains(want);
        assert!(out.lines().any(is_said), "{name}: {out}");
    }
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "{out} {err}");
}

#[tokio::test]
async fn a_password_that_a_cloud_issues_is_shown_by_its_owner_and_its_end() {
    let (aws, _) = aws::start(4_102_444_800.0).await;
    let ecr = format!("auth = {{ type = 'ecr', region = '{REGION}', endpoint = 'http://{aws}' }}");
    let (_hub, entry) = entry("ecr.test", Auth::basic("AWS", SECRETS[0]), &ecr).await;
    let keys = [("AWS_ACCESS_KEY_ID", STATIC.id), ("AWS_SECRET_ACCESS_KEY", STATIC.secret)];
    let (code, out, err) = check(&entry, &keys).await;
    assert_eq!(code, Some(0), "{out} {err}");
    let want = format!(
        "takes the login of `AWS`, which is the key {} of AWS, until 2100-01-01T00:00:00Z",
        STATIC.id
    );
    assert!(out.contains(&want), "{out}");
    let wrong = [("AWS_ACCESS_KEY_ID", STATIC.id), ("AWS_SECRET_ACCESS_KEY", "canary-wrong")];
    let (code, out_wrong, err_wrong) = check(&entry, &wrong).await;
    assert_eq!(code, Some(1), "{out_wrong} {err_wrong}");
    assert!(out_wrong.contains("InvalidSignatureException"), "{out_wrong}");
    for text in [out, err, out_wrong, err_wrong] {
        assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Docker Hub states its limits with every answer about a manifest, whatever that is.
#[tokio::test]
async fn the_pulls_that_are_left_at_docker_hub_are_shown() {
    let (hub, entry) = entry("docker.io", Auth::Open, "").await;
    hub.breaks(When::asked("/manifests/"), header("ratelimit-limit", "100;w=21600"));
    hub.breaks(When::asked("/manifests/"), header("ratelimit-remaining", "76;w=21600"));
    let (code, out, err) = check(&entry, &[]).await;
    assert_eq!(code, Some(0), "{out} {err}");
    assert!(out.contains("docker.io: 76 of 100 pulls in 6h are left"), "{out}");
    let asked: Vec<_> = hub.asked().iter().map(|asked| asked.target.clone()).collect();
    assert!(asked.iter().any(|target| target.contains("ratelimitpreview/test")), "{asked:?}");
    let reads: Vec<_> =
        hub.asked().into_iter().filter(|it| it.target.contains("/manifests/")).collect();
    assert!(reads.iter().all(|asked| asked.method == "HEAD"), "a GET costs a pull");
}
