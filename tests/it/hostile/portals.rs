//! Login and maintenance pages in place of a registry: a 200 that is not about the content that was
//! asked for proves nothing, neither a right to it nor that a repository has it.

use std::time::Duration;

use http::Method;
use larder::access::{AccessOptions, AccessPolicy, AnonymousAccess, ChallengePolicy};
use larder::registry::{AskedAs, GrantPolicy};

use crate::support::client::Version;
use crate::support::registry::{User, basic};
use crate::support::{Auth, Blob, Fault, Image, Proxy, Reply, ScriptedRegistry, Setup, When};

const ALICE: (&str, &str) = ("alice", "canary-of-alice");
const TTL: Duration = Duration::from_secs(60);
const PAGE: &str = "<html><form>please sign in</form></html>";
const LATEST: &str = "/v2/team/app/manifests/latest";

/// The answers of a page to every path, one of them at another host, which answers `page`.
fn portals(page: &str) -> Vec<(&'static str, Fault)> {
    let html = || vec![("Content-Type", "text/html; charset=utf-8".to_owned())];
    let text = || vec![("Content-Type", "application/octet-stream".to_owned())];
    let page: &'static str = page.to_owned().leak();
    let to = |location: &str| vec![("Location", location.to_owned())];
    vec![
        ("a page", Fault::Status(200, html(), page)),
        ("a page without a type", Fault::Status(200, Vec::new(), PAGE)),
        ("a page as bytes", Fault::Status(200, text(), PAGE)),
        ("an empty page", Fault::Status(200, Vec::new(), "")),
        ("JSON", Fault::Status(200, vec![("Content-Type", "application/json".to_owned())], "{}")),
        ("a redirect to another host", Fault::Status(302, to("http://sso.test/signin"), "")),
        ("a redirect to a page", Fault::Status(302, to("/login"), "")),
    ]
}

/// A page of `len` bytes.
fn page_of(len: usize) -> String {
    format!("{PAGE:<len$}")
}

async fn ask(proxy: &Proxy, method: Method, path: &str, user: (&str, &str)) -> Reply {
    let header = basic(user.0, user.1);
    proxy.client.call(method, path, &[("authorization", header.as_str())]).await
}

/// A registry with private content, asked with each client's own credential; and the other host.
async fn private(auth: &Auth) -> (ScriptedRegistry, ScriptedRegistry, Image, Proxy) {
    let (hub, sso) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[5000, 0]);
    hub.put_image("team/app", "latest", &image);
    hub.requires(auth.clone());
    hub.knows_lists();
    let mut setup = Setup::new();
    setup.network.put("auth.corp.test", 80, hub.clone());
    setup.network.put("sso.test", 80, sso.clone());
    let options = setup.registry("corp.test", &hub);
    options.identity = AskedAs::Client(GrantPolicy { ttl: TTL, grace: TTL });
    setup.access = AccessOptions {
        challenge: ChallengePolicy::Basic,
        policy: AccessPolicy { anonymous: AnonymousAccess::None, rules: Vec::new() },
        ..AccessOptions::default()
    };
    (hub, sso, image, setup.start().await)
}

/// harbor #23882, oras-go #633: every stranger would read what is cached.
#[tokio::test(start_paused = true)]
async fn a_page_gives_no_stranger_a_right_to_cached_content() {
    let users = [User::new(ALICE.0, ALICE.1, &["team/app:pull"])];
    let token = Auth::users("http://auth.corp.test/token", &users);
    let basic = Auth::basic(ALICE.0, ALICE.1);
    for auth in [&token, &basic] {
        for (what, portal) in portals(&page_of(5000)) {
            let (hub, sso, image, proxy) = private(auth).await;
            ask(&proxy, Method::GET, LATEST, ALICE).await.assert_is(&image.manifest.blob);
            for blob in image.blobs() {
                ask(&proxy, Method::GET, &blob.path("team/app"), ALICE).await.assert_is(blob);
            }
            ask(&proxy, Method::GET, "/v2/team/app/tags/list", ALICE).await.assert_status(200);
            // The token server still works in one half of them.
            hub.breaks(When::asked("/v2/"), portal.clone());
            hub.breaks(When::asked("/login"), Fault::Html200);
            sso.breaks(When::asked(""), Fault::Html200);

            let mut paths = vec![
                LATEST.to_owned(),
                image.manifest.path("team/app"),
                "/v2/team/app/tags/list".to_owned(),
                format!("/v2/team/app/referrers/{}", image.manifest.digest()),
            ];
            paths.extend(image.blobs().map(|blob| blob.path("team/app")));
            for (number, path) in paths.iter().enumerate() {
                for method in [Method::GET, Method::HEAD] {
                    let stranger = format!("mallory-{number}");
                    let reply = ask(&proxy, method, path, (&stranger, "x")).await;
                    assert_ne!(reply.status, 200, "{what}: {path}: {}", reply.text());
                }
            }
            // Her right is not confirmed by it either, and ends with its grace.
            tokio::time::advance(TTL + TTL).await;
            let reply = ask(&proxy, Method::GET, LATEST, ALICE).await;
            assert_ne!(reply.status, 200, "{what}: {}", reply.text());

            hub.heal();
            tokio::time::advance(Duration::from_secs(120)).await;
            ask(&proxy, Method::GET, LATEST, ALICE).await.assert_is(&image.manifest.blob);
        }
    }
}

/// Storage states no digest, but the length that a manifest states.
#[tokio::test(start_paused = true)]
async fn a_blob_in_storage_confirms_a_right_by_its_length() {
    let users = [User::new(ALICE.0, ALICE.1, &["team/app:pull"])];
    let auth = Auth::users("http://auth.corp.test/token", &users);
    let (hub, _sso, image, proxy) = private(&auth).await;
    hub.redirect_blobs_to("http://sso.test");
    proxy.network.put("sso.test", 80, hub.clone());
    hub.breaks(When::asked("/cdn/"), Fault::NoDigestHeader);
    let layer = &image.layers[0];
    ask(&proxy, Method::GET, LATEST, ALICE).await.assert_is(&image.manifest.blob);
    ask(&proxy, Method::GET, &layer.path("team/app"), ALICE).await.assert_is(layer);
    tokio::time::advance(TTL).await;
    hub.forget();

    ask(&proxy, Method::GET, &layer.path("team/app"), ALICE).await.assert_is(layer);

    assert!(hub.asked().iter().all(|it| it.method == "HEAD" || it.path() == "/token"));
    assert!(hub.heads("tags/list").is_empty() && hub.gets("tags/list").is_empty());
}

/// A membership that is noted is kept for good, also over a restart, so a page must make none.
#[tokio::test(start_paused = true)]
async fn a_page_is_no_proof_that_a_repository_has_content() {
    for push in [false, true] {
        for (what, portal) in portals(&page_of(5001)) {
            let (hub, sso) = (ScriptedRegistry::new(), ScriptedRegistry::new());
            let image = Image::random(1, &[5000, 0]);
            let late = Blob::random(2, 700);
            hub.put_image("a/secret", "latest", &image);
            hub.put_image("a/open", "latest", &Image::random(3, &[10]));
            hub.put_blob("a/secret", &late);
            let mut setup = Setup::new();
            setup.network.put("sso.test", 80, sso.clone());
            setup.registry("docker.io", &hub).rules.push = push;
            let proxy = setup.start().await;
            proxy.pull("a/secret", "latest", &image).await;
            let held: Vec<_> = image.blobs().chain([&late]).collect();

            hub.breaks(When::asked("/v2/"), portal.clone());
            hub.breaks(When::asked("/login"), Fault::Html200);
            sso.breaks(When::asked(""), Fault::Html200);
            let manifest = image.manifest.path("a/open");
            for blob in &held {
                let reply = proxy.head(&blob.path("a/open")).await;
                let is_page = reply.header("content-length") == Some("5000");
                assert!(!(reply.status == 200 && is_page), "{what}: {} {reply:?}", blob.digest);
                // The fill of what is not held gets the page, and its hash is another.
                let reply = proxy.client.try_get(Version::Http11, &blob.path("a/open")).await;
                let has_it = reply.is_ok_and(|it| {
                    it.status == 200 && it.body == blob.bytes && !it.body.is_empty()
                });
                assert!(!has_it, "push={push}, {what}: {} bytes", blob.len());
            }
            for method in [Method::GET, Method::HEAD] {
                let reply = proxy.call(method, &manifest).await;
                assert_ne!(reply.status, 200, "push={push}, {what}: {}", reply.text());
            }

            hub.heal();
            tokio::time::advance(Duration::from_secs(120)).await;
            proxy.get(&late.path("a/secret")).await.assert_is(&late);
            for round in ["afterwards", "after a restart"] {
                for blob in &held {
                    for method in [Method::HEAD, Method::GET] {
                        let reply = proxy.call(method, &blob.path("a/open")).await;
                        assert_eq!(reply.status, 404, "push={push}, {what}, {round}");
                    }
                }
                assert_eq!(proxy.get(&manifest).await.status, 404, "{what}, {round}");
                proxy.restart().await;
            }
        }
    }
}
