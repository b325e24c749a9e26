//! Larder's own credential from programs: the real program runs them, and neither what they do
//! wrong nor what they write gets anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::instance::{client_of, free_address};
use crate::support::{Auth, Image, Instance, ScriptedRegistry};

const PASSWORD: &str = "canary-of-a-program";

fn script(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A tag pulled through a Larder whose credential is `auth`, as status, body and log. Programs are
/// found in `dir`.
async fn pull(dir: &Path, auth: &str) -> (u16, String, String) {
    let hub = ScriptedRegistry::new();
    hub.put_image("team/app", "latest", &Image::random(1, &[1000]));
    hub.requires(Auth::basic("robot", PASSWORD));
    let upstream = hub.listen().await;
    let (address, admin) = (free_address(), free_address());
    let config = format!(
        "listen = ['{address}']\nadmin_listen = '{admin}'\ndashboard.listen = ''\n\
         [registry.'up.test']\nupstream = 'http://{upstream}'\nauth = {auth}\n"
    );
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let variables = [("LARDER_LOG", "trace"), ("PATH", path.as_str())];
    let larder = Instance::start_with(&[], &config, &variables).await;
    let reply = client_of(address).get("/v2/up.test/team/app/manifests/latest").await;
    let ready = client_of(admin).get("/readyz").await.text();
    let metrics = client_of(admin).get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body);
    let said = format!("{}\n{ready}\n{metrics}", larder.log());
    (reply.status.as_u16(), reply.text(), said)
}

fn helper(name: &str) -> String {
    format!("{{ type = 'helper', helper = '{name}' }}")
}

#[tokio::test]
async fn a_helper_of_docker_gives_the_credential_and_its_faults_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let answer = format!(r#"echo '{{"ServerURL":"x","Username":"robot","Secret":"{PASSWORD}"}}'"#);
    for (name, text, status, said) in [
        ("good", format!("[ \"$1\" = get ] && grep -q 127.0.0.1 && {answer}"), 200, ""),
        ("without-reading", answer.clone(), 200, ""),
        ("failing", format!("{answer}; exit 1"), 502, "`docker-credential-failing` failed; try"),
        ("rubbish", format!("echo {PASSWORD}"), 502, "is not a credential in JSON"),
        ("flood", format!("yes {PASSWORD}"), 502, "wrote more than 256 KiB"),
        ("none", "echo 'credentials not found in native keychain'; exit 1".to_owned(), 404, ""),
    ] {
        script(dir.path(), &format!("docker-credential-{name}"), &text);
        let (got, body, log) = pull(dir.path(), &helper(name)).await;
        assert_eq!(got, status, "{name}: {body}");
        assert!(body.contains(said), "{name}: {body}");
        assert!(!body.contains(PASSWORD) && !log.contains(PASSWORD), "{name}: {log}");
    }
    let (got, body, log) = pull(dir.path(), &helper("absent")).await;
    assert_eq!(got, 502, "{body}");
    assert!(body.contains("cannot run `docker-credential-absent`"), "{body}");
    assert!(log.contains("credential-refused") || log.contains("cannot get a credential"), "{log}");
}

#[tokio::test]
async fn a_provider_of_the_kubelet_gives_the_credential_and_its_faults_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let api = "credentialprovider.kubelet.k8s.io/v1";
    let response = |pattern: &str, api: &str| {
        format!(
            r#"echo '{{"apiVersion":"{api}","kind":"CredentialProviderResponse",
            "cacheKeyType":"Registry","cacheDuration":"12h0m0s","auth":{{"{pattern}":
            {{"username":"robot","password":"{PASSWORD}"}}}}}}'"#
        )
    };
    let asked = format!(
        r#"in=$(cat); case "$in" in *'"apiVersion":"{api}"'*CredentialProviderRequest*127.0.0.1:*/team/app*) ;; *) exit 3;; esac"#
    );
    for (name, text, status, said) in [
        (
            "good",
            format!("{asked}; [ \"$1\" = --x ] && {}", response("*.*.0.1:PORT", api)),
            200,
            "",
        ),
        ("other", response("*.other.test", api), 404, ""),
        ("old", response("*", "credentialprovider.kubelet.k8s.io/v1alpha1"), 502, "protocol"),
        ("rubbish", format!("echo {PASSWORD}"), 502, "is not a response of a provider"),
        ("failing", "exit 1".to_owned(), 502, "` failed"),
    ] {
        // The port of the registry is not known before; the request says it.
        let text =
            text.replace("PORT", "'$(echo \"$in\" | sed 's|.*127.0.0.1:\\([0-9]*\\)/.*|\\1|')'");
        script(dir.path(), name, &text);
        let program = dir.path().join(name);
        let auth = format!("{{ type = 'kubelet', command = ['{}', '--x'] }}", program.display());
        let (got, body, log) = pull(dir.path(), &auth).await;
        assert_eq!(got, status, "{name}: {body} {log}");
        assert!(body.contains(said), "{name}: {body}");
        assert!(!body.contains(PASSWORD) && !log.contains(PASSWORD), "{name}: {log}");
    }
}
