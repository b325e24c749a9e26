//! Clients that ask and leave at once: their questions go with them.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::http::ClientPeer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    Blob, Fault, Gate, Image, Proxy, ScriptedRegistry, Setup, Version, When, settle,
};

const REPOSITORY: &str = "library/alpine";

type H2Client = SendRequest<Empty<Bytes>>;

async fn h2(proxy: &Proxy) -> H2Client {
    let io = TokioIo::new(proxy.client.dial());
    let (client, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Asks for all of these, and resets each stream once everything waits.
async fn ask_and_leave(client: &H2Client, paths: impl IntoIterator<Item = String>) {
    let mut asking = JoinSet::new();
    for path in paths {
        let mut client = client.clone();
        asking.spawn(async move {
            client.ready().await.unwrap();
            let uri = format!("http://larder.test{path}");
            drop(client.send_request(Request::get(uri).body(Empty::new()).unwrap()).await);
        });
    }
    settle().await;
    asking.shutdown().await;
    settle().await;
}

/// All kinds of things that are not held, none of them asked for twice.
fn made_up(wave: usize) -> impl Iterator<Item = String> {
    (0..20).flat_map(move |number| {
        let digest = format!("sha256:{:064x}", wave * 20 + number);
        [
            format!("manifests/v{wave}-{number}"),
            format!("manifests/{digest}"),
            format!("blobs/{digest}"),
            format!("referrers/{digest}"),
            format!("tags/list?n=1&last=v{wave}-{number}"),
        ]
        .map(|what| format!("/v2/made/up/{what}"))
    })
}

#[tokio::test(start_paused = true)]
async fn questions_of_clients_that_left_take_no_place_from_others() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.breaks(When::asked("/made/up/"), Fault::HoldHeaders(Gate::new()));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).upstream.max_connections = 4;
    let proxy = setup.start().await;
    let client = h2(&proxy).await;

    for wave in 0..5 {
        ask_and_leave(&client, made_up(wave)).await;
    }

    let began = Instant::now();
    proxy.pull(REPOSITORY, "latest", &image).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Questions that are waited for stand in line as well, behind those of their own client.
#[tokio::test(start_paused = true)]
async fn a_clients_hundred_questions_do_not_delay_the_one_of_another() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let gate = Gate::new();
    hub.breaks(When::asked("/made/up/"), Fault::HoldHeaders(gate.clone()));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).upstream.max_connections = 8;
    let proxy = setup.start().await;
    let other = proxy.client_of(ClientPeer::at("10.0.0.2".parse().unwrap()));
    let mut asking: JoinSet<_> =
        made_up(0).map(|path| proxy.client.try_get(Version::Http11, &path)).collect();
    gate.reached_by(6).await;
    settle().await;

    let began = Instant::now();
    other.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);
    let layer = &image.layers[0];
    other.get(&layer.path(REPOSITORY)).await.assert_is(layer);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(hub.asked().iter().filter(|it| it.path().contains("/made/up/")).count(), 6);

    // The places are given back.
    asking.shutdown().await;
    gate.open();
    hub.heal();
    settle().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
}

/// A fill that no client waits for ends before its first byte, and goes on after it.
#[tokio::test(start_paused = true)]
async fn a_fill_is_dropped_with_its_last_client_until_it_brings_bytes() {
    for (fault, is_dropped) in [
        (Fault::HoldHeaders as fn(Gate) -> Fault, true),
        (|gate| Fault::HoldAt(100_000, gate), false),
    ] {
        let hub = ScriptedRegistry::new();
        let (proxy, blob) = (Proxy::before(&hub).await, Blob::random(1, 300_000));
        hub.put_blob(REPOSITORY, &blob);
        let gate = Gate::new();
        hub.breaks(When::asked(&blob.digest).get().first(1), fault(gate.clone()));
        let client = h2(&proxy).await;

        ask_and_leave(&client, [blob.path(REPOSITORY)]).await;
        gate.open();
        settle().await;

        assert_eq!(hub.gets(&blob.digest).len(), 1);
        if !is_dropped {
            proxy.until_stored(&blob.digest).await;
        }
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
        assert_eq!(hub.gets(&blob.digest).len(), if is_dropped { 2 } else { 1 });
    }
}

/// Clients that stay get the one answer, however many leave.
#[tokio::test(start_paused = true)]
async fn a_client_that_stays_keeps_the_question_of_those_that_leave() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    let client = h2(&proxy).await;
    let latest = format!("/v2/{REPOSITORY}/manifests/latest");
    let layer = &image.layers[0];
    for (path, blob) in [(latest, &image.manifest.blob), (layer.path(REPOSITORY), layer)] {
        let gate = Gate::new();
        hub.forget();
        hub.breaks(When::asked(&path), Fault::HoldHeaders(gate.clone()));
        let leaving = tokio::spawn({
            let (client, path) = (client.clone(), path.clone());
            async move { ask_and_leave(&client, vec![path; 20]).await }
        });
        let staying = tokio::spawn(proxy.client.get(&path));
        leaving.await.unwrap();
        gate.open();
        staying.await.unwrap().assert_is(blob);
        assert_eq!(hub.asked().iter().filter(|it| it.method == "GET").count(), 1, "{path}");
    }
}
