//! Egress proxies: what goes through them, what they may read, and what becomes of their faults.

use larder::http::ProxyOptions;
use larder::upstream::ProxyCredential;

use crate::support::egress::EgressProxy;
use crate::support::instance::{client_of, free_address};
use crate::support::tls::TestCa;
use crate::support::{
    Auth, Blob, Fault, Image, Instance, Proxy, Reach, ScriptedRegistry, Setup, When,
};

const REPOSITORY: &str = "library/alpine";
const REAL: &str = "registry-1.docker.io";
const PROXY: &str = "proxy.corp";

fn credential() -> ProxyCredential {
    ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() }
}

/// A mirror of docker.io, whose name and network only the proxy knows.
fn setup(hub: &ScriptedRegistry, ca: Option<&TestCa>) -> (Setup, EgressProxy) {
    let egress = EgressProxy::default();
    let mut setup = Setup::new();
    let options = if let Some(ca) = ca {
        egress.behind.put(REAL, 443, ca.protect(REAL, hub.clone()));
        setup.tls_registry("docker.io", hub, ca)
    } else {
        egress.behind.put(REAL, 80, hub.clone());
        setup.registry("docker.io", hub)
    };
    options.upstream.credential = credential();
    setup.network.unname(REAL);
    setup.network.put(PROXY, 3128, egress.clone());
    setup.settings.proxies = through(&format!("http://me:s3cret@{PROXY}:3128"));
    (setup, egress)
}

fn through(url: &str) -> ProxyOptions {
    let url = Some(url.parse().unwrap());
    ProxyOptions { http: url.clone(), https: url, direct: String::new() }
}

/// `me:s3cret`
const FOR_THE_PROXY: &str = "Proxy-Authorization: Basic bWU6czNjcmV0";

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// A proxy that reads what we pull could change it, and could keep our password.
#[tokio::test(start_paused = true)]
async fn https_goes_through_a_tunnel_that_the_egress_proxy_cannot_read() {
    let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.requires(Auth::basic("robot", "pa55word"));
    let (setup, egress) = setup(&hub, Some(&ca));
    let proxy = setup.start().await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    for head in egress.heads() {
        assert!(head.starts_with("CONNECT registry-1.docker.io:443 HTTP/1.1\r\n"), "{head}");
        assert!(contains(head.as_bytes(), FOR_THE_PROXY), "{head}");
        // `robot:`
        assert!(!contains(head.as_bytes(), "cm9ib3Q6"), "{head}");
    }
    let tunnelled = egress.tunnelled();
    assert!(tunnelled.len() > 100_000);
    for secret in ["cm9ib3Q6", "authorization", "library/alpine", "bWU6czNjcmV0"] {
        assert!(!contains(&tunnelled, secret), "{secret}");
    }
    assert!(hub.asked().iter().any(|asked| asked.header("authorization").is_some()));
    assert!(hub.asked().iter().all(|asked| asked.header("proxy-authorization").is_none()));
    // Names are the proxy's business: often, only it can resolve them.
    assert!(proxy.network.lookups().iter().all(|name| name == PROXY));
}

/// Plain requests are for the proxy to read; what it is told about itself ends there.
#[tokio::test(start_paused = true)]
async fn plain_http_is_sent_to_the_proxy_whole() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let (setup, egress) = setup(&hub, None);
    let proxy = setup.start().await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    let url = format!("GET http://{REAL}{} HTTP/1.1", image.layers[0].path(REPOSITORY));
    assert!(egress.asked().contains(&url), "{:?}", egress.asked());
    for head in egress.heads() {
        assert!(contains(head.as_bytes(), FOR_THE_PROXY), "{head}");
    }
    assert!(hub.asked().iter().all(|asked| asked.host == REAL));
    assert!(hub.asked().iter().all(|asked| asked.header("proxy-authorization").is_none()));
}

/// A registry beside us needs no proxy, and must not learn the proxy's password.
#[tokio::test(start_paused = true)]
async fn hosts_of_no_proxy_are_reached_directly() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let (mut setup, egress) = setup(&hub, None);
    setup.network.put(REAL, 80, hub.clone());
    setup.settings.proxies.direct = "docker.io".to_owned();
    let proxy = setup.start().await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    assert_eq!(egress.heads(), [""; 0]);
    assert!(hub.asked().iter().all(|asked| asked.header("proxy-authorization").is_none()));
}

/// Which of the two to call is what an operator wants to know.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_help_is_named_with_the_upstream() {
    for (is_tls, refusal, want) in [
        (true, Some("403 Forbidden"), "does not lead there"),
        (true, Some("407 Proxy Authentication Required"), "authorization required"),
        (false, Some("407 Proxy Authentication Required"), "wants a login"),
        (true, None, "does not lead there"),
        (false, None, "does not lead there"),
    ] {
        let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
        let blob = Blob::random(1, 1000);
        hub.put_blob(REPOSITORY, &blob);
        let (setup, egress) = setup(&hub, is_tls.then_some(&ca));
        match refusal {
            Some(status) => egress.refuses(status),
            None => setup.network.set(PROXY, Reach::Down),
        }
        let proxy = setup.start().await;

        let (_, message) = proxy.get(&blob.path(REPOSITORY)).await.error(502);

        let case = format!("{is_tls} {refusal:?}: {message}");
        assert!(message.contains(REAL) && message.contains("proxy.corp:3128"), "{case}");
        assert!(message.contains(want), "{case}");
        assert!(!message.contains("s3cret") && !message.contains("bWU6"), "{case}");
        hub.assert_not_asked();
    }
}

/// The proxy stands inside: what we must not reach ourselves, we must not reach through it.
#[tokio::test(start_paused = true)]
async fn a_redirect_inwards_is_not_followed_through_the_proxy_either() {
    for host in [
        "169.254.169.254",
        "10.0.0.7",
        "[fd00:ec2::254]",
        "[::ffff:10.0.0.1]",
        "2852039166",
        "metadata.google.internal",
        "minio",
        "printer.local",
    ] {
        for scheme in ["http", "https"] {
            let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
            let blob = Blob::random(1, 1000);
            hub.put_blob(REPOSITORY, &blob);
            let target = format!("{scheme}://{host}/x");
            hub.breaks(When::asked("/blobs/"), Fault::RedirectTo(target.clone()));
            let (setup, egress) = setup(&hub, (scheme == "https").then_some(&ca));
            let proxy = setup.start().await;

            let (_, message) = proxy.get(&blob.path(REPOSITORY)).await.error(502);

            assert!(message.contains("not followed"), "{target}: {message}");
            assert!(egress.asked().iter().all(|line| line.contains(REAL)), "{target}");
            egress.behind.assert_untripped();
        }
    }
}

/// A host that the operator has allowed is allowed through the proxy as well.
#[tokio::test(start_paused = true)]
async fn a_configured_redirect_host_is_reached_through_the_proxy() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    hub.put_blob(REPOSITORY, &blob);
    hub.redirect_blobs_to("http://minio");
    let (mut setup, egress) = setup(&hub, None);
    egress.behind.put("minio", 80, hub.clone());
    let options = setup.settings.registries.last_mut().unwrap();
    options.upstream.redirect_hosts = vec!["minio".parse().unwrap()];
    let proxy: Proxy = setup.start().await;

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    assert!(egress.asked().iter().any(|line| line.contains("http://minio/")));
}

/// The program takes it from the environment, over real sockets.
#[tokio::test]
async fn the_environment_names_the_proxy() {
    let (hub, ca) = (ScriptedRegistry::new(), TestCa::new());
    let blob = Blob::random(1, 300_000);
    hub.put_blob("owner/app", &blob);
    let egress = EgressProxy::default();
    egress.behind.put("registry.example", 443, ca.protect("registry.example", hub.clone()));
    let address = egress.listen().await;
    let listen = free_address();
    let pem = String::from_utf8(ca.pem()).unwrap();
    let config = format!("listen = ['{listen}']\n[registry.'registry.example']\nca = 'ca.pem'\n");
    let url = format!("http://me:s3cret@{address}");
    let variables = [("https_proxy", url.as_str()), ("LARDER_LOG", "debug,hyper_util=trace")];
    let instance = Instance::start_with(&[("ca.pem", &pem)], &config, &variables).await;

    let reply = client_of(listen).get(&blob.path("registry.example/owner/app")).await;

    reply.assert_is(&blob);
    assert!(egress.asked().iter().all(|line| line == "CONNECT registry.example:443 HTTP/1.1"));
    assert!(contains(egress.heads()[0].as_bytes(), FOR_THE_PROXY));
    let log = instance.log();
    assert!(!log.contains("s3cret") && !log.contains("bWU6"), "{log}");
}
