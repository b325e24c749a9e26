//! The questions by which rights are confirmed take the asking client's share of the upstream, and
//! end with the client.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::access::AnonymousAccess;
use larder::http::ClientPeer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ANN, BEN, LATEST, ann, ask, asking, ben, put};
use crate::support::registry::basic;
use crate::support::{Client, Fault, Gate, Image, Proxy, ScriptedRegistry, Setup, When, settle};

/// A registry with room for `connections`, whose `team/app` Ann may read. Ben may read nothing, and
/// has just logged in.
async fn corp_with(connections: usize) -> (ScriptedRegistry, Image, Proxy, [Client; 2]) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &hub, &[ann(&["team/*:pull"]), ben(&["ben/*:pull"])]);
    setup.settings.registries[0].upstream.max_connections = connections;
    setup.access = asking(AnonymousAccess::None);
    let proxy = setup.start().await;
    let at = |address: &str| proxy.client_of(ClientPeer::at(address.parse::<IpAddr>().unwrap()));
    let clients = [at("10.0.0.1"), at("10.0.0.2")];
    ask(&clients[1], Method::GET, "/v2/", ("ben", BEN)).await.assert_status(200);
    hub.forget();
    (hub, image, proxy, clients)
}

/// Repositories that Ben makes up, none of them asked for twice.
fn made_up(count: usize) -> impl Iterator<Item = String> {
    (0..count).flat_map(|number| {
        let digest = format!("sha256:{number:064x}");
        [
            format!("manifests/v{number}"),
            format!("manifests/{digest}"),
            format!("blobs/{digest}"),
            format!("referrers/{digest}"),
            "tags/list".to_owned(),
        ]
        .into_iter()
        .enumerate()
        .map(move |(kind, what)| format!("/v2/made/up-{number}-{kind}/{what}"))
    })
}

/// Asks for all of it, and leaves when everything waits.
async fn ask_and_leave(client: &Client, paths: impl Iterator<Item = String>) {
    let io = TokioIo::new(client.dial());
    let (sender, connection) =
        handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut asking = JoinSet::new();
    for path in paths {
        let mut sender = sender.clone();
        asking.spawn(async move {
            let request = Request::get(format!("http://larder.test{path}"));
            let request = request.header("authorization", basic("ben", BEN));
            drop(sender.send_request(request.body(Empty::new()).unwrap()).await);
        });
    }
    settle().await;
    asking.shutdown().await;
    connection.abort();
    settle().await;
}

async fn assert_served_at_once(client: &Client, image: &Image) {
    let began = Instant::now();
    let layer = &image.layers[0];
    let own = ("ann", ANN);
    ask(client, Method::GET, LATEST, own).await.assert_is(&image.manifest.blob);
    ask(client, Method::GET, &layer.path("team/app"), own).await.assert_is(layer);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// The registry is slow to say that Ben has no right, and Ben asks for a hundred things at once.
#[tokio::test(start_paused = true)]
async fn rights_that_one_client_asks_for_leave_places_to_others() {
    let (hub, image, _proxy, [near, far]) = corp_with(8).await;
    let gate = Gate::new();
    hub.breaks(When::asked("/v2/made/up"), Fault::HoldHeaders(gate.clone()));
    let header = basic("ben", BEN);
    let own = [("authorization", header.as_str())];
    let mut asking: JoinSet<_> = made_up(20).map(|path| far.get_with(&path, &own)).collect();
    gate.reached_by(6).await;
    settle().await;

    assert_served_at_once(&near, &image).await;
    let held = hub.asked().iter().filter(|it| it.path().contains("/made/up")).count();
    assert_eq!(held, 6, "three in four of the places");

    asking.shutdown().await;
    gate.open();
    hub.heal();
    settle().await;
    assert_served_at_once(&near, &image).await;
}

/// Each right takes a token of its own, and the token server hangs for those of Ben.
#[tokio::test(start_paused = true)]
async fn tokens_for_the_rights_of_one_client_leave_places_to_others_and_end_with_it() {
    let (hub, image, _proxy, [near, far]) = corp_with(64).await;
    let gate = Gate::new();
    let of_made_up = When::asked("made%2Fup");
    hub.breaks(of_made_up, Fault::HoldHeaders(gate.clone()));

    ask_and_leave(&far, made_up(20)).await;
    let tokens = || hub.gets("made%2Fup").len();
    assert_eq!(tokens(), 24, "three in four of the fetches");
    assert_served_at_once(&near, &image).await;

    gate.open();
    settle().await;
    assert_eq!(tokens(), 24, "no client waits for the others");
    hub.heal();
    assert_served_at_once(&near, &image).await;
}

/// Each blob that the registry does not have is a question that confirms nothing. Others of the
/// same right must not stand in line behind all of them.
#[tokio::test(start_paused = true)]
async fn a_right_is_confirmed_though_two_hundred_questions_about_it_are_under_way() {
    let (hub, image, _proxy, [near, far]) = corp_with(64).await;
    hub.breaks(When::asked("/blobs/").head(), Fault::HoldHeaders(Gate::new()));
    let header = basic("ann", ANN);
    let own = [("authorization", header.as_str())];
    let missing = |number| format!("/v2/team/app/blobs/sha256:{number:064x}");
    let asking: JoinSet<_> = (0..200).map(|number| far.get_with(&missing(number), &own)).collect();
    settle().await;

    let began = Instant::now();
    ask(&near, Method::GET, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(asking);
}
