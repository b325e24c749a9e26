//! The last of a rate limit is left to misses, and several logins take turns.

use std::time::Duration;

use larder::upstream::{LoginOptions, ProxyCredential};

use crate::support::registry::User;
use crate::support::{Auth, Fault, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL, When};

const WINDOW: Duration = Duration::from_secs(21_600);
const REALM: &str = "http://auth.docker.io/token";

/// Docker Hub's repositories, of which each has one tag.
fn hub() -> (ScriptedRegistry, Image) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    for number in 0..8 {
        hub.put_image(&repository(number), "latest", &image);
    }
    (hub, image)
}

fn repository(number: usize) -> String {
    format!("team/app{number}")
}

fn latest(number: usize) -> String {
    format!("/v2/{}/manifests/latest", repository(number))
}

/// The hub states from now on that so many of 100 pulls are left.
fn leaves(hub: &ScriptedRegistry, remaining: u64) {
    leaves_to(hub, "", remaining);
}

/// The same to those who show this token.
fn leaves_to(hub: &ScriptedRegistry, token: &str, remaining: u64) {
    hub.heal();
    for (name, value) in [("ratelimit-limit", 100), ("ratelimit-remaining", remaining)] {
        let states = Fault::Header(name, format!("{value};w=21600"));
        hub.breaks(When::asked("/manifests/").showing(token), states);
    }
}

/// Gets a cached tag, and returns whether the upstream was asked.
async fn is_checked(hub: &ScriptedRegistry, proxy: &Proxy, image: &Image, number: usize) -> bool {
    hub.forget();
    let reply = proxy.get(&latest(number)).await;
    reply.assert_is(&image.manifest.blob);
    let is_checked = !hub.asked().is_empty();
    let is_of_budget = reply.decision().get("detail") == Some("upstream-budget");
    assert_eq!(is_of_budget, !is_checked, "{:?}", reply.header("cache-status"));
    assert!(hub.gets("/manifests/").is_empty(), "a check costs no pull");
    is_checked
}

#[tokio::test(start_paused = true)]
async fn the_last_of_a_budget_is_left_to_misses() {
    let (hub, image) = hub();
    let proxy = Proxy::before(&hub).await;
    for number in 0..4 {
        proxy.get(&latest(number)).await.assert_is(&image.manifest.blob);
    }
    proxy.get("/v2/team/app0/manifests/absent").await.error(404);
    tokio::time::advance(TAG_TTL * 2).await;
    leaves(&hub, 10);
    proxy.get(&latest(4)).await.assert_is(&image.manifest.blob);

    for number in 0..4 {
        assert!(!is_checked(&hub, &proxy, &image, number).await, "{number}");
    }
    let new = Image::random(2, &[10]);
    hub.put_image("team/new", "latest", &new);
    hub.forget();
    proxy.get("/v2/team/new/manifests/latest").await.assert_is(&new.manifest.blob);
    assert_eq!(hub.gets("/manifests/").len(), 1, "a miss goes on");
    hub.forget();
    proxy.get("/v2/team/app0/manifests/absent").await.error(404);
    assert_eq!(hub.heads("/manifests/absent").len(), 1, "nothing is cached of an absent tag");

    tokio::time::advance(WINDOW).await;
    leaves(&hub, 100);
    for number in 0..4 {
        assert!(is_checked(&hub, &proxy, &image, number).await, "{number}: the window is over");
    }
}

#[tokio::test(start_paused = true)]
async fn the_less_is_left_the_more_rarely_a_tag_is_checked() {
    // The wait between two checks of a tag, in minutes.
    for (remaining, wait) in [(100, 2), (26, 2), (20, 120), (15, 240)] {
        let (hub, image) = hub();
        leaves(&hub, remaining);
        let proxy = Proxy::before(&hub).await;
        proxy.get(&latest(0)).await.assert_is(&image.manifest.blob);
        tokio::time::advance(Duration::from_secs(wait * 60 - 30)).await;
        let is_ample = remaining > 25;
        assert_eq!(is_checked(&hub, &proxy, &image, 0).await, is_ample, "{remaining}");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert!(is_checked(&hub, &proxy, &image, 0).await, "{remaining}");
    }
}

/// A mirror with two logins, `one` and `two`, and the tokens of the first two pulls.
async fn with_two_logins() -> (ScriptedRegistry, Image, Proxy) {
    let (hub, image) = hub();
    let users = ["one", "two"].map(|name| User::new(name, name, &["*:pull"]));
    hub.requires(Auth::users(REALM, &users));
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, hub.clone());
    setup.network.put("cdn.example", 80, hub.clone());
    let credential =
        |name: &str| ProxyCredential::Basic { username: name.to_owned(), password: name.into() };
    let upstream = &mut setup.registry("docker.io", &hub).upstream;
    upstream.credential = credential("one");
    upstream.further_logins =
        vec![LoginOptions { credential: credential("two"), password_file: None }];
    let proxy = setup.start().await;
    (hub, image, proxy)
}

/// The logins by which a miss was asked for, in their order.
async fn miss(hub: &ScriptedRegistry, proxy: &Proxy, image: &Image, number: usize) -> Vec<String> {
    hub.forget();
    proxy.get(&latest(number)).await.assert_is(&image.manifest.blob);
    let asked = hub.asked();
    let of_registry = asked.iter().filter(|asked| asked.path() != "/token");
    let mut askers: Vec<_> = of_registry.filter_map(|asked| hub.asker(asked)).collect();
    askers.dedup();
    askers
}

fn too_many() -> Fault {
    Fault::Status(429, vec![("Retry-After", "600".to_owned())], "toomanyrequests")
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_limited_leaves_the_turn_to_the_next() {
    let (hub, image, proxy) = with_two_logins().await;
    assert_eq!(miss(&hub, &proxy, &image, 0).await, ["one"]);
    // Each pull has a token of its own, for its repository.
    hub.breaks(When::asked("/manifests/").showing("canary-of-token-2"), too_many());
    assert_eq!(miss(&hub, &proxy, &image, 1).await, ["one", "two"]);
    assert_eq!(miss(&hub, &proxy, &image, 2).await, ["two"], "the limit is remembered");

    hub.breaks(When::asked("/manifests/"), too_many());
    proxy.get(&latest(3)).await.error(429);
    tokio::time::advance(TAG_TTL * 2).await;
    hub.forget();
    let stale = proxy.get(&latest(0)).await;
    stale.assert_is(&image.manifest.blob);
    assert_eq!(stale.decision().get("detail"), Some("upstream-throttled"));
    let asked = hub.asked();
    let spent = asked.iter().filter(|asked| asked.path() != "/token").count();
    assert!(spent <= 2, "{asked:?}");

    hub.heal();
    tokio::time::advance(Duration::from_secs(900)).await;
    assert_eq!(miss(&hub, &proxy, &image, 4).await, ["one"], "its limit is over");
}

/// Storage is shown no login, so that another one would be limited as well.
#[tokio::test(start_paused = true)]
async fn a_limit_of_storage_is_no_limit_of_a_login() {
    let (hub, image, proxy) = with_two_logins().await;
    hub.redirect_blobs_to("http://cdn.example");
    assert_eq!(miss(&hub, &proxy, &image, 0).await, ["one"]);
    hub.breaks(When::asked("/cdn/"), too_many());
    hub.forget();

    let [layer, config] = [&image.layers[0], &image.config];
    let (_, message) = proxy.get(&layer.path(&repository(0))).await.error(429);
    assert!(message.contains("cdn.example"), "{message}");
    assert_eq!((hub.gets("/cdn/").len(), hub.askers()), (1, vec!["one".to_owned()]));
    let refused = proxy.get(&config.path(&repository(0))).await;
    assert!(refused.header("retry-after").is_some());
    assert_eq!(hub.gets("/cdn/").len(), 1, "the limit is remembered");
    let held =
        proxy.metrics().await.value("larder_upstream_backoffs", &[("registry", "docker.io")]);
    assert_eq!(held, 1, "one limit, whatever the number of logins");
    assert_eq!(miss(&hub, &proxy, &image, 1).await, ["one"], "the turns go on");

    hub.heal();
    tokio::time::advance(Duration::from_secs(601)).await;
    proxy.get(&layer.path(&repository(0))).await.assert_is(layer);
    assert_eq!(hub.askers(), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn the_login_with_the_larger_budget_asks() {
    let (hub, image, proxy) = with_two_logins().await;
    leaves_to(&hub, "canary-of-token-1", 0);
    assert_eq!(miss(&hub, &proxy, &image, 0).await, ["one", "two"], "the HEAD says so");
    leaves(&hub, 50);
    assert_eq!(miss(&hub, &proxy, &image, 1).await, ["two"], "without a 429");
    tokio::time::advance(TAG_TTL * 2).await;
    assert!(is_checked(&hub, &proxy, &image, 0).await, "the second has enough for checks");
    leaves(&hub, 5);
    assert_eq!(miss(&hub, &proxy, &image, 2).await, ["two"]);
    tokio::time::advance(TAG_TTL * 2).await;
    assert!(!is_checked(&hub, &proxy, &image, 0).await, "neither has");
    tokio::time::advance(WINDOW).await;
    assert_eq!(miss(&hub, &proxy, &image, 3).await, ["one"], "the window is over");
}

/// The allowance that was heard last is of one login. Storage has limits of its own.
#[tokio::test(start_paused = true)]
async fn what_is_left_is_a_metric_of_each_login() {
    let (hub, image, proxy) = with_two_logins().await;
    leaves_to(&hub, "canary-of-token-1", 0);
    assert_eq!(miss(&hub, &proxy, &image, 0).await, ["one", "two"], "the HEAD says so");
    leaves(&hub, 50);
    assert_eq!(miss(&hub, &proxy, &image, 1).await, ["two"]);
    hub.redirect_blobs_to("http://cdn.example");
    hub.breaks(When::asked("/cdn/"), Fault::Header("ratelimit-remaining", "7".to_owned()));
    let layer = &image.layers[0];
    proxy.get(&layer.path(&repository(0))).await.assert_is(layer);

    let metrics = proxy.metrics().await;
    for (part, want) in [("limit", [100, 100]), ("remaining", [0, 50])] {
        let left = ["1", "2"].map(|login| {
            let labels = [("registry", "docker.io"), ("login", login)];
            metrics.value(&format!("larder_upstream_ratelimit_{part}"), &labels)
        });
        assert_eq!(left, want, "{part}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_leaves_the_turn_and_is_shown() {
    let (hub, image, proxy) = with_two_logins().await;
    hub.requires(Auth::users(REALM, &[User::new("two", "two", &["*:pull"])]));
    assert_eq!(miss(&hub, &proxy, &image, 0).await, ["two"]);
    let labels = [("registry", "docker.io"), ("reason", "credential-refused")];
    assert_eq!(proxy.metrics().await.value("larder_upstream_troubles", &labels), 1);
}
