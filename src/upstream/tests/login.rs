//! Tokens and passwords: when they are asked for, where they go, and what a refusal means.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::sites::{Make, Script, Step, reply};
use super::*;

const BEARER: &str = r#"Bearer realm="http://auth.example.com/token?x=y",service="up",scope="repository:other/secret:pull,push,*""#;

/// A registry that wants the token `t1`, `t2`, … that its token server issued last.
fn registry(network: &ScriptedSites, issued: &Arc<AtomicUsize>) {
    let valid = Arc::clone(issued);
    network.serve(UP, move |seen| {
        let want = format!("Bearer t{}", valid.load(Ordering::SeqCst));
        match seen.header("authorization") {
            Some(got) if got == want => reply(200, &[], "layer"),
            _ => challenge(BEARER),
        }
    });
    let issued = Arc::clone(issued);
    network.serve(AUTH, move |_| {
        let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
        let mut script = vec![Step::Wait(Duration::from_secs(1))];
        script.extend(token(&format!("t{number}")));
        script
    });
}

pub(super) fn challenge(text: &str) -> Script {
    reply(401, &[("WWW-Authenticate", text)], "")
}

pub(super) fn token(text: &str) -> Script {
    reply(200, &[], &format!(r#"{{"token":"{text}","expires_in":300}}"#))
}

#[tokio::test(start_paused = true)]
async fn a_hundred_askers_share_one_token() {
    let network = world();
    registry(&network, &Arc::default());
    let upstream = upstream(&network, &options());

    let pulls: Vec<_> = (0..100)
        .map(|_| {
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move { pull(&upstream).await })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.unwrap().unwrap(), "layer");
    }

    assert_eq!(network.count("auth.example.com"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_known_challenge_is_met_in_advance_and_the_token_is_kept_until_it_ages() {
    let network = world();
    registry(&network, &Arc::default());
    let upstream = upstream(&network, &options());

    pull(&upstream).await.unwrap();
    assert_eq!((network.count("up.example.com"), network.count("auth.example.com")), (2, 1));
    tokio::time::sleep(Duration::from_secs(230)).await;
    pull(&upstream).await.unwrap();
    assert_eq!((network.count("up.example.com"), network.count("auth.example.com")), (3, 1));
    tokio::time::sleep(Duration::from_secs(20)).await;
    pull(&upstream).await.unwrap();
    assert_eq!((network.count("up.example.com"), network.count("auth.example.com")), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn the_token_is_asked_for_our_repository_whatever_the_challenge_says() {
    let network = world();
    registry(&network, &Arc::default());

    pull(&upstream(&network, &options())).await.unwrap();
    pull(&upstream(&network, &with_password("pw"))).await.unwrap();

    let asked: Vec<_> =
        network.seen().into_iter().filter(|seen| seen.host == "auth.example.com").collect();
    assert_eq!(asked[0].target, "/token?x=y&service=up&scope=repository%3Aa%2Fb%3Apull");
    assert_eq!(asked[0].header("authorization"), None);
    assert!(asked[1].target.ends_with("%3Apull&account=me"), "{}", asked[1].target);
    assert_eq!(asked[1].header("authorization"), Some("Basic bWU6cHc="));
    for seen in network.seen() {
        let is_basic = seen.header("authorization").is_some_and(|text| text.starts_with("Basic"));
        assert!(!is_basic || seen.host == "auth.example.com", "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_token_that_is_refused_is_replaced_once() {
    let network = world();
    let issued = Arc::default();
    registry(&network, &issued);
    let upstream = upstream(&network, &options());
    pull(&upstream).await.unwrap();

    issued.store(7, Ordering::SeqCst);
    assert_eq!(pull(&upstream).await.unwrap(), "layer");

    assert_eq!((network.count("up.example.com"), network.count("auth.example.com")), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_refuses_for_ever_is_asked_twice_and_denies() {
    for status in [401, 403] {
        let network = world();
        let is_open = Arc::new(AtomicBool::new(true));
        let open = Arc::clone(&is_open);
        network.serve(UP, move |seen| match seen.header("authorization") {
            None => challenge(BEARER),
            Some(_) if open.load(Ordering::SeqCst) => reply(200, &[], "layer"),
            Some(_) if seen.target == "/v2/" => reply(200, &[], ""),
            Some(_) => reply(status, &[("WWW-Authenticate", BEARER)], ""),
        });
        network.serve(AUTH, |_| token("t"));
        let upstream = upstream(&network, &options());
        pull(&upstream).await.unwrap();
        is_open.store(false, Ordering::SeqCst);

        let error = pull(&upstream).await.unwrap_err();

        assert_eq!(denied(&error).unwrap().as_u16(), status);
        assert!(error.is_an_answer());
        // Two refusals, and one question whether `/v2/` takes the token.
        assert_eq!(network.count("up.example.com"), 2 + 3);
        assert_eq!(network.count("auth.example.com"), 1 + 1);
        // A refused token is not kept: the next request begins with a new one.
        assert!(pull(&upstream).await.is_err());
        assert_eq!((network.count("up.example.com"), network.count("auth.example.com")), (7, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_challenge_is_explained_by_a_ping() {
    let network = world();
    network.serve(UP, |seen| match (&*seen.target, seen.header("authorization")) {
        ("/v2/", _) => challenge(BEARER),
        (_, Some("Bearer t")) => reply(200, &[], "layer"),
        _ => reply(401, &[], ""),
    });
    network.serve(AUTH, |_| token("t"));
    // One place in the queue: a ping beside the request it explains would wait for ever.
    let options = UpstreamOptions { max_connections: 1, ..options() };

    assert_eq!(pull(&upstream(&network, &options)).await.unwrap(), "layer");

    let targets: Vec<_> = network.seen().iter().map(|seen| seen.target.len()).collect();
    assert_eq!((targets.len(), targets[1]), (4, "/v2/".len()));
}

#[tokio::test(start_paused = true)]
async fn what_we_cannot_meet_is_a_denial() {
    for (status, text) in [
        (401, "Negotiate"),
        (401, "Basic realm=\"x\""),
        (403, "Basic realm=\"x\""),
        (401, "Digest realm=\"x\""),
        (401, ""),
        (403, ""),
    ] {
        let network = world();
        network.serve(UP, move |_| reply(status, &[("WWW-Authenticate", text)], ""));
        let error = pull(&upstream(&network, &options())).await.unwrap_err();
        assert_eq!(denied(&error).unwrap().as_u16(), status, "{text}: {error:?}");
        assert!(network.seen().len() <= 3, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_is_shown_only_when_asked_for_and_then_in_advance() {
    let network = world();
    network.serve(UP, |seen| match seen.header("authorization") {
        Some("Basic bWU6cHc=") => reply(200, &[], "layer"),
        _ => challenge("Basic realm=\"x\""),
    });
    let upstream = upstream(&network, &with_password("pw"));
    pull(&upstream).await.unwrap();
    pull(&upstream).await.unwrap();
    let sent: Vec<_> =
        network.seen().iter().map(|seen| seen.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_told_from_a_refused_repository_by_the_ping() {
    for (ping, refused_everywhere) in [(401, true), (403, true), (200, false), (404, false)] {
        let network = world();
        network.serve(UP, move |seen| match &*seen.target {
            "/v2/" => reply(ping, &[("WWW-Authenticate", "Basic")], ""),
            _ => challenge("Basic"),
        });
        // One place in the queue: a ping beside the request it explains would wait for ever.
        let options = UpstreamOptions { max_connections: 1, ..with_password("pw") };
        let error = pull(&upstream(&network, &options)).await.unwrap_err();
        let is_credential = matches!(error, UpstreamError::CredentialRefused { .. });
        assert_eq!(is_credential, refused_everywhere, "{ping}: {error:?}");
        assert_eq!(denied(&error).is_some(), !refused_everywhere, "{ping}: {error:?}");
        assert_eq!(network.seen().len(), 3);
    }
}

/// Obeyed as a denial, an outage would drop what is cached.
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_ping_is_not_a_denial() {
    let network = world();
    network.serve(UP, |seen| match &*seen.target {
        "/v2/" => reply(503, &[], ""),
        _ => challenge("Basic"),
    });
    let error = pull(&upstream(&network, &with_password("pw"))).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_token_server_says_depends_on_who_asked() {
    for status in [401, 403] {
        let network = world();
        network.serve(UP, |_| challenge(BEARER));
        network.serve(AUTH, move |_| reply(status, &[], ""));

        let error = pull(&upstream(&network, &options())).await.unwrap_err();
        assert_eq!(denied(&error).unwrap().as_u16(), status);

        let error = pull(&upstream(&network, &with_password("pw"))).await.unwrap_err();
        assert!(matches!(error, UpstreamError::CredentialRefused { .. }), "{error:?}");
        assert!(!error.is_an_answer());
        assert_eq!(network.count("auth.example.com"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_server_that_is_out_of_order_is_an_outage() {
    let scripts: [Make; 7] = [
        || reply(500, &[], ""),
        || reply(404, &[], ""),
        || reply(200, &[], "<html>"),
        || reply(200, &[], r#"{"token":"a\r\nX: y"}"#),
        || reply(200, &[], &format!(r#"{{"token":"{}"}}"#, "a".repeat(10 << 20))),
        || reply(302, &[("Location", "http://cdn.test/token")], ""),
        || vec![Step::Close],
    ];
    for script in scripts {
        let network = world();
        network.serve(UP, |_| challenge(BEARER));
        network.serve(AUTH, move |_| script());
        network.serve(CDN, |_| token("t"));

        let error = pull(&upstream(&network, &with_password("pw"))).await.unwrap_err();

        let is_outage =
            matches!(error, UpstreamError::Unexpected { .. } | UpstreamError::Unreachable { .. });
        assert!(is_outage, "{error:?}");
        assert!(error.to_string().starts_with("auth.example.com"), "{error}");
        assert_eq!(network.count("cdn.test"), 0, "the token server's redirect was followed");
    }
}

/// GitLab's token server redirects to the path with a slash behind it, others to a moved one.
#[tokio::test(start_paused = true)]
async fn a_token_server_may_redirect_within_its_origin() {
    for (status, location, hops) in [
        (301, "/token/", 1),
        (302, "/moved?scope=x", 1),
        (303, "http://auth.example.com/other", 1),
        (307, "http://AUTH.example.com:80/other", 1),
        (308, "//auth.example.com/other", 1),
        (302, "/again", 5),
    ] {
        for credential in [None, Some("Basic bWU6cHc=")] {
            let network = world();
            network.serve(UP, |seen| match seen.header("authorization") {
                Some("Bearer t") => reply(200, &[], "layer"),
                _ => challenge(BEARER),
            });
            let asked = AtomicUsize::new(0);
            network.serve(AUTH, move |_| match asked.fetch_add(1, Ordering::SeqCst) {
                asked if asked < hops => reply(status, &[("Location", location)], ""),
                _ => token("t"),
            });
            let options = if credential.is_some() { with_password("pw") } else { options() };

            assert_eq!(pull(&upstream(&network, &options)).await.unwrap(), "layer", "{location}");

            let seen = network.seen().into_iter().filter(|seen| seen.host != "up.example.com");
            let credentials: Vec<_> =
                seen.map(|seen| seen.header("authorization").map(str::to_owned)).collect();
            assert_eq!(credentials, vec![credential.map(str::to_owned); hops + 1], "{location}");
        }
    }
}

/// A credential goes to the server that was checked, or nowhere.
#[tokio::test(start_paused = true)]
async fn a_token_server_may_not_redirect_elsewhere_nor_for_ever() {
    for (location, said) in [
        ("http://cdn.test/token", "redirects to http://cdn.test"),
        ("http://up.example.com/token", "redirects to http://up.example.com"),
        ("http://auth.example.com:81/token", "redirects to http://auth.example.com:81"),
        ("https://auth.example.com/token", "redirects to https://auth.example.com"),
        ("http://auth.example.com@cdn.test/token", "its URL has a user in it"),
        ("file:///token", "neither http nor https"),
        ("", "Location is empty"),
        ("/token", "more than 5 redirects"),
    ] {
        let network = world();
        network.serve(UP, |_| challenge(BEARER));
        network.serve(AUTH, move |_| reply(302, &[("Location", location)], ""));
        network.serve(CDN, |_| token("t"));

        let error = pull(&upstream(&network, &with_password("pw"))).await.unwrap_err();

        assert!(error.to_string().contains(said), "{location}: {error}");
        assert!(!error.is_an_answer(), "{error:?}");
        assert_eq!(network.count("cdn.test"), 0, "{location}");
        let at_upstream = network.seen().into_iter().filter(|seen| seen.host == "up.example.com");
        assert!(at_upstream.clone().all(|seen| seen.header("authorization").is_none()));
        assert!(at_upstream.clone().all(|seen| !seen.target.starts_with("/token")));
    }
}

/// A registry that moves its token server must not be lost until the next restart.
#[tokio::test(start_paused = true)]
async fn a_token_server_that_is_gone_is_asked_about_anew() {
    let network = world();
    network.name("auth2.example.com", &["1.0.0.9"]);
    network.serve("1.0.0.9:80", |_| token("t"));
    registry(&network, &Arc::default());
    let upstream = upstream(&network, &options());
    pull(&upstream).await.unwrap();

    network.serve(AUTH, |_| reply(404, &[], ""));
    network.serve(UP, |seen| match seen.header("authorization") {
        Some("Bearer t") => reply(200, &[], "layer"),
        _ => challenge("Bearer realm=\"http://auth2.example.com/token\""),
    });
    tokio::time::sleep(Duration::from_secs(300)).await;

    assert!(pull(&upstream).await.is_err());
    assert_eq!(pull(&upstream).await.unwrap(), "layer");
}

#[tokio::test(start_paused = true)]
async fn a_slow_login_ends_with_the_deadline_and_the_next_asker_gets_its_token() {
    let network = world();
    registry(&network, &Arc::default());
    let upstream = upstream(&network, &options());

    let deadline = Instant::now() + Duration::from_millis(500);
    let error = upstream.ask(&blob(ReadMethod::Get, 0), deadline).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Stalled { .. }), "{error:?}");

    assert_eq!(pull(&upstream).await.unwrap(), "layer");
    assert_eq!(network.count("auth.example.com"), 1);
}
