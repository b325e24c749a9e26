//! The scripted registry itself: a fake that lies by accident would prove nothing.

use std::sync::Arc;

use larder::http::Network;

use crate::support::client::answers_in;
use crate::support::{Auth, Blob, Client, Fault, Gate, Image, Place, ScriptedRegistry};
use crate::support::{TestNetwork, When};

/// A registry at `registry.test`, and a client that speaks to it without a proxy between.
fn direct() -> (ScriptedRegistry, Client, TestNetwork) {
    let registry = ScriptedRegistry::new();
    let network = TestNetwork::default();
    network.put("registry.test", 80, registry.clone());
    let served = registry.clone();
    let client = Client::new(Arc::new(move || {
        let (near, far) = tokio::io::duplex(64 << 10);
        let served = served.clone();
        tokio::spawn(async move {
            crate::support::network::Server::serve(&served, Box::new(far)).await;
        });
        Box::new(near)
    }));
    (registry, client, network)
}

/// Everything else is built on the honest answers being right.
#[tokio::test(start_paused = true)]
async fn an_honest_registry_serves_what_it_holds() {
    let (registry, client, _network) = direct();
    let image = Image::random(1, &[100_000]);
    registry.put_image("a/b", "latest", &image);
    let layer = &image.layers[0];

    client.get("/v2/a/b/manifests/latest").await.assert_is(&image.manifest.blob);
    client.get(&layer.path("a/b")).await.assert_is(layer);
    let part = client.get_with(&layer.path("a/b"), &[("range", "bytes=99990-")]).await;
    let head = client.head(&layer.path("a/b")).await;
    let absent = client.get(&layer.path("other")).await;

    part.assert_status(206);
    assert_eq!(part.body, layer.bytes[99_990..]);
    assert_eq!(part.header("content-range"), Some("bytes 99990-99999/100000"));
    assert_eq!((head.header("content-length"), head.body.len()), (Some("100000"), 0));
    assert_eq!(absent.error(404).0, "BLOB_UNKNOWN");
    assert_eq!(registry.gets(&layer.digest).len(), 3);
    assert_eq!(registry.body_bytes(layer.path("a/b")), 100_010);
}

/// Each fault must show in the way it says, or the tests that inject it inject nothing.
#[tokio::test(start_paused = true)]
async fn each_fault_of_a_body_shows_on_the_wire() {
    let (registry, client, _network) = direct();
    let blob = Blob::random(2, 50_000);
    registry.put_blob("a", &blob);
    // Fault, status, bytes that come, whether they look complete.
    let table = [
        (Fault::Chunked, 200, 50_000, true),
        (Fault::CloseDelimited, 200, 50_000, true),
        (Fault::CutAt(7), 200, 7, false),
        (Fault::CutLastByte, 200, 49_999, false),
        (Fault::Drip(1000), 200, 50_000, true),
        (Fault::FlipByte(Place::Middle), 200, 50_000, true),
        (Fault::GzipEncoding, 200, 50_023, true),
        (Fault::Html200, 200, 29, true),
        (Fault::RedirectTo("http://x/".to_owned()), 307, 29, true),
        (Fault::status(503), 503, 52, true),
        (Fault::TooLong(3), 200, 50_003, true),
        (Fault::TooShort(3), 200, 49_997, false),
        (Fault::Truncated(3), 200, 49_997, true),
    ];

    for (fault, status, len, is_complete) in table {
        registry.breaks(When::asked(&blob.digest), fault.clone());

        let reply = client.get(&blob.path("a")).await;

        assert_eq!(reply.status.as_u16(), status, "{fault:?}");
        assert_eq!((reply.body.len(), reply.is_complete()), (len, is_complete), "{fault:?}");
        registry.heal();
    }
    registry.breaks(When::asked(&blob.digest), Fault::CutHeaders);
    assert!(client.try_get(crate::support::Version::Http11, &blob.path("a")).await.is_err());
}

/// A fill held at 10 % is the heart of many tests.
#[tokio::test(start_paused = true)]
async fn a_gate_holds_an_answer_until_it_opens() {
    let (registry, client, _network) = direct();
    let blob = Blob::random(3, 50_000);
    registry.put_blob("a", &blob);
    let gate = Gate::new();
    registry.breaks(When::asked(&blob.digest).get().nth(1), Fault::HoldAt(5_000, gate.clone()));

    let mut download = client.raw().get("1.1", &blob.path("a"), &[]).await.unwrap();
    gate.reached().await;
    download.read_until(5_000, 512).await.unwrap();

    assert_eq!(registry.body_bytes(&blob.digest), 5_000, "not one byte more");
    client.get(&blob.path("a")).await.assert_is(&blob);
    gate.open();
    download.finish().await.assert_is(&blob);
}

/// The credential tests ask who got what; the guard must not let anything slip.
#[tokio::test(start_paused = true)]
async fn a_guarded_registry_wants_a_token_for_the_repository() {
    let (registry, client, _network) = direct();
    let blob = Blob::random(4, 10);
    registry.put_blob("a", &blob);
    registry.put_blob("b", &blob);
    registry.requires(Auth::tokens_for("http://registry.test/token", "u", "p"));
    let login = [("authorization", "Basic dTpw")];

    let refused = client.get(&blob.path("a")).await;
    let path = "/token?service=scripted&scope=repository%3Aa%3Apull";
    let stranger = client.get(path).await;
    let token = client.get_with(path, &login).await;
    let token: serde_json::Value = serde_json::from_slice(&token.body).unwrap();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let bearer = [("authorization", bearer.as_str())];

    refused.assert_status(401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.contains(r#"scope="repository:a:pull""#), "{challenge}");
    stranger.assert_status(401);
    client.get_with(&blob.path("a"), &bearer).await.assert_is(&blob);
    client.get_with(&blob.path("b"), &bearer).await.assert_status(401);
    registry.revoke_tokens();
    client.get_with(&blob.path("a"), &bearer).await.assert_status(401);
}

/// Each address without a server is a tripwire, whether reached by name or as a literal.
#[tokio::test(start_paused = true)]
async fn the_fake_network_fails_a_test_that_dials_an_unknown_host() {
    let (_registry, _client, network) = direct();
    network.name("inside.test", &["10.0.0.7"]);

    assert!(network.resolve("elsewhere.test", 80).await.is_err());
    let address = network.resolve("registry.test", 80).await.unwrap()[0];
    assert!(network.connect(address).await.is_ok());
    network.assert_untripped();
    let inside = network.resolve("inside.test", 80).await.unwrap()[0];
    assert!(network.connect(inside).await.is_err());
    assert!(network.connect("169.254.169.254:80".parse().unwrap()).await.is_err());

    assert_eq!(network.connections().len(), 3);
    assert!(std::panic::catch_unwind(|| network.assert_untripped()).is_err());
}

/// Keep-alive and pipelining are what framing tests count answers over.
#[tokio::test(start_paused = true)]
async fn one_connection_carries_several_requests() {
    let (_registry, client, _network) = direct();
    let mut raw = client.raw();

    raw.send(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\nGET /nope HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let first = raw.download().await.unwrap();

    assert_eq!(first.status, 200);
    assert_eq!(answers_in(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.0 404 x\r\n\r\n"), [200, 404]);
}
