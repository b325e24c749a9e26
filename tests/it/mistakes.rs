//! Mistakes in the configuration that only show when something is called: the log has a hint, once.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use larder::http::NetworkConnection;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::instance::free_address;
use crate::support::log::Log;
use crate::support::network::Server;
use crate::support::tls::TestCa;
use crate::support::{Auth, Fault, Image, Instance, Proxy, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";

fn hub() -> ScriptedRegistry {
    let hub = ScriptedRegistry::new();
    hub.put_image(REPOSITORY, "latest", &Image::random(1, &[1000]));
    hub
}

/// Answers whatever comes as nginx and Go do where TLS was not expected.
struct PlainServer;

impl Server for PlainServer {
    fn serve(&self, mut io: NetworkConnection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            drop(io.read(&mut [0; 4096]).await);
            drop(io.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await);
        })
    }
}

/// The lines with a hint.
fn hints(log: &Log) -> Vec<Value> {
    let text = log.text();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|mut line| line["fields"].take()).filter(|it| !it["hint"].is_null()).collect()
}

/// Asks some times, over minutes, and gives the hint, of which there is one.
async fn the_hint(log: &Log, proxy: &Proxy) -> Value {
    for _ in 0..5 {
        drop(proxy.get(LATEST).await);
        drop(proxy.get("/v2/library/other/manifests/none").await);
        tokio::time::advance(TAG_TTL * 2).await;
    }
    let hints = hints(log);
    let [hint] = &hints[..] else { panic!("{hints:?} {}", log.text()) };
    hint.clone()
}

#[track_caller]
fn assert_says(hint: &Value, message: &str, next: &str) {
    assert!(hint["message"].as_str().unwrap().contains(message), "{hint}");
    assert!(hint["hint"].as_str().unwrap().contains(next), "{hint}");
    assert!(hint["upstream"].as_str().unwrap().contains(HOST), "{hint}");
    assert!(hint["host"].is_string() && hint["seen"].is_string(), "{hint}");
}

/// `https` in the configuration, and plain HTTP at the other end.
#[tokio::test(start_paused = true)]
async fn an_upstream_given_as_https_that_speaks_plain_http_is_told_of_once() {
    let (log, hub, mut setup) = (Log::capture(), hub(), Setup::new());
    setup.registry("docker.io", &hub);
    setup.network.put(HOST, 443, PlainServer);
    setup.settings.registries[0].upstream.url = format!("https://{HOST}").parse().unwrap();
    let proxy = setup.start().await;

    let hint = the_hint(&log, &proxy).await;

    assert_says(&hint, "does not speak TLS", "write `http://`");
}

/// `http` in the configuration, and TLS at the other end: nginx and Go answer in words, others with
/// an alert, which is not HTTP.
#[tokio::test(start_paused = true)]
async fn an_upstream_given_as_http_that_speaks_tls_is_told_of_once() {
    let page = vec![("Content-Type", "text/html".to_owned())];
    let alert = Bytes::from_static(&[21, 3, 1, 0, 2, 2, 70]);
    for fault in [
        Fault::Status(400, page, "The plain HTTP request was sent to HTTPS port"),
        Fault::Raw(Bytes::from_static(
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
        )),
        Fault::Raw(alert),
    ] {
        let (log, hub, mut setup) = (Log::capture(), hub(), Setup::new());
        setup.registry("docker.io", &hub);
        hub.breaks(When::asked("/"), fault);
        let proxy = setup.start().await;

        let hint = the_hint(&log, &proxy).await;

        assert_says(&hint, "does not seem to speak plain HTTP", "write `https://`");
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_an_unknown_ca_is_told_of_once() {
    // The second has the name of the right one, as after a change of its key.
    for ca_pem in [None, Some(TestCa::new().pem())] {
        let (log, hub, mut setup) = (Log::capture(), hub(), Setup::new());
        setup.tls_registry("docker.io", &hub, &TestCa::new());
        setup.settings.registries[0].upstream.ca_pem = ca_pem;
        let proxy = setup.start().await;

        let hint = the_hint(&log, &proxy).await;

        assert_says(&hint, "unknown CA", "`ca`");
    }
}

/// With Basic, with tokens that do not open the repository, and with a token server that gives
/// none.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_wants_a_login_and_has_none_is_told_of_once() {
    const REALM: &str = "http://auth.docker.io/token";
    for auth in [Auth::basic("me", "pa55word"), Auth::tokens_for(REALM, "me", "pa55word")] {
        let (log, hub, mut setup) = (Log::capture(), hub(), Setup::new());
        setup.registry("docker.io", &hub);
        setup.network.put("auth.docker.io", 80, hub.clone());
        hub.requires(auth);
        let proxy = setup.start().await;

        let hint = the_hint(&log, &proxy).await;

        assert_says(&hint, "without a login", "`auth`");
    }
}

/// A portal, the page of a product, a file server.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_no_registry_is_told_of_once() {
    let with_type = |media_type: &str| vec![("Content-Type", media_type.to_owned())];
    for fault in [
        Fault::Html200,
        Fault::Status(404, with_type("text/html; charset=utf-8"), "<h1>Not found</h1>"),
        Fault::Status(404, with_type("text/plain; charset=utf-8"), "404 page not found\n"),
    ] {
        let (log, hub, mut setup) = (Log::capture(), hub(), Setup::new());
        setup.registry("docker.io", &hub);
        hub.breaks(When::asked("/"), fault);
        let proxy = setup.start().await;

        let hint = the_hint(&log, &proxy).await;

        assert_says(&hint, "not like a registry", "`/v2/`");
    }
}

/// Absences, refusals and faults of a registry that is well are no mistakes of its operator.
#[tokio::test(start_paused = true)]
async fn an_upstream_as_it_should_be_gets_no_hint() {
    let json = vec![("Content-Type", "application/json".to_owned())];
    for fault in [
        None,
        Some(Fault::Status(400, json, r#"{"errors":[{"code":"NAME_INVALID"}]}"#)),
        Some(Fault::Status(502, Vec::new(), "<h1>Bad gateway</h1>")),
        Some(Fault::Status(429, Vec::new(), "slow down")),
    ] {
        let (log, hub, mut setup) = (Log::capture(), hub(), Setup::new());
        setup.registry("docker.io", &hub);
        if let Some(fault) = fault {
            hub.breaks(When::asked("/manifests/"), fault);
        }
        let proxy = setup.start().await;

        drop(proxy.get(LATEST).await);
        drop(proxy.get("/v2/library/other/manifests/none").await);

        assert_eq!(hints(&log), [Value::Null; 0]);
    }
}

/// A client that was told `https`, before a listener without TLS, and the other way round.
#[tokio::test]
async fn a_client_that_speaks_the_other_protocol_is_told_of_once_for_each_listener() {
    const HELLO: &[u8] = &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0];
    const GET: &[u8] = b"GET /v2/ HTTP/1.1\r\nHost: larder.test\r\n\r\n";
    let (cert, key) = TestCa::new().issue("larder.test");
    let [plain, tls] = [free_address(), free_address()];
    let config = format!(
        "[[listener]]\naddress = '{plain}'\n[[listener]]\naddress = '{tls}'\n\
         tls = {{ cert = 'tls.crt', key = 'tls.key' }}\n"
    );
    let files = [("tls.crt", cert.as_str()), ("tls.key", &key)];
    let mut larder = Instance::start(&files, &config).await;

    for (address, wrong, message) in [
        (plain, HELLO, "a client speaks TLS to a plain listener"),
        (tls, GET, "a client speaks plain HTTP to a TLS listener"),
    ] {
        for _ in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(wrong).await.unwrap();
            drop(tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await);
        }
        larder.until_logged(message, 1).await;
        let log = larder.log();
        let told: Vec<_> = log.lines().filter(|line| line.contains(message)).collect();
        let [line] = &told[..] else { panic!("{log}") };
        assert!(line.contains(&address.to_string()) && line.contains("hint="), "{line}");
    }
}
