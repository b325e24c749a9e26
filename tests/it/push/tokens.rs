//! The login on the way up: settled when an upload begins, good for a while at each request.

use std::time::Duration;

use super::{begin, location, patch, post, push_blob, push_image, put};
use crate::support::{Auth, Blob, Image, Proxy, ScriptedRegistry, Setup};

const REALM: &str = "http://auth.docker.io/token";

async fn open(hub: &ScriptedRegistry) -> Proxy {
    let mut setup = Setup::new();
    let options = setup.registry("docker.io", hub);
    options.rules.push = true;
    options.upstream.credential = larder::upstream::ProxyCredential::Basic {
        username: "robot".to_owned(),
        password: "password".to_owned().into(),
    };
    setup.network.put("auth.docker.io", 80, hub.clone());
    setup.start().await
}

#[tokio::test(start_paused = true)]
async fn a_token_to_push_is_asked_for_when_the_upload_begins() {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens_for(REALM, "robot", "password"));
    let proxy = open(&hub).await;
    let image = Image::random(1, &[1000]);

    push_image(&proxy, "o/a", "v1", &image).await;

    let asked = hub.gets("/token");
    assert_eq!(asked.len(), 1, "one token for all of it");
    assert_eq!(asked[0].query("scope"), ["repository:o/a:pull,push"]);
    let first = &hub.changes("PATCH", "")[0];
    assert!(first.header("authorization").is_some(), "a body is not sent in vain");
}

/// Tokens live for minutes, uploads for hours: each request has one that is good for it.
#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_between_the_requests_of_an_upload() {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens_for(REALM, "robot", "password"));
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 3000);
    let mut at = begin(&proxy, "o/a").await;
    for piece in blob.bytes.chunks(1000) {
        // 300 s of life, of which 60 have to be left.
        tokio::time::advance(Duration::from_secs(241)).await;
        let appended = patch(&proxy, &at, piece).await;
        appended.assert_status(202);
        at = location(&appended);
    }
    put(&proxy, &at, &blob, &[]).await.assert_status(201);

    assert!(hub.asked().iter().filter(|asked| asked.status() == 401).count() <= 1);
}

/// A restart has forgotten what the upstream wants; a body must not be what finds it out.
#[tokio::test(start_paused = true)]
async fn an_upload_that_goes_on_after_a_restart_logs_in_first() {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens_for(REALM, "robot", "password"));
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 1000);
    let begun = begin(&proxy, "o/a").await;
    proxy.restart().await;
    hub.forget();

    put(&proxy, &begun, &blob, &blob.bytes).await.assert_status(201);

    let puts = hub.changes("PUT", "");
    assert_eq!(puts.len(), 1);
    assert!(puts[0].header("authorization").is_some());
}

/// A body that was refused cannot be sent again. A client gives up on 401, so it reads that it may
/// try again, and its next try works.
#[tokio::test(start_paused = true)]
async fn a_token_that_was_revoked_in_between_is_reported() {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens_for(REALM, "robot", "password"));
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 1000);
    let begun = begin(&proxy, "o/a").await;
    hub.revoke_tokens();

    let refused = put(&proxy, &begun, &blob, &blob.bytes).await;
    assert_eq!(refused.error(503).0, "UNAVAILABLE");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(!refused.headers.contains_key("www-authenticate"), "it is not the client's to meet");

    put(&proxy, &begun, &blob, &blob.bytes).await.assert_status(201);
}

/// To mount takes leave to read where the blob is.
#[tokio::test(start_paused = true)]
async fn a_mount_asks_for_both_repositories() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    hub.put_blob("o/a", &blob);
    hub.requires(Auth::tokens_for(REALM, "robot", "password"));
    let proxy = open(&hub).await;

    let path = format!("/v2/o/b/blobs/uploads/?mount={}&from=o/a", blob.digest);
    post(&proxy, &path).await.assert_status(201);

    let scopes = hub.gets("/token")[0].query("scope");
    assert_eq!(scopes, ["repository:o/b:pull,push", "repository:o/a:pull"]);
}

/// Reading and writing are two tokens: a pull asks for no more than it takes.
#[tokio::test(start_paused = true)]
async fn a_pull_asks_for_no_right_to_push() {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens_for(REALM, "robot", "password"));
    let proxy = open(&hub).await;
    let blob = Blob::random(1, 1000);
    push_blob(&proxy, "o/a", &blob).await.assert_status(201);
    hub.forget();

    proxy.get("/v2/o/a/manifests/v1").await.error(404);

    assert_eq!(hub.gets("/token")[0].query("scope"), ["repository:o/a:pull"]);
}
