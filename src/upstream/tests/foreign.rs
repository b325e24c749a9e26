//! Vanity hosts: an upstream that redirects to another registry, which gives tokens to everyone.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::login::{challenge, token};
use super::sites::{Seen, reply};
use super::*;

const REAL: &str = "1.0.0.4:80";
const REAL_AUTH: &str = "1.0.0.5:80";
const CHALLENGE: &str = r#"Bearer realm="http://auth.real.test/token",service="real""#;

/// An upstream that redirects all to `real.test`, where `owner/` comes before its names. Tokens are
/// numbered; only the last one is good.
fn vanity() -> (ScriptedSites, Arc<AtomicUsize>) {
    let network = world();
    network.name("real.test", &["1.0.0.4"]);
    network.name("auth.real.test", &["1.0.0.5"]);
    network.serve(UP, |seen| {
        let path = seen.target.strip_prefix("/v2/").unwrap();
        reply(302, &[("Location", &format!("http://real.test/v2/owner/{path}"))], "")
    });
    let issued = Arc::new(AtomicUsize::new(0));
    let valid = Arc::clone(&issued);
    network.serve(REAL, move |seen| {
        let want = format!("Bearer anonymous-{}", valid.load(Ordering::SeqCst));
        if seen.header("authorization") != Some(&*want) {
            return challenge(CHALLENGE);
        }
        match seen.header("range") {
            Some("bytes=2-") => reply(206, &[("Content-Range", "bytes 2-4/5")], "yer"),
            _ => reply(200, &[], "layer"),
        }
    });
    let count = Arc::clone(&issued);
    network.serve(REAL_AUTH, move |_| {
        token(&format!("anonymous-{}", count.fetch_add(1, Ordering::SeqCst) + 1))
    });
    (network, issued)
}

fn listed(options: UpstreamOptions) -> UpstreamOptions {
    UpstreamOptions { token_hosts: vec!["auth.real.test".parse().unwrap()], ..options }
}

fn at<'n>(network: &'n ScriptedSites, host: &'n str) -> impl Iterator<Item = Seen> + 'n {
    network.seen().into_iter().filter(move |seen| seen.host == host)
}

#[tokio::test(start_paused = true)]
async fn a_registry_behind_a_redirect_gets_an_anonymous_token_for_its_own_name() {
    let question = |method, resource| Question::new(method, "a/b".parse().unwrap(), resource);
    let tags = || question(ReadMethod::Get, Resource::Tags);
    for (name, asked) in [
        ("a manifest", manifest("a/b")),
        ("a manifest's head", Question { method: ReadMethod::Head, ..manifest("a/b") }),
        ("a layer", blob(ReadMethod::Get, 0)),
        ("a layer's rest", blob(ReadMethod::Get, 2)),
        ("a layer's head", blob(ReadMethod::Head, 0)),
        ("a list", tags()),
    ] {
        for options in [options(), with_password("pw")] {
            let (network, _) = vanity();

            let answer = ask(&upstream(&network, &listed(options)), &asked).await;

            let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(answer.status.as_u16(), if asked.from == 0 { 200 } else { 206 }, "{name}");
            let tokens: Vec<_> = at(&network, "auth.real.test").collect();
            assert_eq!(tokens.len(), 1, "{name}");
            let want = "/token?service=real&scope=repository%3Aowner%2Fa%2Fb%3Apull";
            assert_eq!(tokens[0].target, want, "{name}");
            assert!(network.seen().iter().all(|seen| {
                seen.header("authorization").is_none_or(|it| it.starts_with("Bearer anonymous-"))
            }));
            assert_eq!(at(&network, "up.example.com").count(), 1, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn its_token_is_kept_and_replaced_when_it_is_refused() {
    let (network, issued) = vanity();
    // One place in the queue: a token is not waited for with a permit in hand.
    let options = UpstreamOptions { max_connections: 1, ..listed(options()) };
    let upstream = upstream(&network, &options);
    for _ in 0..3 {
        assert_eq!(pull(&upstream).await.unwrap(), "layer");
    }
    assert_eq!(at(&network, "auth.real.test").count(), 1);

    issued.store(7, Ordering::SeqCst);
    assert_eq!(pull(&upstream).await.unwrap(), "layer");
    assert_eq!(at(&network, "auth.real.test").count(), 2);
}

/// The token is for the registry that asked for it, and for nothing that it points to.
#[tokio::test(start_paused = true)]
async fn its_storage_gets_no_token() {
    let (network, _) = vanity();
    network.serve(REAL, |seen| match seen.header("authorization") {
        Some(_) => reply(307, &[("Location", "http://cdn.test/x?signature")], ""),
        None => challenge(CHALLENGE),
    });
    network.serve(CDN, |seen| match seen.header("authorization") {
        Some(_) => reply(400, &[], ""),
        None => reply(200, &[], "layer"),
    });

    assert_eq!(pull(&upstream(&network, &listed(options()))).await.unwrap(), "layer");
}

/// None of these is an answer about the repository: what is cached stays.
#[tokio::test(start_paused = true)]
async fn what_its_login_does_not_give_is_an_outage_with_a_reason() {
    type Change = fn(&ScriptedSites);
    let rows: [(&str, Change, bool, &str); 6] = [
        ("not listed", |_| {}, false, "`token_hosts` would allow it"),
        (
            "no tokens for all",
            |network| network.serve(REAL_AUTH, |_| reply(401, &[], "")),
            true,
            "to an anonymous request",
        ),
        (
            "no token is good",
            |network| network.serve(REAL, |_| challenge(CHALLENGE)),
            true,
            "real.test answered 401",
        ),
        (
            "passwords",
            |network| network.serve(REAL, |_| challenge("Basic realm=\"x\"")),
            true,
            "real.test answered 401",
        ),
        (
            "no challenge",
            |network| network.serve(REAL, |_| reply(401, &[], "")),
            true,
            "real.test answered 401",
        ),
        (
            "not its own realm",
            |network| {
                network.serve(REAL, |_| challenge("Bearer realm=\"http://cdn.test/token\""));
            },
            true,
            "`token_hosts` would allow it",
        ),
    ];
    for (name, change, is_listed, said) in rows {
        let (network, _) = vanity();
        change(&network);
        let options = if is_listed { listed(with_password("pw")) } else { with_password("pw") };

        let error = pull(&upstream(&network, &options)).await.unwrap_err();

        assert!(error.to_string().contains(said), "{name}: {error}");
        assert!(!error.is_an_answer(), "{name}: {error:?}");
        assert!(network.seen().len() <= 4 * 3, "{name}: three tries at most");
        let is_own =
            |seen: &Seen| seen.header("authorization").is_some_and(|it| it.starts_with("Basic"));
        assert!(!network.seen().iter().any(is_own), "{name}");
    }
}
