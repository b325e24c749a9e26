//! `larder check --online`: the real program asks real sockets, and says what it heard.

use std::fs;

use super::aws::{self, REGION, SECRETS, STATIC};
use crate::support::egress::EgressProxy;
use crate::support::registry::User;
use crate::support::tls::TestCa;
use crate::support::{Auth, Fault, Image, ScriptedRegistry, When};

const PASSWORD: &str = "canary-of-check";

fn header(name: &'static str, value: &str) -> Fault {
    Fault::Header(name, value.to_owned())
}

/// Exit code, standard output and standard error.
async fn check(config: &str, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    check_about(&[], config, variables).await
}

/// The same about these hosts and repositories.
async fn check_about(
    subjects: &[&str],
    config: &str,
    variables: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    fs::write(&path, config).unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(["check", "--online", "--config"])
        .arg(&path)
        .args(subjects)
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

/// Each line of the outcome that is about this.
fn lines_of<'t>(out: &'t str, subject: &str) -> Vec<&'t str> {
    let prefix = format!("{subject}: ");
    out.lines().filter_map(|line| line.strip_prefix(&*prefix)).collect()
}

/// The rights in a repository are the registry's answer, and nothing is left there.
#[tokio::test]
async fn the_rights_of_each_login_in_a_repository_are_shown() {
    let hub = ScriptedRegistry::new();
    for repository in ["team/app", "team/base", "team/secret"] {
        hub.put_image(repository, "v1", &Image::random(1, &[10]));
    }
    let address = hub.listen().await;
    let realm = format!("http://{address}/token");
    let users = [
        User::new("robot", PASSWORD, &["team/app:pull,push,delete", "team/base:pull"]),
        User::new("other", "canary-two", &["team/base:pull"]),
    ];
    hub.requires(Auth::users(&realm, &users));
    let config = format!(
        "[registry.'up.test']\nupstream = 'http://{address}'\npush = true\nauth = [\n\
         {{ type = 'basic', username = 'robot', password = '{PASSWORD}' }},\n\
         {{ type = 'basic', username = 'other', password = 'canary-two' }} ]\n"
    );
    for (repository, want, code_wanted) in [
        ("team/app:v1", ["`robot` may pull, may push", "`other` may NOT pull: "], 1),
        ("team/base:v1", ["`robot` may pull, may NOT push: ", "`other` may pull"], 1),
        ("team/secret:v1", ["`robot` may NOT pull: ", "`other` may NOT pull: "], 1),
        ("team/app:absent", ["`robot` may NOT pull: ", "`other` may NOT pull: "], 1),
    ] {
        let subject = format!("up.test/{repository}");
        let (code, out, err) = check_about(&["--repository", &subject], &config, &[]).await;
        assert_eq!(code, Some(code_wanted), "{out} {err}");
        let lines = lines_of(&out, &subject);
        assert_eq!(lines.len(), 2, "{out}");
        for (line, want) in lines.iter().zip(want) {
            assert!(line.starts_with(want), "{repository}: {line}");
        }
        assert!(!out.contains("canary") && !err.contains("canary"), "{out} {err}");
    }
    assert_eq!(hub.uploads(), 0, "what was begun was cancelled");
    assert!(hub.changes("POST", "uploads").len() >= 4);

    let pulls_only = config.replace("push = true\n", "");
    hub.forget();
    let subject = "up.test/team/base:v1";
    let (code, out, err) = check_about(&["--repository", subject], &pulls_only, &[]).await;
    assert_eq!(code, Some(0), "{out} {err}");
    assert_eq!(lines_of(&out, subject), ["`robot` may pull", "`other` may pull"]);
    assert!(hub.changes("POST", "").is_empty(), "no push is tried where none is taken");
}

/// A pattern has no host: those are asked that the operator or `[[warm]]` names.
#[tokio::test]
async fn the_registries_of_a_pattern_are_asked_that_are_named() {
    let (proxy, ca) = (EgressProxy::default(), TestCa::new());
    let mut hubs = Vec::new();
    for host in ["one.corp.example", "two.corp.example", "three.corp.example"] {
        let hub = ScriptedRegistry::new();
        hub.requires(Auth::basic("robot", PASSWORD));
        hub.put_image("team/app", "latest", &Image::random(1, &[10]));
        proxy.behind.put(host, 443, ca.protect(host, hub.clone()));
        hubs.push(hub);
    }
    let at = format!("http://{}", proxy.listen().await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca");
    fs::write(&file, ca.pem()).unwrap();
    let config = format!(
        "[registry.'*.corp.example']\nca = '{}'\n\
         auth = {{ type = 'basic', username = 'robot', password = '{PASSWORD}' }}\n\
         [[warm]]\nimages = ['three.corp.example/team/app']\n",
        file.display()
    );
    let subjects = ["--host", "one.corp.example", "--repository", "two.corp.example/team/app"];
    let variables = [("HTTPS_PROXY", &*at)];
    let (code, out, err) = check_about(&subjects, &config, &variables).await;
    assert_eq!(code, Some(0), "{out} {err}");
    for host in ["one.corp.example", "two.corp.example", "three.corp.example"] {
        let lines = lines_of(&out, host);
        assert_eq!(lines, [format!("{host} takes the login of `robot`")], "{out}");
    }
    assert_eq!(lines_of(&out, "two.corp.example/team/app:latest"), ["`robot` may pull"], "{out}");
    assert!(lines_of(&out, "*.corp.example")[0].starts_with("names no host; 3 "), "{out}");
    assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "{out} {err}");

    let (code, out, _) = check_about(&["--host", "evil.test"], &config, &variables).await;
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(lines_of(&out, "evil.test"), ["the configuration has no entry"], "{out}");
    assert!(proxy.asked().iter().all(|line| line.contains(".corp.example:443")));
    for (subject, value) in [("--host", "a b"), ("--repository", "UP:://x")] {
        let (code, _, err) = check_about(&[subject, value], &config, &variables).await;
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(value), "{err}");
    }
}
