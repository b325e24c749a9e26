//! The operator's side: alive, of use, and at an address of its own.

use std::time::Duration;

use http::Method;
use larder::admin::AdminService;
use larder::upstream::ProxyCredential;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::instance::{client_of, free_address};
use crate::support::log::Log;
use crate::support::metrics::{Metrics, ask};
use crate::support::{Auth, Blob, Fault, Image, Instance, Proxy, Reach, Reply, ScriptedRegistry};
use crate::support::{Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

async fn ready(admin: &AdminService) -> (u16, Value) {
    let reply = ask(admin, Method::GET, "/readyz", "*/*").await;
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap())
}

/// The reasons why it is degraded; panics unless it serves.
async fn reasons(proxy: &Proxy) -> Vec<String> {
    let (status, body) = ready(&proxy.admin()).await;
    assert_eq!(status, 200, "{body}");
    let reasons = body["reasons"].as_array().unwrap();
    let is_degraded = body["status"] == "degraded";
    assert_eq!(is_degraded, !reasons.is_empty(), "{body}");
    assert!(is_degraded || body["status"] == "ready", "{body}");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.value("larder_ready", &[("state", "degraded")]), u64::from(is_degraded));
    reasons.iter().map(|reason| reason["reason"].as_str().unwrap().to_owned()).collect()
}

fn before_one_image() -> (ScriptedRegistry, Image, Setup) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    (hub, image, setup)
}

/// An orchestrator must not send requests too early or too late, nor restart what is alive.
#[tokio::test(start_paused = true)]
async fn larder_is_ready_from_start_to_stop_and_alive_all_the_time() {
    let (_hub, _image, setup) = before_one_image();
    let admin = AdminService::default();
    let state = |body: &Value| body["status"].as_str().unwrap().to_owned();
    let alive = || ask(&admin, Method::GET, "/healthz", "*/*");
    alive().await.assert_status(200);
    let (status, body) = ready(&admin).await;
    assert_eq!((status, state(&body).as_str()), (503, "starting"));
    ask(&admin, Method::GET, "/metrics", "*/*").await.assert_status(503);

    let proxy = setup.start().await;
    proxy.show_to(&admin);
    let (status, body) = ready(&admin).await;
    assert_eq!((status, state(&body).as_str()), (200, "ready"));

    proxy.stop().await;
    alive().await.assert_status(200);
    let (status, body) = ready(&admin).await;
    assert_eq!((status, state(&body).as_str()), (503, "stopping"));
}

/// Nothing can be changed here, and nothing else can be reached.
#[tokio::test(start_paused = true)]
async fn the_admin_side_is_read_only_and_has_three_paths() {
    let (_hub, _image, setup) = before_one_image();
    let proxy = setup.start().await;
    let admin = proxy.admin();
    for path in ["/healthz", "/readyz", "/metrics"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            ask(&admin, method, path, "*/*").await.assert_status(405);
        }
        let head = ask(&admin, Method::HEAD, path, "*/*").await;
        head.assert_status(200);
        assert!(head.body.is_empty() && head.header("cache-control") == Some("no-store"));
    }
    for path in ["/", "/v2/", LATEST, "/metrics/", "/debug"] {
        ask(&admin, Method::GET, path, "*/*").await.assert_status(404);
    }
    proxy.get("/metrics").await.assert_status(404);
}

/// A dead upstream is no reason to restart a mirror or to send its clients elsewhere.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_answer_degrades_readiness_until_it_does() {
    let (_hub, _image, setup) = before_one_image();
    let proxy = setup.start().await;
    proxy.network.set("registry-1.docker.io", Reach::Down);
    assert_eq!(reasons(&proxy).await, [""; 0], "nobody has asked yet");

    for _ in 0..2 {
        proxy.get(LATEST).await.error(502);
    }
    assert_eq!(reasons(&proxy).await, ["breaker-open"]);
    let (_, body) = ready(&proxy.admin()).await;
    assert_eq!(body["reasons"][0]["registry"], "docker.io");
    assert_eq!(body["reasons"][0]["host"], "registry-1.docker.io");
    tokio::time::advance(TAG_TTL * 10).await;
    assert_eq!(reasons(&proxy).await, ["breaker-open"], "time alone mends nothing");

    proxy.network.set("registry-1.docker.io", Reach::Up);
    proxy.get(LATEST).await.assert_status(200);
    assert_eq!(reasons(&proxy).await, [""; 0]);
}

/// At night no client asks, and the alert would stay until the morning.
#[tokio::test(start_paused = true)]
async fn an_idle_proxy_finds_out_by_itself_that_its_upstream_is_back() {
    let log = Log::capture();
    let (hub, _image, setup) = before_one_image();
    let proxy = setup.start().await;
    proxy.network.set("registry-1.docker.io", Reach::Down);
    for _ in 0..2 {
        proxy.get(LATEST).await.error(502);
    }
    let [opened] = &log.lines("circuit breaker opened")[..] else { panic!("{}", log.text()) };
    assert_eq!(
        (&opened["host"], &opened["wait_seconds"]),
        (&"registry-1.docker.io".into(), &5.0.into())
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(reasons(&proxy).await, ["breaker-open"]);

    hub.forget();
    proxy.network.set("registry-1.docker.io", Reach::Up);
    let up = Instant::now();
    while !reasons(&proxy).await.is_empty() {
        assert!(up.elapsed() < Duration::from_secs(95), "the longest wait and its jitter");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let [closed] = &log.lines("circuit breaker closed")[..] else { panic!("{}", log.text()) };
    assert!(closed["open_seconds"].as_f64().unwrap() > 600.0, "{closed}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(hub.asked().len(), 1, "one question was enough");
}

/// Promise 5: cached content goes on being served, so the operator has to be told.
#[tokio::test(start_paused = true)]
async fn a_credential_that_is_refused_everywhere_degrades_readiness_until_it_is_accepted() {
    const REALM: &str = "http://auth.docker.io/token";
    for (good, bad) in [
        (Auth::basic("robot", "pa55word"), Auth::basic("robot", "another")),
        (Auth::tokens_for(REALM, "robot", "pa55word"), Auth::tokens_for(REALM, "robot", "another")),
    ] {
        let (hub, image, mut setup) = before_one_image();
        setup.network.put("auth.docker.io", 80, hub.clone());
        setup.settings.registries[0].upstream.credential =
            ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() };
        hub.requires(bad);
        let proxy = setup.start().await;
        proxy.get(LATEST).await.error(502);
        assert_eq!(reasons(&proxy).await, ["credential-refused"]);
        let (_, body) = ready(&proxy.admin()).await;
        assert!(!body.to_string().contains("pa55word"), "{body}");
        let labels = [("registry", "docker.io"), ("reason", "credential-refused")];
        assert_eq!(proxy.metrics().await.value("larder_upstream_troubles", &labels), 1);

        hub.requires(good);
        tokio::time::advance(TAG_TTL * 20).await;
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        assert_eq!(reasons(&proxy).await, [""; 0]);
    }
}

/// A repository that is closed to us says nothing about the credential.
#[tokio::test(start_paused = true)]
async fn a_403_of_one_repository_does_not_degrade_readiness() {
    let (hub, _image, mut setup) = before_one_image();
    setup.settings.registries[0].upstream.credential =
        ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() };
    hub.requires(Auth::basic("robot", "pa55word"));
    hub.refuse(REPOSITORY, Some(403));
    let proxy = setup.start().await;

    let refused = proxy.get(LATEST).await;

    assert!(refused.status.is_client_error(), "{}", refused.text());
    assert_eq!(reasons(&proxy).await, [""; 0]);
}

/// The air gap is no outage.
#[tokio::test(start_paused = true)]
async fn an_offline_registry_does_not_degrade_readiness() {
    let (_hub, _image, setup) = before_one_image();
    let mut proxy = setup.start().await;
    proxy.network.set("registry-1.docker.io", Reach::Down);
    for _ in 0..2 {
        proxy.get(LATEST).await.error(502);
    }
    proxy.reload(|settings| settings.registries[0].rules.offline = true);
    assert_eq!(reasons(&proxy).await, [""; 0]);
}

/// Pulls go on without a disk, so clients would not notice.
#[tokio::test(start_paused = true)]
async fn a_disk_that_keeps_nothing_degrades_readiness_until_it_keeps_something() {
    let (hub, image, setup) = before_one_image();
    let proxy = setup.start().await;
    let fills = proxy.cache_dir().join("fills");
    std::fs::remove_dir_all(&fills).unwrap();
    std::fs::write(&fills, "in the way").unwrap();
    let blob = Blob::random(2, 1000);
    hub.put_blob(REPOSITORY, &blob);
    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);
    assert_eq!(reasons(&proxy).await, ["disk-bypassed"]);
    let labels = [("reason", "disk-failed")];
    assert_eq!(proxy.metrics().await.value("larder_disk_bypassed", &labels), 1);

    std::fs::remove_file(&fills).unwrap();
    std::fs::create_dir(&fills).unwrap();
    let began = Instant::now();
    proxy.get(&image.layers[0].path(REPOSITORY)).await.assert_is(&image.layers[0]);
    // The client has the blob a moment before the disk has kept it.
    while ready(&proxy.admin()).await.1["status"] != "ready" {
        assert!(began.elapsed() < Duration::from_secs(10), "still degraded");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(reasons(&proxy).await, [""; 0]);
}

/// A limit is an operator's matter too, but what is limited is served as far as it is held.
#[tokio::test(start_paused = true)]
async fn an_upstream_rate_limit_is_reported_and_does_not_degrade_readiness() {
    let (hub, _image, setup) = before_one_image();
    let proxy = setup.start().await;
    let limit = vec![("Retry-After", "60".to_owned())];
    hub.breaks(When::asked("/manifests/"), Fault::Status(429, limit, "toomanyrequests"));
    proxy.get(LATEST).await.error(429);

    assert_eq!(reasons(&proxy).await, [""; 0]);
    let held = [("registry", "docker.io")];
    assert_eq!(proxy.metrics().await.value("larder_upstream_backoffs", &held), 1);
}

const REGISTRY: &str = "[registry.'a.test']\nupstream = 'http://127.0.0.1:9'\n";

async fn get(address: std::net::SocketAddr, path: &str) -> Result<Reply, String> {
    client_of(address).try_get(crate::support::Version::Http11, path).await
}

/// Over the wire, and across a reload: where it was and where it is.
#[tokio::test]
async fn the_admin_side_has_an_address_of_its_own_and_can_move() {
    let (clients, first, second) = (free_address(), free_address(), free_address());
    let config = |admin: &str| {
        format!("listen = '{clients}'\nadmin_listen = '{admin}'\ndashboard.listen = ''\n{REGISTRY}")
    };
    let mut larder = Instance::start(&[], &config(&first.to_string())).await;
    assert_eq!(get(first, "/readyz").await.unwrap().status, 200);
    assert_eq!(get(clients, "/metrics").await.unwrap().status, 404);
    get(clients, "/v2/").await.unwrap().assert_status(200);
    let text = get(first, "/metrics").await.unwrap();
    let metrics = Metrics::read(std::str::from_utf8(&text.body).unwrap());
    assert_eq!(metrics.sum("larder_requests_total", &[("route", "ping")]), 1);

    larder.write("config.toml", &config(&second.to_string()));
    larder.reload().await;
    assert_eq!(get(second, "/readyz").await.unwrap().status, 200);
    assert!(get(first, "/readyz").await.is_err(), "nobody is there any more");

    larder.write("config.toml", &config(""));
    larder.reload().await;
    assert!(get(second, "/readyz").await.is_err(), "nobody is there any more");
}

/// Two Larders on one machine are no mistake; two owners of an address that was asked for are.
#[tokio::test]
async fn an_admin_address_that_is_taken_leaves_the_old_one_in_service() {
    let (clients, admin) = (free_address(), free_address());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = |admin| {
        format!("listen = '{clients}'\nadmin_listen = '{admin}'\ndashboard.listen = ''\n{REGISTRY}")
    };
    let mut larder = Instance::start(&[], &config(admin)).await;

    larder.write("config.toml", &config(taken.local_addr().unwrap()));
    let said = larder.reload().await;

    assert!(said.contains("cannot listen on"), "{said}");
    assert_eq!(get(admin, "/readyz").await.unwrap().status, 200);
}

/// Over the wire, and across reloads: for all, for users alone, elsewhere, and not at all.
#[tokio::test]
async fn the_page_can_move_and_be_given_users() {
    let (clients, first, second) = (free_address(), free_address(), free_address());
    let config =
        |page: &str| format!("listen = '{clients}'\nadmin_listen = ''\n{page}\n{REGISTRY}");
    let at = |page| config(&format!("dashboard.listen = '{page}'"));
    let mut larder = Instance::start(&[], &at(first)).await;
    let page = get(first, "/").await.unwrap();
    page.assert_status(200);
    assert!(page.body.windows(6).any(|part| part == b"a.test"), "{page:?}");

    let hash = bcrypt::hash_with_result("secret", 10).unwrap();
    larder.write("operators", &format!("ann:{hash}\n"));
    larder.write(
        "config.toml",
        &config(&format!("dashboard = {{ listen = '{first}', htpasswd = 'operators' }}")),
    );
    larder.reload().await;
    get(first, "/").await.unwrap().assert_status(401);
    get(first, "/events").await.unwrap().assert_status(401);

    larder.write("config.toml", &at(second));
    larder.reload().await;
    get(second, "/").await.unwrap().assert_status(200);
    assert!(get(first, "/").await.is_err(), "it has moved");

    larder.write("config.toml", &config("dashboard.listen = ''"));
    larder.reload().await;
    assert!(get(second, "/").await.is_err(), "it is closed");
}
