//! The rights of clients: how they begin, and when they end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{
    ANN, BEN, GRANTS, LATEST, REALM, SECOND, WRONG, ann, assert_challenged, ben, corp, get, pull,
};
use crate::support::registry::{Asked, User, basic};
use crate::support::{Auth, Fault, Gate, Reach, When, settle};

/// Token servers issue tokens for less than was asked for; a token is no right.
#[tokio::test(start_paused = true)]
async fn a_token_alone_confirms_no_right() {
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

/// A right that the registry takes back ends here no later than `grant_ttl` after.
#[tokio::test(start_paused = true)]
async fn a_revoked_right_ends_with_grant_ttl() {
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
async fn a_revoked_right_ends_with_grant_ttl_and_not_with_its_token() {
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
async fn a_grant_outlives_an_outage_for_grant_grace_and_no_longer() {
    for reach in [Reach::Down, Reach::Dark] {
        let (hub, image, proxy) = corp(&[ann(&["team/*:pull"]), ben(&["team/*:pull"])]).await;
        pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        proxy.network.set("corp.test", reach);
        proxy.network.set("auth.corp.test", reach);
        let layer = image.layers[0].path("team/app");
        tokio::time::advance(GRANTS.ttl + SECOND).await;

        let began = Instant::now();
        get(&proxy, &layer, ("ann", ANN)).await.assert_is(&image.layers[0]);
        assert!(began.elapsed() <= 2 * SECOND, "{:?}", began.elapsed());
        let began = Instant::now();
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

/// A client can bring a limit upon itself, or ask for so much that answers are slow.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_limited_or_waits_for_an_answer_keeps_no_stale_right() {
    let limit = |status, seconds: &str| {
        Fault::Status(status, vec![("Retry-After", seconds.to_owned())], "slower")
    };
    let held = || Fault::HoldHeaders(Gate::new());
    for (asked, fault, statuses) in [
        ("/team/app/manifests/", limit(429, "60"), [429, 503]),
        ("/team/app/manifests/", limit(429, "3600"), [429, 503]),
        ("/team/app/manifests/", limit(503, "60"), [429, 503]),
        ("/team/app/manifests/", held(), [504, 504]),
        ("/token", limit(429, "60"), [429, 503]),
        ("/token", held(), [504, 504]),
    ] {
        let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
        pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        hub.breaks(When::asked(asked), fault.clone());
        tokio::time::advance(GRANTS.ttl + SECOND).await;

        let began = Instant::now();
        for _ in 0..2 {
            let reply = get(&proxy, LATEST, ("ann", ANN)).await;
            assert!(
                statuses.contains(&reply.status.as_u16()),
                "{asked} {fault:?}: {}",
                reply.text()
            );
        }
        assert!(began.elapsed() <= 11 * SECOND, "{asked} {fault:?}: {:?}", began.elapsed());

        // Nothing was confirmed, and nothing refused.
        hub.heal();
        tokio::time::advance(Duration::from_secs(3600)).await;
        get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    }
}

/// Requests that wait for the same answer do not wait one after the other when none comes.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_one_confirmation_share_that_it_failed() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    hub.breaks(When::asked("/team/app/manifests/"), Fault::HoldHeaders(Gate::new()));
    let header = basic("ann", ANN);
    let began = Instant::now();

    let mut clients: tokio::task::JoinSet<_> = (0..20)
        .map(|_| proxy.client.get_with(LATEST, &[("authorization", header.as_str())]))
        .collect();
    while let Some(reply) = clients.join_next().await {
        reply.unwrap().error(504);
    }

    assert!(began.elapsed() <= 6 * SECOND, "{:?}", began.elapsed());
    hub.heal();
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
}

/// A registry that gives a reason is well, and says no: the grace of an outage is not for that.
#[tokio::test(start_paused = true)]
async fn a_right_ends_with_a_rejection_that_gives_a_reason() {
    let reason = r#"{"errors":[{"code":"DENIED","message":"call us"}]}"#;
    for (status, body, is_served) in [
        (402, reason, false),
        (410, reason, false),
        (451, reason, false),
        (402, "<html>", true),
        (500, reason, true),
    ] {
        let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
        pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        tokio::time::advance(GRANTS.ttl + SECOND).await;
        hub.breaks(When::asked("/team/app/manifests/"), Fault::Status(status, Vec::new(), body));

        for _ in 0..2 {
            let reply = get(&proxy, LATEST, ("ann", ANN)).await;
            if is_served {
                reply.assert_is(&image.manifest.blob);
            } else {
                assert_eq!((reply.status.as_u16(), &*reply.text()), (status, reason));
            }
        }
    }
}

/// The login, the token and the question for a right are limited like all that a pull asks.
#[tokio::test(start_paused = true)]
async fn a_client_that_logs_in_pulls_though_a_question_is_limited_once() {
    for (status, seconds) in [(429, "1"), (429, "3"), (503, "1")] {
        for limited in ["/token", "/v2/", "/manifests/latest", "/blobs/"] {
            let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
            let headers = vec![("Retry-After", seconds.to_owned())];
            hub.breaks(When::asked(limited).nth(1), Fault::Status(status, headers, "slower"));

            let login = get(&proxy, "/v2/", ("ann", ANN)).await;

            assert_eq!(login.status, 200, "{status} {seconds} {limited}: {}", login.text());
            pull(&proxy, "team/app", &image, ("ann", ANN)).await;
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
    let is_fetch = |it: &&Arc<Asked>| it.method == "GET" && it.path() == path;
    let all = hub.asked();
    // A request that arrives with the last byte may have to ask whether the blob is the
    // repository's.
    let before = all.iter().take_while(|it| !is_fetch(it)).filter(|it| it.method == "HEAD");
    assert_eq!(before.count(), 2, "one refused without a token, and one");
    assert_eq!(hub.gets("/token").len(), 1);
    assert_eq!(hub.gets(&image.layers[0].digest).len(), 1);
}

/// Lists and referrers are the first that some clients ask for.
#[tokio::test(start_paused = true)]
async fn tags_are_listed_for_clients_that_may_pull() {
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
