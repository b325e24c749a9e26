//! The targets that a registry may redirect to, and the headers that go along.

use larder::upstream::ProxyCredential;

use crate::support::tls::TestCa;
use crate::support::{Auth, Blob, Fault, Image, Proxy, ScriptedRegistry, Setup, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

fn credential() -> ProxyCredential {
    ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() }
}

/// A mirror with a credential, before a registry that redirects its blobs to a CDN.
async fn with_cdn(len: usize) -> (ScriptedRegistry, Blob, Proxy) {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, len);
    hub.put_blob(REPOSITORY, &blob);
    hub.requires(Auth::basic("robot", "pa55word"));
    hub.redirect_blobs_to("http://cdn.example");
    let mut setup = Setup::new();
    setup.network.put("cdn.example", 80, hub.clone());
    setup.registry("docker.io", &hub).upstream.credential = credential();
    let proxy = setup.start().await;
    (hub, blob, proxy)
}

/// Object stores refuse a second credential, and ours is none of their business anyway.
#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_without_the_credential() {
    let (hub, blob, proxy) = with_cdn(100_000).await;

    let reply = proxy.get(&blob.path(REPOSITORY)).await;

    reply.assert_is(&blob);
    assert!(!format!("{:?}", reply.headers).contains("s3cr3t"), "a signature is a secret");
    let at_cdn = hub.gets("/cdn/");
    assert_eq!(at_cdn.len(), 1);
    assert_eq!((at_cdn[0].host.as_str(), at_cdn[0].has_credential()), ("cdn.example", false));
    assert_eq!(at_cdn[0].header("accept-encoding"), Some("identity"));
}

/// lscr.io is one: it redirects to a registry that wants a token and gives it to everyone.
#[tokio::test(start_paused = true)]
async fn an_image_is_pulled_through_a_host_that_redirects_to_another_registry() {
    for is_listed in [true, false] {
        let (vanity, real) = (ScriptedRegistry::new(), ScriptedRegistry::new());
        let image = Image::random(1, &[1000]);
        real.put_image("owner/app", "1", &image);
        real.requires(Auth::tokens("http://auth.real.test/token"));
        let there = "http://real.test/v2/owner/app";
        let leads = |path: &str| Fault::RedirectTo(format!("{there}/{path}"));
        vanity.breaks(When::asked("/manifests/1"), leads("manifests/1"));
        for digest in image.blobs().map(|blob| &blob.digest).chain([image.manifest.digest()]) {
            let kind = if digest == image.manifest.digest() { "manifests" } else { "blobs" };
            vanity.breaks(When::asked(digest), leads(&format!("{kind}/{digest}")));
        }
        let mut setup = Setup::new();
        setup.network.put("real.test", 80, real.clone());
        setup.network.put("auth.real.test", 80, real.clone());
        let options = setup.registry("vanity.test", &vanity);
        options.upstream.credential = credential();
        if is_listed {
            options.upstream.token_hosts = vec!["auth.real.test".parse().unwrap()];
        }
        let proxy = setup.start().await;

        if is_listed {
            proxy.pull("app", "1", &image).await;
            assert_eq!(real.gets("/token").len(), 1);
        } else {
            let (_, message) = proxy.get("/v2/app/manifests/1").await.error(502);
            assert!(message.contains("`token_hosts` would allow it"), "{message}");
            assert!(real.gets("/token").is_empty());
        }
        let basic = |it: &str| it.starts_with("Basic");
        assert!(!real.asked().iter().any(|it| it.header("authorization").is_some_and(basic)));
    }
}

/// A signed URL has expired by the time that a long download breaks; the registry gives another.
#[tokio::test(start_paused = true)]
async fn a_redirected_fetch_is_resumed_through_the_registry() {
    let (hub, blob, proxy) = with_cdn(200_000).await;
    hub.breaks(When::asked("/cdn/").nth(1), Fault::CutAt(50_000));

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    let at_cdn = hub.gets("/cdn/");
    assert_eq!(at_cdn.len(), 2);
    assert_eq!(at_cdn[1].header("range"), Some("bytes=50000-"));
    let at_registry = hub.gets("/blobs/");
    let answered: Vec<_> = at_registry.iter().map(|asked| asked.status()).collect();
    assert_eq!(answered.iter().filter(|status| **status == 307).count(), 2, "{answered:?}");
    assert_eq!(hub.body_bytes("/cdn/"), 200_000);
}

/// Places that a registry must not be able to make us call: us, our network, the cloud's own.
const INSIDE: [&str; 16] = [
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://127.0.0.1:8080/admin",
    "http://127.0.0.2/",
    "http://0.0.0.0/",
    "http://10.0.0.7/",
    "http://192.168.1.1/",
    "http://[::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://2852039166/",
    "http://inside.example/",
    "http://nat64.example/",
    "http://mapped.example/",
];

/// Names whose addresses are inside.
fn name_the_inside(setup: &Setup) {
    setup.network.name("inside.example", &["10.0.0.7"]);
    setup.network.name("nat64.example", &["64:ff9b::a9fe:a9fe"]);
    setup.network.name("mapped.example", &["::ffff:127.0.0.1"]);
}

/// The proxy stands beside metadata servers that hand out the machine's own credentials.
#[tokio::test(start_paused = true)]
async fn a_redirect_inwards_is_not_followed() {
    let blob = Blob::random(1, 1000);
    for target in INSIDE {
        let hub = ScriptedRegistry::new();
        hub.put_blob(REPOSITORY, &blob);
        hub.breaks(When::asked("/v2/library/"), Fault::RedirectTo(target.to_owned()));
        let mut setup = Setup::new();
        name_the_inside(&setup);
        setup.registry("docker.io", &hub).upstream.credential = credential();
        let proxy = setup.start().await;

        for path in [blob.path(REPOSITORY), LATEST.to_owned()] {
            let (_, message) = proxy.get(&path).await.error(502);

            proxy.network.assert_untripped();
            assert!(message.contains("registry-1.docker.io"), "{target}: {message}");
            assert!(message.contains("not followed"), "{target}: says why: {message}");
        }
        assert_eq!(proxy.stored(), [""; 0]);
    }
}

/// A `Location` that is no URL ends in the same way, without a guess.
#[tokio::test(start_paused = true)]
async fn a_redirect_to_nowhere_is_an_error() {
    let long = format!("http://cdn.example/{}", "a".repeat(100_000));
    for target in ["", "javascript:alert(1)", "ftp://cdn.example/x", "file:///etc/passwd", &long] {
        let hub = ScriptedRegistry::new();
        let blob = Blob::random(1, 1000);
        hub.put_blob(REPOSITORY, &blob);
        hub.breaks(When::asked("/v2/library/"), Fault::RedirectTo(target.to_owned()));
        let proxy = Proxy::before(&hub).await;

        proxy.get(&blob.path(REPOSITORY)).await.error(502);

        assert!(hub.asked().len() <= 12, "{target:.30}: {} requests", hub.asked().len());
    }
}

/// A circle must end, soon.
#[tokio::test(start_paused = true)]
async fn redirects_in_a_circle_end() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    let circle = format!("http://registry-1.docker.io{}", blob.path(REPOSITORY));
    hub.breaks(When::asked("/blobs/"), Fault::RedirectTo(circle));
    let proxy = Proxy::before(&hub).await;

    proxy.get(&blob.path(REPOSITORY)).await.error(502);

    let hops = hub.gets("/blobs/").len();
    assert!((2..=6).contains(&hops), "{hops} requests for at most five hops");
}

/// Private storage behind a private registry is normal; the operator names it.
#[tokio::test(start_paused = true)]
async fn a_private_host_that_the_operator_named_is_followed() {
    for (host, entry) in [("10.0.0.9", "10.0.0.9"), ("minio.corp", "minio.corp:80")] {
        let hub = ScriptedRegistry::new();
        let blob = Blob::random(1, 1000);
        hub.put_blob(REPOSITORY, &blob);
        hub.requires(Auth::basic("robot", "pa55word"));
        hub.redirect_blobs_to(&format!("http://{host}"));
        let mut setup = Setup::new();
        setup.network.name("minio.corp", &["10.0.0.9"]);
        setup.network.put(host, 80, hub.clone());
        let options = setup.registry("docker.io", &hub);
        options.upstream.credential = credential();
        options.upstream.redirect_hosts = vec![entry.parse().unwrap()];
        let proxy = setup.start().await;

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        assert!(hub.gets("/cdn/").iter().all(|asked| !asked.has_credential()));
    }
}

/// A request that began encrypted stays so: a downgrade would show names and signatures to the
/// network.
#[tokio::test(start_paused = true)]
async fn https_is_never_followed_to_http() {
    let ca = TestCa::new();
    let secure = ScriptedRegistry::new();
    let plain = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    let blob = &image.layers[0];
    for registry in [&secure, &plain] {
        registry.put_image(REPOSITORY, "latest", &image);
    }
    secure.redirect_blobs_to("http://cdn.example");
    let mut setup = Setup::new();
    setup.network.put("cdn.example", 80, plain.clone());
    setup.network.put("registry-1.docker.io", 80, plain.clone());
    setup.tls_registry("docker.io", &secure, &ca);
    let proxy = setup.start().await;

    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    proxy.get(&blob.path(REPOSITORY)).await.error(502);

    plain.assert_not_asked();
    assert_eq!(secure.gets("/blobs/").len(), 1);
}

/// The same way over TLS is the usual one, and also there the credential stays at home.
#[tokio::test(start_paused = true)]
async fn https_is_followed_to_https_without_the_credential() {
    let ca = TestCa::new();
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 100_000);
    hub.put_blob(REPOSITORY, &blob);
    hub.requires(Auth::basic("robot", "pa55word"));
    hub.redirect_blobs_to("https://cdn.example");
    let mut setup = Setup::new();
    setup.network.put("cdn.example", 443, ca.protect("cdn.example", hub.clone()));
    setup.tls_registry("docker.io", &hub, &ca).upstream.credential = credential();
    let proxy = setup.start().await;

    proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

    let at_cdn = hub.gets("/cdn/");
    assert_eq!((at_cdn.len(), at_cdn[0].has_credential()), (1, false));
}

/// A certificate without a trusted authority is an outage, not a reason to try without TLS.
#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_trusted_is_refused_and_plain_http_not_tried() {
    let (trusted, stranger) = (TestCa::new(), TestCa::new());
    let (hub, plain) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let mut setup = Setup::new();
    setup.tls_registry("docker.io", &hub, &stranger).upstream.ca_pem = Some(trusted.pem());
    setup.network.put("registry-1.docker.io", 80, plain.clone());
    let proxy = setup.start().await;

    let (_, message) = proxy.get(LATEST).await.error(502);

    assert!(message.contains("registry-1.docker.io"), "{message}");
    hub.assert_not_asked();
    plain.assert_not_asked();
}
