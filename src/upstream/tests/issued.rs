//! Larder's own credential from a source: where it goes, and what happens when it is refused.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::login::{challenge, token};
use super::sites::reply;
use super::*;
use crate::credentials::{CredentialEnvironment, CredentialOptions, DockerConfigOptions};

const BEARER: &str = r#"Bearer realm="http://auth.example.com/token",service="up""#;

/// An upstream whose credential stands in a file of docker.
fn from_file(file: &Path) -> UpstreamOptions {
    let environment = CredentialEnvironment::default();
    let options = DockerConfigOptions { file: Some(file.to_owned()), environment };
    let credential = ProxyCredential::Issued(CredentialOptions::DockerConfig(options));
    UpstreamOptions { credential, ..super::options() }
}

fn write(file: &Path, entry: &str) {
    let text = format!(r#"{{ "auths": {{ "up.example.com": {entry} }} }}"#);
    std::fs::write(file, text).unwrap();
}

fn password(password: &str) -> String {
    format!(r#"{{ "username": "me", "password": "{password}" }}"#)
}

/// A registry that wants a password, `me:two`.
fn wants_two(network: &ScriptedSites) {
    network.serve(UP, |seen| match seen.header("authorization") {
        Some("Basic bWU6dHdv") => reply(200, &[], "layer"),
        _ => challenge("Basic realm=x"),
    });
}

#[tokio::test(start_paused = true)]
async fn a_password_that_is_changed_in_its_file_is_taken_without_a_restart() {
    let network = world();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    write(&file, &password("one"));
    wants_two(&network);
    let upstream = upstream(&network, &from_file(&file));
    assert!(matches!(pull(&upstream).await, Err(UpstreamError::CredentialRefused { .. })));
    assert!(
        upstream.troubles().iter().any(|it| it.kind == crate::upstream::TroubleKind::Credential)
    );

    write(&file, &password("two"));
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(pull(&upstream).await.unwrap(), "layer");
    assert!(upstream.troubles().is_empty(), "{:?}", upstream.troubles());
}

#[tokio::test(start_paused = true)]
async fn a_file_without_an_entry_is_no_login() {
    let network = world();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    std::fs::write(&file, "{}").unwrap();
    network.serve(UP, |seen| match seen.header("authorization") {
        None => challenge(BEARER),
        Some("Bearer open") => reply(200, &[], "layer"),
        Some(_) => reply(401, &[], ""),
    });
    network.serve(AUTH, |seen| match seen.header("authorization") {
        None => token("open"),
        Some(_) => reply(401, &[], ""),
    });
    assert_eq!(pull(&upstream(&network, &from_file(&file))).await.unwrap(), "layer");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_told_and_nothing_is_sent_with_a_login() {
    let network = world();
    wants_two(&network);
    let upstream = upstream(&network, &from_file(Path::new("/nonexistent/config.json")));
    let error = pull(&upstream).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, UpstreamError::NoCredential { .. }), "{text}");
    assert!(text.contains("/nonexistent/config.json does not exist"), "{text}");
    assert!(network.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(upstream.troubles().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_goes_to_the_token_server_alone_and_by_post() {
    let network = world();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    write(&file, r#"{ "identitytoken": "refresh me" }"#);
    network.serve(UP, |seen| match seen.header("authorization") {
        Some("Bearer t") => reply(200, &[], "layer"),
        _ => challenge(BEARER),
    });
    network.serve(AUTH, |seen| {
        let want = "grant_type=refresh_token&service=up&client_id=larder\
                    &scope=repository%3Aa%2Fb%3Apull&refresh_token=refresh+me";
        let is_right = seen.method == "POST" && seen.target == "/token" && seen.body == want;
        if is_right { token("t") } else { reply(400, &[], r#"{"error":"invalid_grant"}"#) }
    });
    let upstream = upstream(&network, &from_file(&file));
    assert_eq!(pull(&upstream).await.unwrap(), "layer");
    for seen in network.seen() {
        let is_shown = format!("{seen:?}").contains("refresh+me");
        assert!(!is_shown || seen.host == "auth.example.com", "{seen:?}");
    }

    write(&file, r#"{ "identitytoken": "ended" }"#);
    tokio::time::advance(Duration::from_secs(600)).await;
    let refused = pull(&upstream).await.unwrap_err();
    assert!(matches!(refused, UpstreamError::CredentialRefused { .. }), "{refused}");
    assert!(!refused.to_string().contains("ended"), "{refused}");
}

/// Docker Hub locks an account out after a dozen wrong passwords.
#[tokio::test(start_paused = true)]
async fn a_refused_password_is_shown_a_few_times_and_then_with_growing_pauses() {
    let network = world();
    let shown = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&shown);
    network.serve(UP, |_| challenge(BEARER));
    network.serve(AUTH, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        reply(401, &[], "")
    });
    let upstream = upstream(&network, &with_password("wrong"));
    for _ in 0..3_600 {
        let refused = pull(&upstream).await;
        assert!(matches!(refused, Err(UpstreamError::CredentialRefused { .. })), "{refused:?}");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let shown = shown.load(Ordering::SeqCst);
    assert!((4..16).contains(&shown), "shown {shown} times in an hour");
}
