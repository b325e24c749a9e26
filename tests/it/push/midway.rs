//! A token that ends in the middle of a push: the push goes on.

use std::time::Duration;

use larder::upstream::ProxyCredential;
use tokio::time::advance;

use super::{begin, location, patch, put};
use crate::support::{Auth, Blob, ScriptedRegistry, Setup};

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_in_the_middle_of_a_long_push_stops_nothing() {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens_for("http://auth.docker.io/token", "robot", "pa55word"));
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, hub.clone());
    let options = setup.registry("docker.io", &hub);
    options.rules.push = true;
    options.upstream.credential =
        ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() };
    let proxy = setup.start().await;
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
