//! Pushes of clients that ask the registry with credentials of their own.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use larder::access::{AccessOptions, AccessPolicy, AnonymousAccess, ChallengePolicy};
use larder::registry::{AskedAs, GrantPolicy};

use super::with_digest;
use crate::support::registry::{User, basic};
use crate::support::{Auth, Blob, Fault, Gate, Image, Proxy, Reply, ScriptedRegistry, Setup, When};

const ANN: (&str, &str) = ("ann", "canary-of-ann");
const BEN: (&str, &str) = ("ben", "canary-of-ben");

/// A registry in which ann may push to `team/app` and ben may read there.
async fn corp() -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.network.put("auth.corp.test", 80, hub.clone());
    let options = setup.registry("corp.test", &hub);
    options.rules.push = true;
    let (ttl, grace) = (Duration::from_secs(300), Duration::from_secs(3600));
    options.identity = AskedAs::Client(GrantPolicy { ttl, grace });
    let users = [
        User::new(ANN.0, ANN.1, &["team/app:pull,push"]),
        User::new(BEN.0, BEN.1, &["team/app:pull"]),
    ];
    hub.requires(Auth::users("http://auth.corp.test/token", &users));
    setup.access = AccessOptions {
        challenge: ChallengePolicy::Basic,
        policy: AccessPolicy { anonymous: AnonymousAccess::None, rules: Vec::new() },
        ..AccessOptions::default()
    };
    (hub, setup.start().await)
}

async fn send(
    proxy: &Proxy,
    method: Method,
    path: &str,
    (user, password): (&str, &str),
    body: Bytes,
) -> Reply {
    let header = basic(user, password);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let headers = [("authorization", header.as_str()), ("content-type", media_type)];
    proxy.client.send(method, path, &headers, body).await
}

async fn ask(proxy: &Proxy, method: Method, path: &str, user: (&str, &str)) -> Reply {
    send(proxy, method, path, user, Bytes::new()).await
}

async fn push_blob(proxy: &Proxy, blob: &Blob) {
    let begun = ask(proxy, Method::POST, "/v2/team/app/blobs/uploads/", ANN).await;
    begun.assert_status(202);
    let at = with_digest(begun.header("location").unwrap(), blob);
    send(proxy, Method::PUT, &at, ANN, blob.bytes.clone()).await.assert_status(201);
}

const V1: &str = "/v2/team/app/manifests/v1";

/// Most clients ask what is there before they push, and all of them after: that nothing was there
/// to ask after is no answer then, to whomever it was given.
#[tokio::test(start_paused = true)]
async fn content_that_was_a_404_to_a_client_is_found_after_it_is_pushed() {
    let (_hub, proxy) = corp().await;
    let image = Image::random(1, &[1000]);
    let digest = image.manifest.path("team/app");
    for user in [ANN, BEN] {
        for path in [V1, &digest, &image.layers[0].path("team/app")] {
            ask(&proxy, Method::HEAD, path, user).await.assert_status(404);
        }
    }

    for blob in image.blobs() {
        push_blob(&proxy, blob).await;
        ask(&proxy, Method::HEAD, &blob.path("team/app"), ANN).await.assert_status(200);
    }
    ask(&proxy, Method::HEAD, V1, ANN).await.assert_status(404);
    let body = image.manifest.blob.bytes.clone();
    send(&proxy, Method::PUT, V1, ANN, body).await.assert_status(201);

    for user in [ANN, BEN] {
        ask(&proxy, Method::GET, V1, user).await.assert_is(&image.manifest.blob);
        ask(&proxy, Method::GET, &digest, user).await.assert_is(&image.manifest.blob);
        let layer = &image.layers[0];
        ask(&proxy, Method::GET, &layer.path("team/app"), user).await.assert_is(layer);
    }
}

/// The registry looked before the push, and its answer came after it.
#[tokio::test(start_paused = true)]
async fn a_404_from_before_a_push_is_not_cached() {
    let (hub, proxy) = corp().await;
    let image = Image::random(1, &[]);
    for blob in image.blobs() {
        push_blob(&proxy, blob).await;
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let gate = Gate::new();
    hub.breaks(When::asked("/manifests/v1").head().first(1), Fault::HoldHeaders(gate.clone()));
    let (client, header) = (proxy.client.clone(), basic(BEN.0, BEN.1));
    let early = tokio::spawn(async move {
        let headers = [("authorization", header.as_str())];
        client.call(Method::GET, V1, &headers).await
    });
    gate.reached().await;
    tokio::time::advance(Duration::from_secs(1)).await;

    let body = image.manifest.blob.bytes.clone();
    send(&proxy, Method::PUT, V1, ANN, body).await.assert_status(201);
    tokio::time::advance(Duration::from_secs(1)).await;
    gate.open();
    early.await.unwrap().assert_status(404);

    ask(&proxy, Method::GET, V1, BEN).await.assert_is(&image.manifest.blob);
}
