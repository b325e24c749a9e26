//! A credential that ends in the middle of a push: the push goes on, or the client reads that it
//! may try again.

use std::time::Duration;

use larder::upstream::ProxyCredential;
use tokio::time::advance;

use super::{begin, copies, location, patch, put};
use crate::support::client::request;
use crate::support::{Auth, Blob, Fault, Proxy, ScriptedRegistry, Setup, When, settle};

const REALM: &str = "http://auth.docker.io/token";

/// A mirror with a login, and the registry, which wants tokens.
async fn guarded() -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens_for(REALM, "robot", "pa55word"));
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, hub.clone());
    let options = setup.registry("docker.io", &hub);
    options.rules.push = true;
    options.upstream.credential =
        ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() };
    let proxy = setup.start().await;
    (hub, proxy)
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_in_the_middle_of_a_long_push_stops_nothing() {
    let (hub, proxy) = guarded().await;
    let blob = Blob::random(1, 4 << 20);
    let begun = begin(&proxy, "o/a").await;
    let mut place = begun;
    for piece in blob.bytes.chunks(2 << 20) {
        // Longer than the token lives, and its registry has forgotten it.
        advance(Duration::from_secs(301)).await;
        hub.revoke_tokens();
        let appended = patch(&proxy, &place, piece).await;
        appended.assert_status(202);
        place = location(&appended);
    }
    advance(Duration::from_secs(301)).await;
    hub.revoke_tokens();
    let before = hub.gets("/token").len();
    put(&proxy, &place, &blob, &[]).await.assert_status(201);
    assert_eq!(hub.gets("/token").len(), before + 1, "another token for the end of the push");
    proxy.get(&blob.path("o/a")).await.assert_is(&blob);
}

/// Nearly all clients send a layer so. The registry looks at a token when a request begins, and the
/// layer takes longer than a token lives.
#[tokio::test(start_paused = true)]
async fn a_token_that_ends_while_one_patch_streams_stops_nothing() {
    let (hub, proxy) = guarded().await;
    let blob = Blob::random(1, 1 << 20);
    let begun = begin(&proxy, "o/a").await;
    let length = blob.len().to_string();
    let mut client = proxy.client.raw();
    client.send(&request("PATCH", "1.1", &begun, &[("content-length", &length)])).await;
    for piece in blob.bytes.chunks(32 << 10) {
        client.send(piece).await;
        settle().await;
        advance(Duration::from_secs(20)).await;
        hub.revoke_tokens();
    }
    let appended = client.download().await.unwrap();
    assert_eq!(appended.status, 202);
    assert_eq!(hub.changes("PATCH", "").len(), 1);
    let place = appended.headers["location"].to_str().unwrap().to_owned();
    let before = hub.gets("/token").len();

    put(&proxy, &place, &blob, &[]).await.assert_status(201);

    assert_eq!(hub.gets("/token").len(), before + 1, "another token for the end of the push");
    assert_eq!(hub.blob("o/a", &blob.digest).unwrap(), blob.bytes);
    hub.forget();
    proxy.get(&blob.path("o/a")).await.assert_is(&blob);
    hub.assert_not_asked();
}

/// A registry, or the gateway before it, that looks at the token once more in the end, or before
/// the body has come: clients give up on 401, and try again after 503.
#[tokio::test(start_paused = true)]
async fn a_patch_that_is_refused_when_it_has_streamed_may_be_sent_again() {
    let challenge = format!(r#"Bearer realm="{REALM}",service="scripted",error="invalid_token""#);
    let challenge = vec![("WWW-Authenticate", challenge)];
    let unauthorized = r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#;
    for fault in [
        Fault::Status(401, challenge, unauthorized),
        Fault::Status(401, Vec::new(), unauthorized),
        Fault::AnswerInBody(100_000, 401),
    ] {
        let (hub, proxy) = guarded().await;
        let blob = Blob::random(1, 1 << 20);
        let begun = begin(&proxy, "o/a").await;
        hub.breaks(When::asked("/uploads/").by("PATCH").nth(1), fault.clone());

        let refused = patch(&proxy, &begun, &blob.bytes).await;

        assert_eq!(refused.error(503).0, "UNAVAILABLE", "{fault:?}");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(
            !refused.headers.contains_key("www-authenticate"),
            "it is not the client's to meet"
        );
        let before = hub.gets("/token").len();
        let appended = patch(&proxy, &begun, &blob.bytes).await;
        appended.assert_status(202);
        assert_eq!(hub.gets("/token").len(), before + 1, "the token that was refused is gone");
        put(&proxy, &location(&appended), &blob, &[]).await.assert_status(201);
        assert_eq!(hub.blob("o/a", &blob.digest).unwrap(), blob.bytes, "{fault:?}");
        settle().await;
        assert_eq!(copies(&proxy), 0);
    }
}

/// A quota and a right are no login: the client reads what the registry says.
#[tokio::test(start_paused = true)]
async fn a_patch_that_is_refused_for_a_right_is_not_to_be_sent_again() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"quota exceeded"}]}"#;
    let scope = format!(r#"Bearer realm="{REALM}",service="scripted",error="insufficient_scope""#);
    for (status, headers) in [(403, Vec::new()), (401, vec![("WWW-Authenticate", scope)])] {
        let (hub, proxy) = guarded().await;
        let blob = Blob::random(1, 1 << 20);
        let begun = begin(&proxy, "o/a").await;
        hub.breaks(When::asked("/uploads/").by("PATCH"), Fault::Status(status, headers, denied));
        let (code, message) = patch(&proxy, &begun, &blob.bytes).await.error(status);
        assert_eq!((&*code, message.contains("quota")), ("DENIED", true), "{status}");
    }
}
