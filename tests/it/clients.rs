//! Clients that ask the registry with credentials of their own: what is cached is theirs only if the
//! registry says so.

use std::time::Duration;

use http::Method;
use larder::access::{Anonymous, Challenge, Htpasswd, Options, Policy, Users};
use larder::http::Peer;
use larder::registry::{AskedAs, GrantPolicy};

use crate::support::registry::{User, basic};
use crate::support::{
    Auth, Blob, Client, Fault, Gate, Image, Log, Proxy, Reach, Reply, ScriptedRegistry, Setup,
    TAG_TTL, When, settle,
};

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

/// Where clients log in.
fn asking(anonymous: Anonymous) -> Options {
    Options {
        challenge: Challenge::Basic,
        policy: Policy { anonymous, rules: Vec::new() },
        ..Options::default()
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
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[200_000, 10]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &hub, users);
    setup.access = asking(Anonymous::None);
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

/// What of an answer could tell one from another: all but the id that each has for itself.
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

const LATEST: &str = "/v2/team/app/manifests/latest";

#[tokio::test(start_paused = true)]
async fn who_logs_in_pulls_with_the_own_credential_and_then_from_the_cache() {
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
    assert_eq!(hub.heads("/manifests/latest").len(), 2, "the right, and then the tag");
    hub.forget();
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    hub.assert_not_asked();
    let reply = get(&proxy, LATEST, ("ann", ANN)).await;
    assert_eq!(reply.header("cache-status"), None, "how it came about is nobody's business");
    log.assert_without(&[ANN], &USERS);
}

/// A cache that knows more than its clients may know is asked what it knows.
#[tokio::test(start_paused = true)]
async fn what_is_not_theirs_looks_as_what_does_not_exist_by_every_way() {
    let log = Log::of_everything();
    let rights = ben(&["ben/*:pull", "no/*:pull"]);
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"]), rights]).await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    get(&proxy, "/v2/team/app/tags/list", ("ann", ANN)).await.assert_status(200);
    hub.forget();
    let (manifest, layer) = (image.manifest.digest(), &image.layers[0].digest);
    let ways = [
        (Method::GET, "manifests/latest".to_owned(), None),
        (Method::HEAD, "manifests/latest".to_owned(), None),
        (Method::GET, format!("manifests/{manifest}"), None),
        (Method::HEAD, format!("manifests/{manifest}"), None),
        (Method::GET, format!("blobs/{layer}"), None),
        (Method::HEAD, format!("blobs/{layer}"), None),
        (Method::GET, format!("blobs/{layer}"), Some(("range", "bytes=0-0"))),
        (Method::GET, format!("blobs/{layer}"), Some(("range", "bytes=100-,0-5"))),
        (Method::GET, format!("blobs/{layer}"), Some(("if-none-match", "*"))),
        (Method::GET, format!("blobs/{manifest}"), None),
        (Method::GET, format!("referrers/{manifest}"), None),
        (Method::GET, "tags/list".to_owned(), None),
        (Method::GET, "tags/list?n=1&last=a".to_owned(), None),
        (Method::GET, "tags/list?n=0".to_owned(), None),
    ];
    for door in ["/v2/", "/v2/corp.test/", "/corp.test/v2/"] {
        for (method, what, header) in &ways {
            let more: Vec<_> = header.iter().copied().collect();
            let (warm, absent) =
                (format!("{door}team/app/{what}"), format!("{door}no/such/{what}"));
            let user = ("ben", BEN);
            let one = ask_with(&proxy.client, method.clone(), &warm, user, &more).await;
            let other = ask_with(&proxy.client, method.clone(), &absent, user, &more).await;
            assert_eq!(one.status, 404, "{method} {warm} {}", one.text());
            assert_eq!(shown(&one), shown(&other), "{method} {warm}");
        }
    }
    assert_eq!(hub.askers(), ["ben"], "and nobody else's credential was used for it");
    log.assert_without(&[ANN, BEN], &USERS);
}

/// Who may read elsewhere sees no difference either between what is not there and what is not theirs.
#[tokio::test(start_paused = true)]
async fn what_is_not_theirs_looks_as_what_their_own_repository_has_not() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"]), ben(&["ben/*:pull"])]).await;
    hub.put_image("ben/app", "latest", &image);
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "ben/app", &image, ("ben", BEN)).await;
    let foreign = Blob::random(9, 10).digest;
    for (theirs, own) in [
        ("manifests/latest".to_owned(), "manifests/none".to_owned()),
        (format!("blobs/{}", image.layers[0].digest), format!("blobs/{foreign}")),
    ] {
        let one = get(&proxy, &format!("/v2/team/app/{theirs}"), ("ben", BEN)).await;
        let other = get(&proxy, &format!("/v2/ben/app/{own}"), ("ben", BEN)).await;
        assert_eq!(shown(&one), shown(&other), "{theirs}");
    }
}

/// "401 at once", whatever is cached.
#[tokio::test(start_paused = true)]
async fn a_wrong_password_gets_nothing_and_is_not_tried_again_and_again() {
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

    let near = proxy.client_of(Peer::at("10.0.0.1".parse().unwrap()));
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

/// Token servers issue tokens for less than was asked for; a token is no right.
#[tokio::test(start_paused = true)]
async fn a_token_confirms_nothing_and_a_server_that_gives_none_says_which_it_is() {
    for is_strict in [false, true] {
        let (hub, image, proxy) = corp(&[ann(&["team/*:pull"]), ben(&["ben/*:pull"])]).await;
        let Auth::Bearer(mut bearer) =
            Auth::users(REALM, &[ann(&["team/*:pull"]), ben(&["ben/*:pull"])])
        else {
            unreachable!()
        };
        bearer.is_strict = is_strict;
        hub.requires(Auth::Bearer(bearer));
        pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        hub.forget();

        get(&proxy, LATEST, ("ben", BEN)).await.error(404);
        get(&proxy, &image.layers[0].path("team/app"), ("ben", BEN)).await.error(404);
        assert_challenged(&get(&proxy, LATEST, ("ben", WRONG)).await);

        let tokens = hub.gets("/token");
        assert!(tokens.iter().any(|asked| asked.status() == if is_strict { 403 } else { 200 }));
    }
}

/// What the registry takes back is taken back here, no later than `grant_ttl` after.
#[tokio::test(start_paused = true)]
async fn a_right_that_is_revoked_ends_with_its_ttl() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    hub.requires(Auth::users(REALM, &[ann(&["other/*:pull"])]));
    hub.forget();
    let layer = image.layers[0].path("team/app");

    tokio::time::advance(GRANTS.ttl.saturating_sub(5 * SECOND)).await;
    get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);
    hub.assert_not_asked();
    tokio::time::advance(6 * SECOND).await;
    get(&proxy, &layer, ("ann", ANN)).await.error(404);
    get(&proxy, LATEST, ("ann", ANN)).await.error(404);

    hub.requires(Auth::users(REALM, &[ann(&["team/*:pull"])]));
    tokio::time::advance(6 * SECOND).await;
    get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);

    // A user who is deleted is refused, not served stale.
    hub.requires(Auth::users(REALM, &[ben(&["team/*:pull"])]));
    tokio::time::advance(GRANTS.ttl).await;
    assert_challenged(&get(&proxy, &layer, ("ann", ANN)).await);
}

/// Tokens live on after the right that they were issued for: here for an hour. A right that was
/// confirmed with one of those again and again would have no end before theirs.
#[tokio::test(start_paused = true)]
async fn a_right_that_is_revoked_ends_with_its_ttl_and_not_with_its_token() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    let issues_to = |user: User| {
        let Auth::Bearer(mut bearer) = Auth::users(REALM, &[user]) else { unreachable!() };
        bearer.expires_in = 3600;
        Auth::Bearer(bearer)
    };
    hub.requires(issues_to(ann(&["team/*:pull"])));
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    hub.requires_from_now_on(issues_to(ann(&["other/*:pull"])));
    let layer = image.layers[0].path("team/app");

    tokio::time::advance(GRANTS.ttl.saturating_sub(SECOND)).await;
    get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);
    tokio::time::advance(2 * SECOND).await;
    for path in [&layer, LATEST, "/v2/team/app/tags/list"] {
        get(&proxy, path, ("ann", ANN)).await.error(404);
    }
    // And so does a credential that is taken back altogether.
    hub.requires_from_now_on(issues_to(ann(&["team/*:pull"])));
    tokio::time::advance(6 * SECOND).await;
    get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);
    hub.requires_from_now_on(issues_to(ben(&["team/*:pull"])));
    tokio::time::advance(GRANTS.ttl).await;
    assert_challenged(&get(&proxy, &layer, ("ann", ANN)).await);
}

/// An outage of the registry is no reason to stop those who could read a moment before.
#[tokio::test(start_paused = true)]
async fn a_right_outlives_the_registry_for_its_grace_and_no_longer() {
    for reach in [Reach::Down, Reach::Dark] {
        let (hub, image, proxy) = corp(&[ann(&["team/*:pull"]), ben(&["team/*:pull"])]).await;
        pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        proxy.network.set("corp.test", reach);
        proxy.network.set("auth.corp.test", reach);
        let layer = image.layers[0].path("team/app");
        tokio::time::advance(GRANTS.ttl + SECOND).await;

        let began = tokio::time::Instant::now();
        get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);
        assert!(began.elapsed() <= 2 * SECOND, "{:?}", began.elapsed());
        let began = tokio::time::Instant::now();
        get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);
        assert!(began.elapsed() < SECOND, "nobody waits again and again: {:?}", began.elapsed());
        let other = get(&proxy, &layer, ("ben", BEN)).await;
        assert!(other.status.is_server_error(), "{}", other.status);

        tokio::time::advance(GRANTS.grace).await;
        let late = get(&proxy, &layer, ("ann", ANN)).await;
        assert!(late.status.is_server_error(), "{}", late.status);
        proxy.network.set("corp.test", Reach::Up);
        proxy.network.set("auth.corp.test", Reach::Up);
        tokio::time::advance(Duration::from_secs(120)).await;
        get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);
        drop(hub);
    }
}

/// One client that loses its right must not take the tag from others, nor the question.
#[tokio::test(start_paused = true)]
async fn what_one_client_is_refused_is_no_answer_for_another() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    tokio::time::advance(TAG_TTL + SECOND).await;
    hub.requires(Auth::users(REALM, &both[1..]));
    let gate = Gate::new();
    hub.breaks(When::asked("/token"), Fault::HoldHeaders(gate.clone()));

    let of_ann = tokio::spawn({
        let client = proxy.client.clone();
        async move { ask(&client, Method::GET, LATEST, ("ann", ANN)).await }
    });
    gate.reached().await;
    let of_ben = tokio::spawn({
        let client = proxy.client.clone();
        async move { ask(&client, Method::GET, LATEST, ("ben", BEN)).await }
    });
    settle().await;
    hub.heal();
    gate.open();

    assert_challenged(&of_ann.await.unwrap());
    of_ben.await.unwrap().assert_is(&image.manifest.blob);
    // She had been let in for a while more, but the registry has said no.
    assert_challenged(&get(&proxy, &image.layers[0].path("team/app"), ("ann", ANN)).await);
}

/// That there is nothing for one client says nothing to another.
#[tokio::test(start_paused = true)]
async fn an_absence_is_remembered_for_nobody_else() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    let path = "/v2/team/app/manifests/v2";
    get(&proxy, path, ("ann", ANN)).await.error(404);
    hub.put_image("team/app", "v2", &image);
    get(&proxy, path, ("ben", BEN)).await.assert_is(&image.manifest.blob);
}

/// A fill asks with the credentials of those who read along, and of nobody who has left.
#[tokio::test(start_paused = true)]
async fn a_fill_goes_on_with_a_reader_who_is_there() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    let layer = Blob::random(7, 1 << 20);
    hub.put_blob("team/app", &layer);
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::HoldAt(500_000, gate.clone()));
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::CutAt(500_000));
    hub.forget();

    let client = proxy.client.clone();
    let path = layer.path("team/app");
    let of_ann = {
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move { ask(&client, Method::GET, &path, ("ann", ANN)).await })
    };
    gate.reached().await;
    let of_ben = tokio::spawn(async move { ask(&client, Method::GET, &path, ("ben", BEN)).await });
    settle().await;
    of_ann.abort();
    settle().await;
    gate.open();

    of_ben.await.unwrap().assert_is(&layer);
    let gets = hub.gets(&layer.digest);
    let askers: Vec<_> = gets.iter().filter_map(|asked| hub.asker(asked)).collect();
    assert_eq!(askers, ["ann", "ben"], "she began it, and he went on");
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_all_have_left_asks_no_more_and_is_gone_on_with_later() {
    let both = [ann(&["team/*:pull"]), ben(&["team/*:pull"])];
    let (hub, image, proxy) = corp(&both).await;
    let layer = Blob::random(7, 1 << 20);
    hub.put_blob("team/app", &layer);
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    let gate = Gate::new();
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::HoldAt(500_000, gate.clone()));
    hub.breaks(When::asked(&layer.digest).get().first(1), Fault::CutAt(500_000));
    hub.forget();
    let path = layer.path("team/app");
    let of_ann = {
        let (client, path) = (proxy.client.clone(), path.clone());
        tokio::spawn(async move { ask(&client, Method::GET, &path, ("ann", ANN)).await })
    };
    gate.reached().await;
    of_ann.abort();
    settle().await;
    gate.open();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(hub.gets(&layer.digest).len(), 1, "her credential went with her");
    assert!(!proxy.fills().is_empty(), "what came stays");

    get(&proxy, &path, ("ben", BEN)).await.assert_is(&layer);
    let gets = hub.gets(&layer.digest);
    assert_eq!(hub.asker(&gets[1]).as_deref(), Some("ben"));
    assert!(gets[1].header("range").is_some(), "and what is there is not fetched again");
}

/// The password for one registry is nobody else's business.
#[tokio::test(start_paused = true)]
async fn two_private_registries_never_see_each_others_credentials() {
    let log = Log::of_everything();
    let (one, other) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[10]);
    let mut setup = Setup::new();
    put(&mut setup, "one.test", &one, &[ann(&["team/*:pull"])]);
    setup.settings.registries[0].hosts = vec!["one.larder".parse().unwrap()];
    put(&mut setup, "other.test", &other, &[ben(&["team/*:pull"])]);
    setup.settings.registries[1].hosts = vec!["other.larder".parse().unwrap()];
    setup.access = asking(Anonymous::Pull);
    one.put_image("team/app", "latest", &image);
    other.put_image("team/app", "latest", &image);
    let proxy = setup.start().await;
    let at = async |host: &str, path: &str, user: (&str, &str)| {
        ask_with(&proxy.client, Method::GET, path, user, &[("host", host)]).await
    };
    at("one.larder", LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    at("other.larder", LATEST, ("ben", BEN)).await.assert_is(&image.manifest.blob);
    assert_challenged(&at("one.larder", LATEST, ("ben", BEN)).await);
    assert_challenged(&at("one.larder", "/v2/", ("ben", BEN)).await);
    for elsewhere in
        [format!("{LATEST}?ns=other.test"), "/other.test/v2/team/app/manifests/latest".to_owned()]
    {
        at("one.larder", &elsewhere, ("ann", ANN)).await.error(404);
        at("one.larder", &elsewhere, ("ben", BEN)).await.error(404);
    }
    for path in ["/v2/one.test/team/app/manifests/latest", "/one.test/v2/team/app/manifests/latest"]
    {
        at("larder.test", path, ("ann", ANN)).await.error(404);
    }
    let is_of = |hub: &ScriptedRegistry, secret: &str| {
        let shown = |it: &std::sync::Arc<crate::support::registry::Asked>| format!("{it:?}");
        let all: String = hub.asked().iter().map(shown).collect();
        all.contains(&basic(if secret == ANN { "ann" } else { "ben" }, secret))
    };
    assert!(is_of(&one, ANN) && is_of(&other, BEN));
    assert!(!is_of(&other, ANN), "the other one has seen hers");
    log.assert_without(&[ANN, BEN], &USERS);
}

/// A user of Larder's own and a user of the registry's meet at one host.
#[tokio::test(start_paused = true)]
async fn a_password_for_larder_stays_here_and_one_for_the_registry_is_no_login_here() {
    let log = Log::of_everything();
    let (corp, hub) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[10]);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &corp, &[ann(&["team/*:pull"])]);
    setup.registry("hub.test", &hub);
    corp.put_image("team/app", "latest", &image);
    hub.put_image("team/app", "latest", &image);
    let line = format!("local:{}\n", bcrypt::hash_with_result(LOCAL, 4).unwrap());
    setup.access = Options {
        htpasswd: Some(Htpasswd::new(Users::parse(line.as_bytes()).unwrap())),
        ..asking(Anonymous::None)
    };
    let proxy = setup.start().await;
    let of_hub = "/v2/hub.test/team/app/manifests/latest";

    get(&proxy, of_hub, ("local", LOCAL)).await.assert_is(&image.manifest.blob);
    get(&proxy, "/v2/", ("local", LOCAL)).await.assert_status(200);
    assert_challenged(&get(&proxy, of_hub, ("local", WRONG)).await);
    assert_challenged(&get(&proxy, "/v2/", ("local", WRONG)).await);
    get(&proxy, LATEST, ("local", LOCAL)).await.error(404);
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    assert_challenged(&get(&proxy, of_hub, ("ann", ANN)).await);

    assert!(hub.asked().iter().all(|asked| !asked.has_credential()));
    assert_eq!(corp.askers(), ["ann", "nobody"], "who is known here is nobody there");
    log.assert_without(&[ANN, LOCAL, WRONG], &USERS);
}

/// What the registry gives to everybody it gives to everybody here, and nothing more.
#[tokio::test(start_paused = true)]
async fn without_a_credential_there_is_what_the_registry_gives_without_one() {
    for challenge in [Challenge::Basic, Challenge::Never] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[10]);
        let mut setup = Setup::new();
        put(&mut setup, "corp.test", &hub, &[]);
        let Auth::Bearer(mut bearer) = Auth::users(REALM, &[ann(&["*:pull"])]) else {
            unreachable!()
        };
        bearer.public = vec!["open/*:pull".to_owned()];
        hub.requires(Auth::Bearer(bearer));
        setup.access = Options { challenge, ..asking(Anonymous::Pull) };
        for repository in ["open/app", "team/app"] {
            hub.put_image(repository, "latest", &image);
        }
        let proxy = setup.start().await;
        if challenge == Challenge::Basic {
            pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        }
        proxy.get("/v2/open/app/manifests/latest").await.assert_is(&image.manifest.blob);
        let private = proxy.get(LATEST).await;
        match challenge {
            Challenge::Basic => assert_challenged(&private),
            Challenge::Never => {
                private.error(404);
                get(&proxy, LATEST, ("ann", ANN)).await.error(404);
                assert_eq!(hub.askers(), ["nobody"], "what is sent is not read");
            }
        }
    }
}

/// A rollout is not a storm of questions whether it may be one.
#[tokio::test(start_paused = true)]
async fn many_requests_of_one_client_confirm_its_right_once() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    let path = image.layers[0].path("team/app");
    let gate = Gate::new();
    hub.breaks(When::asked("/token"), Fault::HoldHeaders(gate.clone()));
    let header = basic("ann", ANN);
    let mut clients: tokio::task::JoinSet<_> = (0..20)
        .map(|_| proxy.client.get_with(&path, &[("authorization", header.as_str())]))
        .collect();
    gate.reached().await;
    settle().await;
    gate.open();
    while let Some(reply) = clients.join_next().await {
        reply.unwrap().assert_is(&image.layers[0]);
    }
    assert_eq!(hub.heads(&image.layers[0].digest).len(), 2, "one refused without a token, and one");
    assert_eq!(hub.gets("/token").len(), 1);
    assert_eq!(hub.gets(&image.layers[0].digest).len(), 1);
}

/// Lists and referrers are the first that some clients ask for.
#[tokio::test(start_paused = true)]
async fn a_list_is_given_to_who_may_pull() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    let reply = get(&proxy, "/v2/team/app/tags/list", ("ann", ANN)).await;
    assert_eq!(
        (reply.status.as_u16(), &*reply.text()),
        (200, r#"{"name":"team/app","tags":["latest"]}"#)
    );
    assert_eq!(hub.heads("/manifests/latest").len(), 1, "the first tag is asked after");
    let other = "/v2/team/other/tags/list";
    get(&proxy, other, ("ann", ANN)).await.error(404);
    let path = format!("/v2/team/app/referrers/{}", image.manifest.digest());
    get(&proxy, &path, ("ann", ANN)).await.error(404);
}

/// The registry decides about a push as it does about a pull, by the client's own credential.
#[tokio::test(start_paused = true)]
async fn a_push_is_made_with_the_own_credential() {
    let log = Log::of_everything();
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    let users = [ann(&["team/*:pull,push"]), ben(&["team/*:pull"])];
    put(&mut setup, "corp.test", &hub, &users);
    setup.settings.registries[0].rules.push = true;
    setup.access = asking(Anonymous::None);
    let proxy = setup.start().await;
    pull(&proxy, "team/app", &image, ("ben", BEN)).await;
    hub.forget();
    let uploads = "/v2/team/app/blobs/uploads/";

    let begun = ask(&proxy.client, Method::POST, uploads, ("ann", ANN)).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    assert_eq!(hub.askers(), ["ann"]);
    assert_challenged(&proxy.call(Method::POST, uploads).await);
    let refused = ask(&proxy.client, Method::POST, uploads, ("ben", BEN)).await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let location = begun.header("location").unwrap();
    let stolen = ask(&proxy.client, Method::DELETE, location, ("ben", BEN)).await;
    assert_eq!(stolen.status, 404, "another's upload is none");
    log.assert_without(&[ANN, BEN], &USERS);
}

/// What is read out of a grace period stays here; a mount would give it away for good.
#[tokio::test(start_paused = true)]
async fn a_right_that_only_its_grace_holds_up_is_no_source_of_a_mount() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000, 2000]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &hub, &[ann(&["team/*:pull,push"]), ben(&["team/b:pull,push"])]);
    setup.settings.registries[0].rules.push = true;
    setup.access = asking(Anonymous::None);
    let proxy = setup.start().await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    let mounted = async |number: usize, user, from: &str| {
        let digest = &image.layers[number].digest;
        let path = format!("/v2/team/b/blobs/uploads/?mount={digest}{from}");
        let reply = ask(&proxy.client, Method::POST, &path, user).await;
        let tried = hub.changes("POST", "from=team%2Fapp").len();
        hub.forget();
        (reply.status.as_u16(), tried)
    };

    assert_eq!(mounted(0, ("ann", ANN), "").await, (201, 1));
    for from in ["", "&from=team/app"] {
        assert_eq!(mounted(1, ("ben", BEN), from).await, (202, 0), "what he may not read");
    }
    tokio::time::advance(GRANTS.ttl + SECOND).await;
    hub.breaks(When::asked("").head(), Fault::status(500));
    for from in ["", "&from=team/app"] {
        assert_eq!(mounted(1, ("ann", ANN), from).await, (202, 0));
    }
    get(&proxy, &image.layers[1].path("team/app"), ("ann", ANN)).await.assert_is(&image.layers[1]);
}
