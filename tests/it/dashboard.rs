//! The page for operators: what it shows, what it never names, and who may look at it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use larder::access::{
    AccessOptions, ChallengePolicy, HtpasswdUsers, ListenerAccess, LoginCache, UserTable,
};
use larder::dashboard::{DashboardGate, DashboardService};
use larder::http::BodyData;
use larder::registry::{AskedAs, GrantPolicy};
use serde_json::Value;

use crate::support::client::Reply;
use crate::support::registry::basic;
use crate::support::{Auth, Blob, Fault, Image, Proxy, ScriptedRegistry, Setup, When};

const APP: &str = "team/app";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn open_gate() -> DashboardGate {
    DashboardGate { names: Vec::new(), logins: None }
}

async fn ask(
    page: &DashboardService,
    gate: &DashboardGate,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Reply {
    let request = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
    let request = request.body(()).unwrap();
    let (head, body) = page.answer(request, gate, [127, 0, 0, 1].into()).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply { status: head.status, headers: head.headers, body, broken: None }
}

async fn get(page: &DashboardService, path: &str) -> String {
    // Figures are those of a second, and events are read at intervals.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let reply = ask(page, &open_gate(), Method::GET, path, &[]).await;
    reply.assert_status(200);
    String::from_utf8(reply.body.to_vec()).unwrap()
}

async fn stats(page: &DashboardService) -> Value {
    serde_json::from_str(&get(page, "/stats.json").await).unwrap()
}

async fn before_one_image() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[70_000]);
    hub.put_image(APP, "1.0", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    (hub, image, setup.start().await)
}

#[tokio::test(start_paused = true)]
async fn a_pull_moves_the_numbers_and_is_among_the_recent_requests() {
    let (_hub, image, proxy) = before_one_image().await;
    let page = proxy.dashboard();
    let before = stats(&page).await;
    assert_eq!(before["since_start"]["requests"], 0);
    assert_eq!(before["never_asked"], serde_json::json!(["docker.io"]));

    proxy.pull(APP, "1.0", &image).await;
    for blob in image.blobs() {
        proxy.until_filled(&blob.digest).await;
    }
    let missed = stats(&page).await;
    assert_eq!(
        (&missed["since_start"]["hits"], &missed["never_asked"][0]),
        (&0.into(), &Value::Null)
    );
    proxy.pull(APP, "1.0", &image).await;
    let after = stats(&page).await;
    let requests = missed["since_start"]["requests"].as_u64().unwrap();
    assert_eq!(after["since_start"]["requests"], 2 * requests);
    assert_eq!(after["since_start"]["hits"], requests);
    assert_eq!(after["last_day"], after["since_start"]);
    let saved = after["since_start"]["hit_bytes"].as_u64().unwrap();
    assert_eq!(after["since_start"]["bytes"], 2 * saved);
    assert!(saved > 70_000, "{saved}");
    assert_eq!(after["missed"][0]["name"], format!("docker.io/{APP}"));
    assert!(after["clients"][0]["requests"].as_u64().unwrap() > 0, "{after}");

    let html = get(&page, "/").await;
    for part in [
        "State: <span class=\"ready\">ready</span>",
        &format!("docker.io/{APP}:1.0"),
        &format!("data-copy=\"larder why docker.io/{APP}:1.0\""),
        "from the cache",
        "fetched: not in the cache",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
}

/// The page tells the same whether there are logs or not.
#[tokio::test(start_paused = true)]
async fn layers_and_errors_are_among_the_recent_requests_and_a_repeated_hit_is_once() {
    let (_hub, image, proxy) = before_one_image().await;
    let page = proxy.dashboard();
    proxy.pull(APP, "1.0", &image).await;
    let client = &proxy.client;
    client.get("/v2/team/app/manifests/none").await.assert_status(404);
    let latest = "/v2/team/app/manifests/1.0";
    for _ in 0..3 {
        client.get(latest).await.assert_is(&image.manifest.blob);
    }

    let seen = stats(&page).await;
    let recent = seen["recent"].as_array().unwrap();
    let count = |kind: &str, status: u16| {
        recent.iter().filter(|it| it["kind"] == kind && it["status"] == status).count()
    };
    assert_eq!(count("blob", 200), image.blobs().count(), "{recent:?}");
    assert_eq!(count("manifest", 404), 1, "{recent:?}");
    let named = recent.iter().filter(|it| it["name"] == format!("docker.io/{APP}:1.0"));
    assert_eq!(named.count(), 1, "{recent:?}");
    assert_eq!(seen["clients"][0]["requests"].as_u64().unwrap(), recent.len() as u64);
}

/// A viewer of the page may not be one who may pull there.
#[tokio::test(start_paused = true)]
async fn a_repository_that_a_registry_shows_to_its_clients_alone_is_never_named() {
    let corp = ScriptedRegistry::new();
    corp.requires(Auth::basic("robin", "secret"));
    let image = Image::random(1, &[5000]);
    corp.put_image("canary/private", "canary-tag", &image);
    let mut setup = Setup::new();
    let options = setup.registry("corp.test", &corp);
    options.identity = AskedAs::Client(GrantPolicy { ttl: DAY, grace: DAY });
    options.hosts = vec!["corp.test".parse().unwrap()];
    setup.access = AccessOptions { challenge: ChallengePolicy::Basic, ..AccessOptions::default() };
    let proxy = setup.start().await;
    let page = proxy.dashboard();
    let login = basic("robin", "secret");
    let headers = [("host", "corp.test"), ("authorization", login.as_str())];
    for path in ["manifests/canary-tag", &format!("blobs/{}", image.layers[0].digest)] {
        proxy.get_with(&format!("/v2/canary/private/{path}"), &headers).await.assert_status(200);
    }
    for path in ["/", "/stats.json", "/"] {
        let shown = get(&page, path).await;
        assert!(shown.contains("corp.test"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!shown.contains("robin"), "{shown}");
    }
    assert_eq!(stats(&page).await["upstreams"][0]["credential"], "of each client");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_calls_itself_is_text() {
    let (_hub, _image, proxy) = before_one_image().await;
    let page = proxy.dashboard();
    let agent = [("user-agent", "<script>alert(1)</script>\"'")];
    proxy.get_with(&format!("/v2/{APP}/manifests/1.0"), &agent).await.assert_status(200);
    let html = get(&page, "/").await;
    assert!(html.contains("&#60;script&#62;alert(1)"), "{html}");
    assert!(!html.contains("<script>alert"), "{html}");
}

#[tokio::test(start_paused = true)]
async fn viewers_are_sent_what_has_changed_and_only_so_many_of_them() {
    let (_hub, image, proxy) = before_one_image().await;
    let page = proxy.dashboard();
    let watch = || async {
        let request = Request::builder().uri("/events").body(()).unwrap();
        page.answer(request, &open_gate(), [127, 0, 0, 1].into()).await
    };
    let response = watch().await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    proxy.pull(APP, "1.0", &image).await;
    let name = format!("docker.io/{APP}:1.0");
    let mut seen = String::new();
    while !seen.contains(&name) {
        let frame = body.frame().await.unwrap().unwrap().into_data();
        let Ok(BodyData::Memory(bytes)) = frame else { panic!("bytes in memory") };
        seen = String::from_utf8(bytes.to_vec()).unwrap();
        let is_event = seen.lines().all(|line| line.is_empty() || line.starts_with("data: "));
        assert!(seen.ends_with("\n\n") && (is_event || seen == ":\n\n"), "{seen}");
    }
    assert!(seen.contains("data: <section id=\"recent\""), "{seen}");
    assert!(!seen.contains("<html"), "{seen}");

    let mut viewers = vec![body];
    for _ in 1..32 {
        viewers.push(watch().await.into_body());
    }
    assert_eq!(watch().await.status(), 503);
    viewers.pop();
    assert_eq!(watch().await.status(), 200);
}

fn assert_headers(headers: &HeaderMap) {
    let policy = headers["content-security-policy"].to_str().unwrap();
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["x-content-type-options"], "nosniff");
}

#[tokio::test(start_paused = true)]
async fn the_page_is_read_only_and_loads_nothing_from_elsewhere() {
    let (_hub, _image, proxy) = before_one_image().await;
    let page = proxy.dashboard();
    let gate = open_gate();
    let paths = ["/", "/stats.json", "/style.css", "/page.js"];
    for path in paths {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            ask(&page, &gate, method, path, &[]).await.assert_status(405);
        }
        let reply = ask(&page, &gate, Method::GET, path, &[]).await;
        assert_headers(&reply.headers);
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert!(!text.contains("://"), "{path}: {text}");
        assert!(!text.contains(" style=") && !text.contains(" onclick="), "{path}");
        let head = ask(&page, &gate, Method::HEAD, path, &[]).await;
        assert!(head.body.is_empty() && head.status == 200);
    }
    let missing = ask(&page, &gate, Method::GET, "/v2/", &[]).await;
    missing.assert_status(404);
    assert_headers(&missing.headers);
    let early = DashboardService::default();
    ask(&early, &gate, Method::GET, "/", &[]).await.assert_status(503);
}

/// A page of another site must not reach it by a name of its own.
#[tokio::test(start_paused = true)]
async fn a_browser_asks_by_an_address_or_by_a_name_of_the_configuration() {
    let (_hub, _image, proxy) = before_one_image().await;
    let page = proxy.dashboard();
    let gate = DashboardGate { names: vec!["larder.corp".parse().unwrap()], logins: None };
    for (host, status) in [
        ("127.0.0.1:5002", 200),
        ("localhost:5002", 200),
        ("larder.corp", 200),
        ("larder.corp:8443", 200),
        ("evil.test", 421),
        ("larder.corp.evil.test", 421),
    ] {
        let headers = [("host", host), ("accept-language", "en")];
        for path in ["/", "/events", "/stats.json"] {
            let reply = ask(&page, &gate, Method::HEAD, path, &headers).await;
            assert_eq!(reply.status, status, "{host} {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_are_users_nobody_else_sees_anything() {
    let (_hub, _image, proxy) = before_one_image().await;
    let page = proxy.dashboard();
    let hash = bcrypt::hash_with_result("secret", 4).unwrap();
    let users = UserTable::parse(format!("ann:{hash}\n").as_bytes()).unwrap();
    let options = AccessOptions {
        challenge: ChallengePolicy::Basic,
        htpasswd: Some(HtpasswdUsers::new(users)),
        ..AccessOptions::default()
    };
    let logins = ListenerAccess::new(options, Arc::new(LoginCache::new().unwrap()));
    let gate = DashboardGate { names: Vec::new(), logins: Some(logins) };
    for path in ["/", "/events", "/stats.json", "/page.js", "/none"] {
        for headers in [&[][..], &[("authorization", basic("ann", "wrong").as_str())]] {
            let reply = ask(&page, &gate, Method::GET, path, headers).await;
            reply.assert_status(401);
            let challenge = reply.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.starts_with("Basic realm="), "{challenge}");
            assert!(!reply.body.windows(9).any(|part| part == b"docker.io"));
        }
    }
    let login = basic("ann", "secret");
    let headers = [("authorization", login.as_str())];
    for path in ["/", "/stats.json"] {
        ask(&page, &gate, Method::GET, path, &headers).await.assert_status(200);
    }
}

/// Bytes that are being fetched are seen while they come.
#[tokio::test(start_paused = true)]
async fn a_fill_is_shown_with_its_progress() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(7, 600_000);
    hub.put_blob(APP, &blob);
    hub.breaks(When::asked(&blob.digest).get(), Fault::stall_at(300_000));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let proxy = setup.start().await;
    let page = proxy.dashboard();
    let path = format!("/v2/{APP}/blobs/{}", blob.digest);
    let reading = proxy.get_often(&path, 1);
    proxy.until(|| proxy.fills() == [300_000], "the first half has come").await;
    let fill = &stats(&page).await["fills"][0];
    assert_eq!(fill["registry"], "docker.io");
    assert_eq!(fill["repository"], APP);
    assert_eq!(fill["digest"], blob.digest.to_string());
    assert_eq!(fill["total"], 600_000);
    assert_eq!(fill["readers"], 1);
    assert!(get(&page, "/").await.contains("<progress max=\"100\" value=\"50\""));
    let more = proxy.get_often(&path, 2);
    assert_eq!(stats(&page).await["fills"][0]["readers"], 3);
    drop(reading);
    drop(more);
}

/// A registry may begin to decide about its clients itself.
#[tokio::test(start_paused = true)]
async fn what_was_listed_before_a_reload_is_not_named_if_it_may_not_be_now() {
    let (_hub, image, mut proxy) = before_one_image().await;
    let page = proxy.dashboard();
    proxy.pull(APP, "1.0", &image).await;
    get(&page, "/").await;
    assert_eq!(stats(&page).await["images"]["biggest"][0]["name"], format!("docker.io/{APP}:1.0"));
    proxy.reload(|settings| {
        settings.registries[0].identity = AskedAs::Client(GrantPolicy { ttl: DAY, grace: DAY });
    });
    for path in ["/", "/stats.json"] {
        let shown = get(&page, path).await;
        assert!(shown.contains("docker.io") && !shown.contains(APP), "{shown}");
    }
}
