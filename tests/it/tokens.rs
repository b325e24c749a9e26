//! Credentials: what the token server gets, what the registry gets, and who gets nothing.

use larder::upstream::ProxyCredential;

use crate::support::registry::basic;
use crate::support::tls::TestCa;
use crate::support::{
    Auth, Blob, Fault, Gate, Image, Proxy, ScriptedRegistry, Setup, When, settle,
};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const REALM: &str = "http://auth.docker.io/token";

fn credential() -> ProxyCredential {
    ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() }
}

/// A mirror before a guarded registry whose token server is at auth.docker.io.
async fn guarded(auth: Auth, credential: ProxyCredential) -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[70_000, 10]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.requires(auth);
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, hub.clone());
    setup.registry("docker.io", &hub).upstream.credential = credential;
    let proxy = setup.start().await;
    (hub, image, proxy)
}

/// Docker Hub wants a token even from those who have no account.
#[tokio::test(start_paused = true)]
async fn an_anonymous_pull_gets_its_token() {
    let (hub, image, proxy) = guarded(Auth::tokens(REALM), ProxyCredential::Anonymous).await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    let tokens = hub.gets("/token");
    assert_eq!(tokens.len(), 1, "one token does for the whole pull");
    assert_eq!(tokens[0].host, "auth.docker.io");
    assert_eq!(tokens[0].query("scope"), ["repository:library/alpine:pull"]);
    assert!(!tokens[0].has_credential());
}

/// The password goes to the token server; the registry sees tokens only.
#[tokio::test(start_paused = true)]
async fn a_password_goes_to_the_token_server_and_nowhere_else() {
    let auth = Auth::tokens_for(REALM, "robot", "pa55word");
    let (hub, image, proxy) = guarded(auth, credential()).await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    let password = basic("robot", "pa55word");
    for asked in hub.asked() {
        let is_token_server = asked.path() == "/token";
        let has_password = asked.header("authorization") == Some(password.as_str());
        assert_eq!(has_password, is_token_server, "{} {}", asked.host, asked.target);
    }
    assert_eq!(hub.gets("/token").len(), 1);
}

/// Basic authentication needs no token server.
#[tokio::test(start_paused = true)]
async fn a_registry_with_basic_authentication_gets_the_password() {
    let (hub, image, proxy) = guarded(Auth::basic("robot", "pa55word"), credential()).await;

    proxy.pull(REPOSITORY, "latest", &image).await;

    assert_eq!(hub.gets("/token").len(), 0);
    assert!(hub.asked().iter().any(|asked| asked.has_credential()));
}

/// A rollout must not be a storm on the token server, which limits too.
#[tokio::test(start_paused = true)]
async fn fifty_pulls_of_one_repository_fetch_one_token() {
    let auth = Auth::tokens_for(REALM, "robot", "pa55word");
    let (hub, image, proxy) = guarded(auth, credential()).await;
    let gate = Gate::new();
    hub.breaks(When::asked("/token"), Fault::HoldHeaders(gate.clone()));
    let blobs: Vec<_> = (0..25).map(|i| Blob::random(100 + i, 1000)).collect();
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
    }

    let mut clients = proxy.get_often(LATEST, 25);
    for blob in &blobs {
        clients.spawn(proxy.client.get(&blob.path(REPOSITORY)));
    }
    gate.reached().await;
    settle().await;
    gate.open();

    for reply in clients.join_all().await {
        reply.assert_status(200);
    }
    assert_eq!(hub.gets("/token").len(), 1);
    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
}

/// Tokens are for one repository; another needs its own, and gets it.
#[tokio::test(start_paused = true)]
async fn each_repository_has_its_own_token() {
    let (hub, image, proxy) = guarded(Auth::tokens(REALM), ProxyCredential::Anonymous).await;
    hub.put_image("other/app", "latest", &image);

    proxy.pull(REPOSITORY, "latest", &image).await;
    proxy.get("/v2/other/app/manifests/latest").await.assert_is(&image.manifest.blob);

    let scopes: Vec<_> = hub.gets("/token").iter().flat_map(|token| token.query("scope")).collect();
    assert_eq!(scopes, ["repository:library/alpine:pull", "repository:other/app:pull"]);
}

/// A token that is refused is replaced once; a credential that changed is no reason to hammer.
#[tokio::test(start_paused = true)]
async fn a_voided_token_is_replaced_once() {
    let (hub, image, proxy) = guarded(Auth::tokens(REALM), ProxyCredential::Anonymous).await;
    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    hub.revoke_tokens();
    hub.forget();

    proxy.get(&image.layers[0].path(REPOSITORY)).await.assert_is(&image.layers[0]);

    assert_eq!(hub.gets("/token").len(), 1);
}

/// A registry that says 401 whatever we bring must not be asked for ever.
#[tokio::test(start_paused = true)]
async fn an_endless_401_ends() {
    let (hub, _image, proxy) = guarded(Auth::tokens(REALM), ProxyCredential::Anonymous).await;
    let challenge = format!(r#"Bearer realm="{REALM}",service="scripted",scope="x""#);
    let challenge = vec![("WWW-Authenticate", challenge)];
    hub.breaks(When::asked("/v2/"), Fault::Status(401, challenge, "{}"));

    let reply = proxy.get(LATEST).await;

    assert_ne!(reply.status, 200);
    assert!(hub.asked().len() <= 8, "{} requests", hub.asked().len());
}

/// Realms that no credential may go to, nor any request at all (CVE-2026-33540).
const FOREIGN: [&str; 12] = [
    "http://evil.example/token",
    "http://auth.docker.io.evil.example/token",
    "http://auth.docker.io@evil.example/token",
    "//evil.example/token",
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:8080/token",
    "http://[::1]/token",
    "http://[64:ff9b::a9fe:a9fe]/token",
    "http://inside.example/token",
    "http://localhost/token",
    "file:///etc/passwd",
    "",
];

/// An upstream chooses the realm; if it could choose any, it could collect any credential.
#[tokio::test(start_paused = true)]
async fn a_foreign_realm_gets_no_credential_and_no_request() {
    for realm in FOREIGN {
        for credential in [credential(), ProxyCredential::Anonymous] {
            let hub = ScriptedRegistry::new();
            let evil = ScriptedRegistry::new();
            let image = Image::random(1, &[10]);
            hub.put_image(REPOSITORY, "latest", &image);
            hub.requires(Auth::tokens(realm));
            let mut setup = Setup::new();
            for host in ["evil.example", "auth.docker.io.evil.example"] {
                setup.network.put(host, 80, evil.clone());
            }
            setup.network.name("inside.example", &["10.0.0.7"]);
            setup.network.name("localhost", &["127.0.0.1"]);
            setup.registry("docker.io", &hub).upstream.credential = credential;
            let proxy = setup.start().await;

            for path in [LATEST.to_owned(), image.layers[0].path(REPOSITORY)] {
                let (_, message) = proxy.get(&path).await.error(502);

                assert!(message.contains("registry-1.docker.io"), "{realm}: {message}");
                assert!(!message.contains("pa55word"), "{realm}: {message}");
            }
            evil.assert_not_asked();
            proxy.network.assert_untripped();
        }
    }
}

/// A realm whose host is on the registry's domain but inside the network is a rebinding.
#[tokio::test(start_paused = true)]
async fn a_realm_that_resolves_inwards_is_not_called() {
    let hub = ScriptedRegistry::new();
    hub.requires(Auth::tokens("http://rebound.docker.io/token"));
    let mut setup = Setup::new();
    setup.network.name("rebound.docker.io", &["169.254.169.254"]);
    setup.registry("docker.io", &hub).upstream.credential = credential();
    let proxy = setup.start().await;

    proxy.get(LATEST).await.error(502);

    proxy.network.assert_untripped();
}

/// A company's own token server on another domain is legitimate when the operator says so.
#[tokio::test(start_paused = true)]
async fn a_token_host_that_the_operator_named_gets_the_password() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.requires(Auth::tokens_for("http://login.corp.example/token", "robot", "pa55word"));
    let mut setup = Setup::new();
    setup.network.put("login.corp.example", 80, hub.clone());
    let options = setup.registry("docker.io", &hub);
    options.upstream.credential = credential();
    options.upstream.token_hosts = vec!["login.corp.example".parse().unwrap()];
    let proxy = setup.start().await;

    proxy.get(LATEST).await.assert_is(&image.manifest.blob);

    assert_eq!(hub.gets("/token").len(), 1);
}

/// A password over plain HTTP is everybody's.
#[tokio::test(start_paused = true)]
async fn an_https_registry_has_no_http_token_server() {
    let ca = TestCa::new();
    let (hub, plain) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    hub.requires(Auth::tokens_for(REALM, "robot", "pa55word"));
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, plain.clone());
    setup.tls_registry("docker.io", &hub, &ca).upstream.credential = credential();
    let proxy = setup.start().await;

    proxy.get(LATEST).await.error(502);

    plain.assert_not_asked();
}
