//! Clients that close their sending side once they have asked, and clients that have left, which
//! looks alike.

use std::time::Duration;

use http::Method;
use larder::http::NetworkConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::instance::free_address;
use crate::support::{Blob, Fault, Gate, Image, Instance, Proxy, ScriptedRegistry, When, settle};

const REPOSITORY: &str = "library/alpine";

/// Sends a request, closes the sending side, and reads all that comes.
async fn ask(mut io: NetworkConnection, request: &str) -> (String, Vec<u8>) {
    io.write_all(request.as_bytes()).await.unwrap();
    io.shutdown().await.unwrap();
    let mut answer = Vec::new();
    drop(io.read_to_end(&mut answer).await);
    let at =
        answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let body = answer.split_off(at);
    (String::from_utf8_lossy(&answer).into_owned(), body)
}

fn get(path: &str, version: &str, field: &str) -> String {
    format!("GET {path} HTTP/{version}\r\nHost: larder.test\r\n{field}\r\n")
}

/// How a client may say that it will ask for nothing more, or not say it.
const WAYS: [(&str, &str); 4] = [
    ("1.1", "Connection: close\r\n"),
    ("1.1", ""),
    ("1.0", ""),
    ("1.0", "Connection: keep-alive\r\n"),
];

#[tokio::test(start_paused = true)]
async fn a_client_that_half_closes_gets_its_whole_answer() {
    for (version, field) in WAYS {
        for (wait, is_cold) in [(0, false), (0, true), (200, true), (14_000, true)] {
            let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[1 << 20]));
            hub.put_image(REPOSITORY, "latest", &image);
            let proxy = Proxy::before(&hub).await;
            if !is_cold {
                proxy.pull(REPOSITORY, "latest", &image).await;
            }
            let gate = Gate::new();
            if wait > 0 {
                hub.breaks(When::asked("/v2/"), Fault::HoldHeaders(gate.clone()));
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    gate.open();
                });
            }
            let latest = format!("/v2/{REPOSITORY}/manifests/latest");
            let layer = &image.layers[0];
            for (path, want) in [
                (latest, &image.manifest.blob),
                (layer.path(REPOSITORY), layer),
                (layer.path(REPOSITORY), layer),
            ] {
                let request = get(&path, version, field);
                let (head, body) = ask(proxy.client.dial(), &request).await;
                let case = format!("{version} {field:?} {wait} {is_cold} {path}: {head}");
                assert!(head.contains(" 200 OK"), "{case}");
                assert_eq!(body, want.bytes, "{case}");
            }
        }
    }
}

/// A body that comes slowly, or not at all for a while.
#[tokio::test(start_paused = true)]
async fn a_client_that_half_closes_is_sent_what_comes_late() {
    for pause in [1, 10, 25] {
        let (hub, blob) = (ScriptedRegistry::new(), Blob::random(1, 1 << 20));
        hub.put_blob(REPOSITORY, &blob);
        let gate = Gate::new();
        hub.breaks(When::asked(&blob.digest), Fault::HoldAt(500_000, gate.clone()));
        let proxy = Proxy::before(&hub).await;
        tokio::spawn(async move {
            gate.reached().await;
            tokio::time::sleep(Duration::from_secs(pause)).await;
            gate.open();
        });
        let request = get(&blob.path(REPOSITORY), "1.1", "Connection: close\r\n");
        let (_, body) = ask(proxy.client.dial(), &request).await;
        assert_eq!(body.len(), blob.len(), "after {pause} s");
    }
}

/// Two requests at once are both answered, in order.
#[tokio::test(start_paused = true)]
async fn requests_that_are_sent_ahead_are_all_answered() {
    let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[100_000]));
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    let latest = format!("/v2/{REPOSITORY}/manifests/latest");
    let layer = &image.layers[0];
    let requests: String = [&latest, &layer.path(REPOSITORY), &latest, &"/v2/".to_owned()]
        .iter()
        .map(|path| get(path, "1.1", &format!("X-Long: {}\r\n", "y".repeat(500))))
        .collect();

    let (_, rest) = ask(proxy.client.dial(), &requests).await;

    let answers = rest.windows(15).filter(|it| *it == b"HTTP/1.1 200 OK").count();
    assert_eq!(answers, 3, "and the first, whose head was taken off");
    let layer_at = rest.windows(layer.len()).position(|it| it == layer.bytes);
    assert!(layer_at.is_some());
}

/// Over the kernel's sockets, where the end of the client's side comes at any moment.
#[tokio::test]
async fn a_client_that_half_closes_gets_its_whole_answer_over_tcp() {
    let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[8 << 20, 200_000]));
    hub.put_image(REPOSITORY, "latest", &image);
    let (upstream, address) = (hub.listen().await, free_address());
    let config =
        format!("listen = '{address}'\n[registry.'docker.io']\nupstream = 'http://{upstream}'\n");
    let _larder = Instance::start(&[], &config).await;
    let latest = format!("/v2/{REPOSITORY}/manifests/latest");
    for turn in 0..20 {
        let (large, small) = (&image.layers[0], &image.layers[1]);
        for (path, want) in [
            (latest.clone(), &image.manifest.blob),
            (small.path(REPOSITORY), small),
            (large.path(REPOSITORY), large),
        ] {
            let io = Box::new(TcpStream::connect(address).await.unwrap());
            let (head, body) = ask(io, &get(&path, "1.1", "")).await;
            assert!(head.contains(" 200 OK"), "{turn} {path}: {head}");
            assert!(body == want.bytes, "{turn} {path}: {} bytes", body.len());
        }
    }
}

/// A client that has left and one that half-closed are told apart by what they take.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_left_holds_nothing_for_longer_than_it_takes_to_tell() {
    let (hub, blob) = (ScriptedRegistry::new(), Blob::random(1, 1 << 20));
    hub.put_blob(REPOSITORY, &blob);
    let gate = Gate::new();
    hub.breaks(When::asked(&blob.digest), Fault::HoldAt(500_000, gate.clone()));
    let proxy = Proxy::before(&hub).await;
    let mut io = proxy.client.dial();
    let request = get(&blob.path(REPOSITORY), "1.1", "");
    io.write_all(request.as_bytes()).await.unwrap();
    gate.reached().await;
    io.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let began = tokio::time::Instant::now();
    drop(io.read_to_end(&mut answer).await);
    assert_eq!(began.elapsed().as_secs(), 30, "its side is closed and it is sent nothing");
    assert!(answer.len() < blob.len());

    // It does not end the fill, which resumes after so long a silence of the registry.
    gate.open();
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    let gets = hub.gets(&blob.digest);
    assert!(gets[1..].iter().all(|asked| asked.header("range").is_some()), "{gets:?}");
}

/// Nor does one that closes an idle connection keep it open.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_with_the_clients_side() {
    let (hub, image) = (ScriptedRegistry::new(), Image::random(1, &[]));
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    for requests in [0, 1, 3] {
        let mut io = proxy.client.dial();
        for _ in 0..requests {
            io.write_all(get("/v2/", "1.1", "").as_bytes()).await.unwrap();
            settle().await;
        }
        let began = tokio::time::Instant::now();
        io.shutdown().await.unwrap();
        drop(io.read_to_end(&mut Vec::new()).await);
        assert!(began.elapsed() < Duration::from_millis(10), "{requests} {:?}", began.elapsed());
    }
    proxy.call(Method::GET, "/v2/").await.assert_status(200);
}
