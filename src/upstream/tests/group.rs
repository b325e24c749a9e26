//! Several upstreams for one registry: who is asked what, and whose word counts.

use super::sites::{Script, Step, reply};
use super::*;

const REAL: &str = "10.0.0.9:80";

/// `one.test` and `two.test` before `real.test`.
fn upstreams(network: &ScriptedSites) -> UpstreamGroup {
    for (name, address) in
        [("one.test", "1.1.0.1"), ("two.test", "1.1.0.2"), ("real.test", "10.0.0.9")]
    {
        network.name(name, &[address]);
    }
    let at = |url: &str| UpstreamOptions { url: url.parse().unwrap(), ..options() };
    let mirrors = [at("http://one.test"), at("http://two.test")];
    let real =
        UpstreamOptions { url: "http://real.test".parse().unwrap(), ..with_password("hunter2") };
    UpstreamGroup::new(&mirrors, &real, &egress(network), Arc::default()).unwrap()
}

const ONE: &str = "1.1.0.1:80";
const TWO: &str = "1.1.0.2:80";

async fn ask_all(
    upstreams: &UpstreamGroup,
    question: &Question,
) -> Result<UpstreamIndex, UpstreamError> {
    let deadline = Instant::now() + Duration::from_secs(25);
    upstreams.ask(question, deadline).await.map(|answer| answer.place)
}

fn order(network: &ScriptedSites) -> Vec<String> {
    let mut hosts: Vec<_> = network.seen().into_iter().map(|seen| seen.host).collect();
    hosts.dedup();
    hosts
}

fn found() -> Script {
    reply(200, &[], "x")
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_a_mirror_leads_to_the_next_and_no_further() {
    let faults: [fn() -> Script; 6] = [
        || reply(404, &[], ""),
        || reply(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""),
        || reply(403, &[], ""),
        || reply(429, &[("Retry-After", "60")], ""),
        || reply(500, &[], ""),
        || vec![Step::Close],
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let network = world();
        let upstreams = upstreams(&network);
        network.serve(ONE, move |_| fault());
        network.serve(TWO, |_| found());

        let place = ask_all(&upstreams, &blob(ReadMethod::Get, 0)).await.unwrap();

        assert_eq!(place, UpstreamIndex::Mirror(1), "{number}");
        assert_eq!(order(&network), ["one.test", "two.test"], "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_last_answers_for_the_registry_and_only_it_gets_the_password() {
    for status in [404, 403] {
        let network = world();
        let upstreams = upstreams(&network);
        let challenge = ("WWW-Authenticate", "Basic realm=\"x\"");
        network.serve(ONE, move |_| reply(401, &[challenge], ""));
        network.serve(TWO, move |_| reply(401, &[challenge], ""));
        network.serve(REAL, move |seen| match (seen.header("authorization"), &*seen.target) {
            (None, _) => reply(401, &[challenge], ""),
            (Some(_), "/v2/") => reply(200, &[], ""),
            (Some(_), _) => reply(status, &[], ""),
        });

        let error = ask_all(&upstreams, &blob(ReadMethod::Get, 0)).await.unwrap_err();

        assert!(error.is_an_answer() && error.host() == "real.test", "{error:?}");
        assert_eq!(order(&network), ["one.test", "two.test", "real.test"]);
        for seen in network.seen() {
            assert!(seen.host == "real.test" || seen.header("authorization").is_none());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_is_the_last_ones_to_say_unless_it_is_down() {
    for (status, want) in
        [(200, Ok(UpstreamIndex::Authoritative)), (404, Err(true)), (405, Err(false))]
    {
        let network = world();
        let upstreams = upstreams(&network);
        network.serve(ONE, |_| found());
        network.serve(REAL, move |seen| match &*seen.target {
            "/v2/" => reply(200, &[], ""),
            _ => reply(status, &[], ""),
        });

        let asked = ask_all(&upstreams, &manifest("a")).await;

        assert_eq!(asked.map_err(|error| error.is_an_answer()), want, "{status}");
        assert_eq!(order(&network), ["real.test"]);
    }
    let outages: [fn() -> Script; 3] =
        [|| reply(503, &[], ""), || reply(429, &[], ""), || vec![Step::Close]];
    for outage in outages {
        let network = world();
        let upstreams = upstreams(&network);
        network.serve(ONE, |_| reply(404, &[], ""));
        network.serve(TWO, |_| found());
        network.serve(REAL, move |_| outage());
        assert_eq!(ask_all(&upstreams, &manifest("a")).await.unwrap(), UpstreamIndex::Mirror(1));
        assert_eq!(order(&network), ["real.test", "one.test", "two.test"]);
    }
}

/// The mirrors' silence is no more than that, and the record of a tag survives it.
#[tokio::test(start_paused = true)]
async fn no_mirror_can_say_that_a_tag_is_gone() {
    for status in [503, 429] {
        let network = world();
        let upstreams = upstreams(&network);
        network.serve(ONE, |_| reply(404, &[], ""));
        network.serve(TWO, |_| reply(404, &[], ""));
        network.serve(REAL, move |_| reply(status, &[], ""));

        let error = ask_all(&upstreams, &manifest("a")).await.unwrap_err();

        assert!(!error.is_an_answer() && error.host() == "real.test", "{error:?}");
    }
}

/// A mirror that swallows everything must leave the real one time to answer.
#[tokio::test(start_paused = true)]
async fn a_silent_mirror_leaves_time_for_those_behind_it() {
    let network = world();
    let upstreams = upstreams(&network);
    network.serve(ONE, |_| vec![Step::Hang]);
    network.black_hole(TWO);
    network.serve(REAL, |_| found());
    let start = Instant::now();

    assert_eq!(
        ask_all(&upstreams, &blob(ReadMethod::Get, 0)).await.unwrap(),
        UpstreamIndex::Authoritative
    );

    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    for _ in 0..8 {
        drop(ask_all(&upstreams, &blob(ReadMethod::Get, 0)).await);
    }
    let start = Instant::now();
    assert!(ask_all(&upstreams, &blob(ReadMethod::Get, 0)).await.is_ok());
    assert!(start.elapsed() < Duration::from_secs(1), "their breakers are open");
    assert!(!upstreams.is_open(), "one of them is well");
}

#[tokio::test(start_paused = true)]
async fn who_has_failed_is_asked_last() {
    let network = world();
    let upstreams = upstreams(&network);
    for address in [ONE, TWO, REAL] {
        network.serve(address, |_| reply(500, &[], ""));
    }
    let failed = vec![UpstreamIndex::Mirror(0), UpstreamIndex::Authoritative];

    let question = Question { failed, ..blob(ReadMethod::Get, 7) };
    assert!(ask_all(&upstreams, &question).await.is_err());

    assert_eq!(order(&network), ["two.test", "one.test", "real.test"]);
}
