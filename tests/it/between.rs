//! Refusals of something between Larder and the registry: a login page, a firewall, a load
//! balancer without a backend, a registry whose clock is behind its token server's. They refuse
//! everything, `/v2/` too, and say nothing about the repository: what is cached survives them.

use larder::upstream::ProxyCredential;

use crate::support::{Auth, Fault, Image, Proxy, Reach, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "team/app";
const LATEST: &str = "/v2/team/app/manifests/latest";
const TAGS: &str = "/v2/team/app/tags/list";
const HOST: &str = "registry-1.docker.io";
const REALM: &str = "http://auth.docker.io/token";

/// A name, a status, its headers and its body.
type Row = (&'static str, u16, &'static [(&'static str, &'static str)], &'static str);

const HTML: (&str, &str) = ("Content-Type", "text/html");

const ROWS: [Row; 12] = [
    ("a login page", 401, &[HTML, ("WWW-Authenticate", "Basic realm=\"portal\"")], "<html>"),
    ("Kerberos", 401, &[("WWW-Authenticate", "Negotiate")], ""),
    ("no challenge", 401, &[], "unauthorized"),
    ("a firewall", 403, &[HTML], "<html>blocked"),
    ("Cloudflare", 403, &[HTML, ("Server", "cloudflare")], "error code: 1020"),
    ("an empty 403", 403, &[], ""),
    ("no backend", 404, &[], "default backend - 404"),
    ("no route (Traefik)", 404, &[("Content-Type", "text/plain")], "404 page not found\n"),
    ("no route (Kong)", 404, &[("Content-Type", "application/json")], r#"{"message":"no Route"}"#),
    ("nginx", 404, &[HTML], "<html><h1>404 Not Found</h1>"),
    (
        "the registry's clock",
        401,
        &[("WWW-Authenticate", INVALID)],
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    ),
    (
        "a key that was changed",
        401,
        &[("WWW-Authenticate", UNEXPLAINED)],
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    ),
];

const INVALID: &str =
    r#"Bearer realm="http://auth.docker.io/token",service="scripted",error="invalid_token""#;
const UNEXPLAINED: &str = r#"Bearer realm="http://auth.docker.io/token",service="scripted""#;

fn fault((_, status, headers, body): Row) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Fault::Status(status, headers, body)
}

/// A mirror that holds a tag and the list of tags past their TTL.
async fn warm(auth: Auth) -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let credential = match &auth {
        Auth::Open => ProxyCredential::Anonymous,
        _ => ProxyCredential::Basic { username: "robot".to_owned(), password: "pa55word".into() },
    };
    hub.requires(auth);
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, hub.clone());
    setup.registry("docker.io", &hub).upstream.credential = credential;
    let proxy = setup.start().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    let json = vec![("Content-Type", "application/json".to_owned())];
    let list = r#"{"name":"team/app","tags":["latest"]}"#;
    hub.breaks(When::asked("tags/list"), Fault::Status(200, json, list));
    proxy.get(TAGS).await.assert_status(200);
    hub.heal();
    tokio::time::advance(TAG_TTL * 2).await;
    (hub, image, proxy)
}

fn logins() -> [Auth; 3] {
    [Auth::Open, Auth::basic("robot", "pa55word"), Auth::tokens_for(REALM, "robot", "pa55word")]
}

#[tokio::test(start_paused = true)]
async fn what_is_cached_survives_something_in_between_that_refuses_everything() {
    for row in ROWS {
        for auth in logins() {
            let name = format!("{}, {auth:?}", row.0);
            let (hub, image, proxy) = warm(auth).await;
            hub.breaks(When::asked("/v2/"), fault(row));

            for path in [LATEST, TAGS] {
                let reply = proxy.get(path).await;
                assert_eq!(reply.status, 200, "{name}: {}", reply.text());
                assert!(reply.decision().is_stale(), "{name}: {:?}", reply.decision());
            }
            proxy.get(&image.manifest.path(REPOSITORY)).await.assert_is(&image.manifest.blob);
            proxy.get(&image.layers[0].path(REPOSITORY)).await.assert_is(&image.layers[0]);

            // The kept record is on disk, too.
            proxy.network.set(HOST, Reach::Down);
            proxy.restart().await;
            proxy.get(LATEST).await.assert_is(&image.manifest.blob);
            proxy.network.set(HOST, Reach::Up);
            hub.heal();
            tokio::time::advance(TAG_TTL * 2).await;
            let fresh = proxy.get(LATEST).await;
            fresh.assert_is(&image.manifest.blob);
        }
    }
}

/// The token server may be behind something, too.
#[tokio::test(start_paused = true)]
async fn what_is_cached_survives_something_in_between_that_refuses_tokens() {
    for row in ROWS.into_iter().filter(|(.., body)| !body.contains("errors")) {
        for auth in [Auth::tokens(REALM), Auth::tokens_for(REALM, "robot", "pa55word")] {
            let name = format!("{}, {auth:?}", row.0);
            let (hub, image, proxy) = warm(auth).await;
            hub.revoke_tokens();
            hub.breaks(When::asked("/token"), fault(row));

            for path in [LATEST, TAGS] {
                let reply = proxy.get(path).await;
                assert_eq!(reply.status, 200, "{name}: {}", reply.text());
                assert!(reply.decision().is_stale(), "{name}: {:?}", reply.decision());
            }
            hub.heal();
            tokio::time::advance(TAG_TTL * 2).await;
            proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        }
    }
}

/// Content that is not cached gets the status that it gets directly, or 502, and nothing is
/// remembered.
#[tokio::test(start_paused = true)]
async fn what_is_not_cached_is_refused_as_directly_and_not_remembered() {
    for row in ROWS {
        for auth in logins() {
            let name = format!("{}, {auth:?}", row.0);
            let (hub, image, proxy) = warm(auth).await;
            hub.put_image(REPOSITORY, "other", &image);
            hub.breaks(When::asked("/v2/"), fault(row));

            let refused = proxy.get("/v2/team/app/manifests/other").await;

            let seen = refused.status.as_u16();
            assert!(matches!(seen, 403 | 404 | 502), "{name}: {seen}");
            assert!(!refused.headers.contains_key("www-authenticate"), "{name}");
            hub.heal();
            // The longest that the circuit breaker is open at first.
            tokio::time::advance(std::time::Duration::from_secs(5)).await;
            proxy.get("/v2/team/app/manifests/other").await.assert_is(&image.manifest.blob);
        }
    }
}

/// Before a registry that hides what is private, a broken `/v2/` is no reason to believe a 404.
#[tokio::test(start_paused = true)]
async fn a_tag_survives_a_restart_while_the_login_cannot_be_learnt() {
    for row in ROWS.into_iter().filter(|(_, status, ..)| *status != 401) {
        let (hub, image, proxy) = warm(Auth::basic("robot", "pa55word")).await;
        hub.hides_what_is_private();
        hub.breaks(When::asked("/v2/").by("GET").first(1), fault(row));
        proxy.restart().await;

        for _ in 0..2 {
            let reply = proxy.get(LATEST).await;
            reply.assert_is(&image.manifest.blob);
            tokio::time::advance(TAG_TTL * 2).await;
        }
    }
}

/// A 404 of the registry itself is obeyed, whether it says so in the specification's words, by its
/// header, or by answering `/v2/`.
#[tokio::test(start_paused = true)]
async fn a_tag_that_the_registry_itself_does_not_have_is_gone() {
    const OURS: (&str, &str) = ("Docker-Distribution-Api-Version", "registry/2.0");
    let rows: [Row; 4] = [
        ("a page", 404, &[HTML], "<html>"),
        ("nothing", 404, &[], ""),
        ("the header", 404, &[OURS], ""),
        ("the specification's error", 404, &[], r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
    ];
    for row in rows {
        for auth in logins() {
            let name = format!("{}, {auth:?}", row.0);
            let (hub, _image, proxy) = warm(auth).await;
            hub.breaks(When::asked("/team/app/"), fault(row));

            assert_eq!(proxy.get(LATEST).await.status, 404, "{name}");

            proxy.network.set(HOST, Reach::Down);
            assert_eq!(proxy.get(LATEST).await.status, 404, "{name}: the tag record is gone");
        }
    }
}
