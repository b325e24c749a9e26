//! Clients that ask the registry with credentials of their own: what is cached is theirs only if
//! the registry says so.

mod changes;
mod fills;
mod mounts;
mod pushes;
mod questions;
mod rights;
mod shares;
mod tenants;

use std::time::Duration;

use http::Method;
use larder::access::{AccessOptions, AccessPolicy, AnonymousAccess, ChallengePolicy};
use larder::http::ClientPeer;
use larder::registry::{AskedAs, GrantPolicy};

use crate::support::registry::{User, basic};
use crate::support::{Auth, Client, Image, Log, Proxy, Reply, ScriptedRegistry, Setup};

/// Canaries: no log and no other host may ever have them.
const ANN: &str = "canary-of-ann";
const BEN: &str = "canary-of-ben";
const LOCAL: &str = "canary-of-a-user-of-larder";
const WRONG: &str = "canary-that-is-wrong";
const USERS: [&str; 4] = ["ann", "ben", "eve", "local"];

const REALM: &str = "http://auth.corp.test/token";
const GRANTS: GrantPolicy =
    GrantPolicy { ttl: Duration::from_secs(300), grace: Duration::from_secs(3600) };
const SECOND: Duration = Duration::from_secs(1);

fn ann(may: &[&str]) -> User {
    User::new("ann", ANN, may)
}

fn ben(may: &[&str]) -> User {
    User::new("ben", BEN, may)
}

const LATEST: &str = "/v2/team/app/manifests/latest";

/// The access options with which clients log in.
fn asking(anonymous: AnonymousAccess) -> AccessOptions {
    AccessOptions {
        challenge: ChallengePolicy::Basic,
        policy: AccessPolicy { anonymous, rules: Vec::new() },
        ..AccessOptions::default()
    }
}

/// Puts a registry behind the proxy that is asked with clients' credentials.
fn put(setup: &mut Setup, name: &str, hub: &ScriptedRegistry, users: &[User]) {
    let realm = format!("auth.{name}");
    setup.network.put(&realm, 80, hub.clone());
    let options = setup.registry(name, hub);
    options.identity = AskedAs::Client(GRANTS);
    options.cache_status = false;
    hub.requires(Auth::users(&format!("http://{realm}/token"), users));
    hub.knows_lists();
}

/// A proxy of corp.test, which has `team/app`, and these users.
async fn corp(users: &[User]) -> (ScriptedRegistry, Image, Proxy) {
    corp_at(&[], users).await
}

/// The same at hosts of its own.
async fn corp_at(hosts: &[&str], users: &[User]) -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[200_000, 10]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &hub, users);
    setup.settings.registries[0].hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    setup.access = asking(AnonymousAccess::None);
    (hub, image, setup.start().await)
}

async fn ask(client: &Client, method: Method, path: &str, user: (&str, &str)) -> Reply {
    ask_with(client, method, path, user, &[]).await
}

async fn ask_with(
    client: &Client,
    method: Method,
    path: &str,
    (user, password): (&str, &str),
    more: &[(&str, &str)],
) -> Reply {
    let header = basic(user, password);
    let own = [("authorization", header.as_str())];
    let headers: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    client.call(method, path, &headers).await
}

async fn get(proxy: &Proxy, path: &str, user: (&str, &str)) -> Reply {
    ask(&proxy.client, Method::GET, path, user).await
}

/// Pulls an image as a client does, and checks every byte.
async fn pull(proxy: &Proxy, repository: &str, image: &Image, user: (&str, &str)) {
    let path = format!("/v2/{repository}/manifests/latest");
    get(proxy, &path, user).await.assert_is(&image.manifest.blob);
    for blob in image.blobs() {
        get(proxy, &blob.path(repository), user).await.assert_is(blob);
    }
}

/// The parts of an answer that could tell it from another: all but the request's id.
fn shown(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let id = text.split_once(r#""request_id":""#).map(|(_, rest)| rest[..16].to_owned());
    let text = id.map_or(text.clone(), |id| text.replace(&id, "ID"));
    let mut headers = reply.headers.clone();
    headers.remove("date");
    format!("{} {headers:?} {text}", reply.status)
}

#[track_caller]
fn assert_challenged(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert!(reply.header("www-authenticate").unwrap().starts_with("Basic realm="));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_logs_in_pulls_with_its_own_credential_and_then_from_the_cache() {
    let log = Log::of_everything();
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    assert_challenged(&proxy.get("/v2/").await);
    assert_challenged(&proxy.get(LATEST).await);
    assert!(hub.asked().is_empty(), "who has presented nothing is not asked for");
    get(&proxy, "/v2/", ("ann", ANN)).await.assert_status(200);

    pull(&proxy, "team/app", &image, ("ann", ANN)).await;

    assert_eq!(hub.askers(), ["ann"]);
    let seen: Vec<_> = hub.asked().iter().filter(|it| it.path() == "/token").cloned().collect();
    let scopes: Vec<_> = seen.iter().flat_map(|it| it.query("scope")).collect();
    assert_eq!(scopes, ["repository:team/app:pull"], "and one without, for the login");
    assert_eq!(seen.len(), 2);
    assert_eq!(hub.heads("/manifests/latest").len(), 1, "for the right and for the tag");
    hub.forget();
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    hub.assert_not_asked();
    let reply = get(&proxy, LATEST, ("ann", ANN)).await;
    assert_eq!(reply.header("cache-status"), None, "how it came about is nobody's business");
    log.assert_without(&[ANN], &USERS);
}

/// "401 at once", whatever is cached.
#[tokio::test(start_paused = true)]
async fn a_wrong_password_gets_nothing_and_is_not_retried_upstream() {
    let log = Log::of_everything();
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    hub.forget();
    for _ in 0..5 {
        for path in ["/v2/", LATEST, &image.layers[0].path("team/app")] {
            assert_challenged(&get(&proxy, path, ("ann", WRONG)).await);
        }
    }
    assert_eq!(hub.asked().len(), 1, "one guess is one question");

    let near = proxy.client_of(ClientPeer::at("10.0.0.1".parse().unwrap()));
    hub.forget();
    let mut statuses = Vec::new();
    for guess in 0..15 {
        let guess = format!("{WRONG}{guess}");
        let reply = ask(&near, Method::GET, LATEST, ("ann", &guess)).await;
        statuses.push(reply.status.as_u16());
    }
    assert_eq!(statuses, [[401; 10].as_slice(), &[429; 5]].concat());
    assert_eq!(hub.asked().len(), 10, "the upstream is no place to guess at");
    let reply = ask(&near, Method::GET, LATEST, ("ann", ANN)).await;
    reply.assert_is(&image.manifest.blob);
    log.assert_without(&[ANN, WRONG], &USERS);
}

/// Content that the registry gives anonymously is given anonymously here, and nothing more.
#[tokio::test(start_paused = true)]
async fn without_a_credential_a_client_gets_what_the_registry_gives_anonymously() {
    for challenge in [ChallengePolicy::Basic, ChallengePolicy::Never] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[10]);
        let mut setup = Setup::new();
        put(&mut setup, "corp.test", &hub, &[]);
        let Auth::Bearer(mut bearer) = Auth::users(REALM, &[ann(&["*:pull"])]) else {
            unreachable!()
        };
        bearer.public = vec!["open/*:pull".to_owned()];
        hub.requires(Auth::Bearer(bearer));
        setup.access = AccessOptions { challenge, ..asking(AnonymousAccess::Pull) };
        for repository in ["open/app", "team/app"] {
            hub.put_image(repository, "latest", &image);
        }
        let proxy = setup.start().await;
        if challenge == ChallengePolicy::Basic {
            pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        }
        // skopeo without a login sends an empty user and password.
        for user in ["Basic Og==", "basic Og"].map(|header| [("authorization", header)]) {
            let reply = proxy.get_with("/v2/open/app/manifests/latest", &user).await;
            reply.assert_is(&image.manifest.blob);
        }
        proxy.get("/v2/open/app/manifests/latest").await.assert_is(&image.manifest.blob);
        let private = proxy.get(LATEST).await;
        match challenge {
            ChallengePolicy::Basic => assert_challenged(&private),
            ChallengePolicy::Never => {
                private.error(404);
                get(&proxy, LATEST, ("ann", ANN)).await.error(404);
                assert_eq!(hub.askers(), ["nobody"], "what is sent is not read");
            }
        }
    }
}
