//! A span for each request, and below it one for each request to an upstream.

use http::Method;
use larder::upstream::ProxyCredential;

use super::collector::Collector;
use crate::support::registry::{User, basic};
use crate::support::{Auth, Fault, Gate, Image, ScriptedRegistry, Setup, When};

const MANIFEST: &str = "/v2/library/app/manifests/latest";

/// A mirror of a registry with an image of one layer, which is traced.
fn start() -> (ScriptedRegistry, Image, Setup, Collector) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[50_000]);
    hub.put_image("library/app", "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let collector = Collector::before(&mut setup);
    (hub, image, setup, collector)
}

#[tokio::test(start_paused = true)]
async fn a_pull_is_a_tree_of_spans_with_what_the_log_has() {
    let (_hub, image, setup, collector) = start();
    let proxy = setup.start().await;
    let layer = &image.layers[0];

    let agent = [("user-agent", "containerd/2")];
    proxy.get_with(MANIFEST, &agent).await.assert_status(200);
    proxy.get(&layer.path("library/app")).await.assert_is(layer);
    proxy.get(MANIFEST).await.assert_status(200);

    let (requests, calls) = collector.parted().await;
    let [miss, blob, hit] = &requests[..] else { panic!("{requests:#?}") };
    assert_eq!(miss.span.name, "GET /v2/{name}/manifests/{reference}");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/v2/{name}/manifests/{reference}"),
        ("http.response.status_code", "200"),
        ("url.path", MANIFEST),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "containerd/2"),
        ("larder.registry", "docker.io"),
        ("larder.repository", "library/app"),
        ("larder.reference", "latest"),
        ("larder.decision", "miss"),
        ("larder.end", "whole"),
    ] {
        assert_eq!(miss.get(name), value, "{name}: {miss:#?}");
    }
    assert_eq!(hit.get("larder.decision"), "hit");
    assert_eq!(blob.get("larder.reference"), layer.digest.as_str());
    assert_eq!(blob.get("http.response.body.size"), "50000");
    for request in &requests {
        assert!(request.span.parent_span_id.is_empty() && request.error().is_none());
        assert_eq!(request.span.flags, 0x101, "sampled, and the parent is known to be none");
    }
    assert!(miss.span.trace_id != blob.span.trace_id);

    let of = |parent| calls.iter().filter(move |call| call.is_child_of(parent));
    let names = |parent| of(parent).map(|call| call.span.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names(miss), ["HEAD manifest", "GET manifest"]);
    assert_eq!(names(blob), ["GET blob"]);
    assert_eq!(names(hit), [""; 0]);
    let call = of(blob).next().unwrap();
    for (name, value) in [
        ("http.request.method", "GET"),
        ("server.address", "registry-1.docker.io"),
        ("server.port", "80"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("http.response.body.size", "50000"),
        ("larder.object", "blob"),
        ("larder.purpose", "registry"),
        ("http.request.resend_count", ""),
        ("error.type", ""),
    ] {
        assert_eq!(call.get(name), value, "{name}: {call:#?}");
    }
    assert!(call.span.start_time_unix_nano >= blob.span.start_time_unix_nano);
    assert!(call.span.end_time_unix_nano <= blob.span.end_time_unix_nano);
}

#[tokio::test(start_paused = true)]
async fn the_collector_is_told_what_runs_and_gets_its_header() {
    let (_hub, _, setup, collector) = start();
    let proxy = setup.start().await;
    proxy.get("/v2/").await.assert_status(200);

    let spans = collector.spans().await;
    assert_eq!(spans[0].span.name, "GET /v2/");
    let (path, headers) = &collector.heads()[0];
    assert_eq!(path, "/v1/traces");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["x-tenant"], "t1");
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "larder");
    assert!(resource.contains_key("service.instance.id"));
}

/// One of the requests asks; the others have waited for it.
#[tokio::test(start_paused = true)]
async fn a_shared_fetch_is_in_the_trace_of_the_request_that_began_it() {
    let (hub, image, setup, collector) = start();
    let proxy = setup.start().await;
    let (layer, gate) = (&image.layers[0], Gate::new());
    hub.breaks(When::asked(&layer.digest), Fault::HoldHeaders(gate.clone()));

    let mut asking = proxy.get_often(&layer.path("library/app"), 5);
    hub.next_request().await;
    crate::support::settle().await;
    gate.open();
    while let Some(reply) = asking.join_next().await {
        reply.unwrap().assert_is(layer);
    }

    let (requests, calls) = collector.parted().await;
    assert_eq!((requests.len(), calls.len()), (5, 1), "{calls:#?}");
    let owners: Vec<_> = requests.iter().filter(|it| calls[0].is_child_of(it)).collect();
    assert_eq!(owners.len(), 1);
    let joined = requests.iter().filter(|it| it.get("larder.decision") == "collapsed").count();
    assert_eq!(joined, 4, "{requests:#?}");
    assert_eq!(owners[0].get("larder.decision"), "miss");
}

#[tokio::test(start_paused = true)]
async fn retries_redirects_and_logins_have_spans_of_their_own() {
    let (hub, image, mut setup, collector) = start();
    let storage = ScriptedRegistry::new();
    storage.put_image("library/app", "latest", &image);
    setup.network.put("storage.test", 80, storage);
    hub.redirect_blobs_to("http://storage.test");
    let robot = User::new("robot", "pa55word", &["library/*:pull"]);
    hub.requires(Auth::users("http://registry-1.docker.io/token", &[robot]));
    setup.settings.registries[0].upstream.credential =
        ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() };
    let proxy = setup.start().await;
    hub.breaks(When::asked("/blobs/").first(1), Fault::status(503));
    proxy.get(&image.layers[0].path("library/app")).await.assert_is(&image.layers[0]);

    let (requests, calls) = collector.parted().await;
    assert!(calls.iter().all(|call| call.is_child_of(&requests[0])), "{calls:#?}");
    let told: Vec<_> = calls
        .iter()
        .map(|call| {
            let (purpose, status) =
                (call.get("larder.purpose"), call.get("http.response.status_code"));
            (purpose, status, call.get("http.request.resend_count"), call.error().is_some())
        })
        .collect();
    assert!(told.contains(&("registry", "401", "1", false)), "{told:?}");
    assert!(told.contains(&("token", "200", "1", false)), "{told:?}");
    assert!(told.contains(&("registry", "503", "", true)), "{told:?}");
    assert!(told.contains(&("registry", "307", "1", false)), "{told:?}");
    assert!(told.contains(&("redirect", "200", "1", false)), "{told:?}");
    let redirect = calls.iter().find(|call| call.get("larder.purpose") == "redirect").unwrap();
    assert_eq!(redirect.get("server.address"), "storage.test");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_is_an_error_and_an_absence_is_none() {
    let (hub, _, setup, collector) = start();
    let proxy = setup.start().await;
    proxy.get("/v2/library/app/manifests/none").await.assert_status(404);
    hub.breaks(When::asked("/v2/"), Fault::status(500));
    proxy.get("/v2/library/app/manifests/other").await.assert_status(502);
    proxy.call(Method::from_bytes(b"BREW").unwrap(), "/v2/library/app/tags/list").await;

    let (requests, calls) = collector.parted().await;
    let [absent, failed, brewed] = &requests[..] else { panic!("{requests:#?}") };
    assert_eq!((absent.error(), absent.get("error.type")), (None, ""));
    assert_eq!(failed.get("error.type"), "502");
    assert!(failed.error().unwrap().contains("registry-1.docker.io"), "{failed:#?}");
    assert_eq!(failed.get("larder.request_id").len(), 16);
    assert_eq!(brewed.span.name, "HTTP /v2/{name}/tags/list");
    assert_eq!(brewed.get("http.request.method"), "_OTHER");
    for call in calls.iter().filter(|call| call.is_child_of(absent)) {
        assert_eq!(call.error(), None, "{call:#?}");
    }
    let failures = calls.iter().filter(|call| call.is_child_of(failed));
    assert!(failures.clone().count() > 1);
    assert!(failures.clone().all(|call| call.get("error.type") == "500"));
}

/// The name of a user is in the log, so it may be here; a client's own credential is in neither.
#[tokio::test(start_paused = true)]
async fn a_client_that_logs_in_at_the_registry_is_not_named() {
    let (_hub, _, setup, collector) = start();
    let proxy = setup.start().await;
    let header = basic("ann", "canary");
    proxy.get_with(MANIFEST, &[("authorization", &header)]).await.assert_status(200);

    let (requests, _) = collector.parted().await;
    assert_eq!(requests[0].get("user.name"), "");
    let sent = collector.bytes();
    for secret in ["canary", header.strip_prefix("Basic ").unwrap()] {
        let found = sent.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret}");
    }
}
