//! Tokens that their server has just issued and the registry refuses: its clock is behind, or it
//! does not have the server's new key yet. Such a refusal says nothing about the repository, and
//! passes.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::login::token;
use super::sites::{Seen, reply};
use super::*;

const PLAIN: &str = r#"Bearer realm="http://auth.example.com/token",service="up""#;
const INVALID: &str =
    r#"Bearer realm="http://auth.example.com/token",service="up",error="invalid_token""#;
const SCOPE: &str =
    r#"Bearer realm="http://auth.example.com/token",service="up",error="insufficient_scope""#;

/// A token server whose tokens say when they were issued, in seconds from now.
fn issuing(network: &ScriptedSites) -> Arc<AtomicUsize> {
    let issued = Arc::new(AtomicUsize::new(0));
    let (count, begin) = (Arc::clone(&issued), Instant::now());
    network.serve(AUTH, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        token(&begin.elapsed().as_millis().to_string())
    });
    issued
}

/// How old the token of a request is.
fn age(seen: &Seen, begin: Instant) -> Option<Duration> {
    let issued = seen.header("authorization")?.strip_prefix("Bearer ")?.parse().unwrap();
    Some(begin.elapsed().saturating_sub(Duration::from_millis(issued)))
}

/// Seen at `docker_auth` (41), keppel (409) and moby (22158).
#[tokio::test(start_paused = true)]
async fn a_registry_whose_clock_is_behind_is_asked_again_with_the_same_token() {
    for skew in [1, 2, 3] {
        let network = world();
        let (issued, begin) = (issuing(&network), Instant::now());
        network.serve(UP, move |seen| match age(seen, begin) {
            None => reply(401, &[("WWW-Authenticate", PLAIN)], ""),
            Some(age) if age.as_secs() < skew => reply(401, &[("WWW-Authenticate", INVALID)], ""),
            Some(_) if seen.target == "/v2/" => reply(200, &[], ""),
            Some(_) => reply(200, &[], "layer"),
        });
        let upstream = upstream(&network, &options());

        assert_eq!(pull(&upstream).await.unwrap(), "layer", "{skew} s");

        assert_eq!(issued.load(Ordering::SeqCst), 1, "{skew} s: one token, which becomes valid");
        assert!(begin.elapsed().as_secs() <= 10, "{skew} s: {:?}", begin.elapsed());
        assert!(network.count("up.example.com") <= 10, "{skew} s: it is not hammered");
        assert!(upstream.troubles().is_empty(), "{skew} s: {:?}", upstream.troubles());
    }
}

/// The same for registries that do not say why, to a client that comes again.
#[tokio::test(start_paused = true)]
async fn an_unexplained_refusal_of_a_new_token_keeps_it_for_the_next_request() {
    let network = world();
    let (issued, begin) = (issuing(&network), Instant::now());
    network.serve(UP, move |seen| match age(seen, begin) {
        Some(age) if age.as_secs() >= 2 => reply(200, &[], "layer"),
        _ => reply(401, &[("WWW-Authenticate", PLAIN)], ""),
    });
    let upstream = upstream(&network, &options());

    let error = pull(&upstream).await.unwrap_err();
    assert!(denied(&error).is_some() && !error.is_an_answer(), "{error:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(pull(&upstream).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(pull(&upstream).await.unwrap(), "layer");
    assert_eq!(issued.load(Ordering::SeqCst), 1);
}

/// A token of the old key is replaced in the end, and operators read what is wrong until then.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_for_long_is_an_outage_and_is_replaced() {
    for options in [options(), with_password("pw")] {
        let network = world();
        let issued = issuing(&network);
        network.serve(UP, |_| reply(401, &[("WWW-Authenticate", INVALID)], ""));
        let upstream = upstream(&network, &options);

        let error = pull(&upstream).await.unwrap_err();

        assert!(matches!(error, UpstreamError::TokenRefused { .. }), "{error:?}");
        assert!(!error.is_an_answer() && error.to_string().contains("clock"), "{error}");
        assert_eq!(issued.load(Ordering::SeqCst), 1);
        assert!(!upstream.troubles().is_empty(), "`/readyz` says so");
        tokio::time::sleep(Duration::from_secs(60)).await;
        network.serve(UP, |seen| match seen.header("authorization") {
            None => reply(401, &[("WWW-Authenticate", PLAIN)], ""),
            Some("Bearer 0") => reply(401, &[("WWW-Authenticate", INVALID)], ""),
            Some(_) => reply(200, &[], "layer"),
        });
        assert_eq!(pull(&upstream).await.unwrap(), "layer");
        assert_eq!(issued.load(Ordering::SeqCst), 2);
        assert!(upstream.troubles().is_empty(), "{:?}", upstream.troubles());
    }
}

/// A refusal that is about the repository is obeyed at once, and its proof is not asked for where
/// the refusal has it.
#[tokio::test(start_paused = true)]
async fn a_repository_that_is_refused_while_the_token_works_denies() {
    let json = r#"{"errors":[{"code":"DENIED"}]}"#;
    for (status, challenge, body, pings) in [
        (401, SCOPE, "", 0),
        (403, SCOPE, "", 0),
        (403, PLAIN, json, 0),
        (401, INVALID, "", 1),
        (401, PLAIN, json, 1),
        (401, PLAIN, "", 1),
        (403, PLAIN, "<html>", 1),
    ] {
        let network = world();
        let issued = issuing(&network);
        network.serve(UP, move |seen| match (seen.header("authorization"), &*seen.target) {
            (None, _) => reply(401, &[("WWW-Authenticate", PLAIN)], ""),
            (Some(_), "/v2/") => reply(200, &[], ""),
            (Some(_), _) => reply(status, &[("WWW-Authenticate", challenge)], body),
        });
        let begin = Instant::now();

        let error = pull(&upstream(&network, &options())).await.unwrap_err();

        let name = format!("{status} {challenge} {body}");
        assert_eq!(denied(&error).unwrap().as_u16(), status, "{name}");
        assert!(error.is_an_answer() && begin.elapsed().is_zero(), "{name}");
        let asked = network.seen().iter().filter(|seen| seen.target == "/v2/").count();
        assert_eq!((asked, issued.load(Ordering::SeqCst)), (pings, 1), "{name}");
    }
}
