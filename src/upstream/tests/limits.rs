//! An upstream that limits us is left alone, and one that is down is not waited for.

use std::sync::atomic::{AtomicU16, Ordering};

use super::sites::{Make, Script, Seen, Step, reply};
use super::*;

fn head_of_manifest() -> Question {
    Question { method: ReadMethod::Head, ..manifest("a") }
}

/// A registry that keeps its blobs elsewhere.
fn leading_blobs_away(seen: &Seen) -> Script {
    if seen.target.contains("/blobs/") {
        return reply(307, &[("Location", "http://cdn.test/x")], "");
    }
    reply(200, &[], "manifest")
}

async fn ask_often(upstream: &Arc<Upstream>, count: usize) -> Vec<UpstreamError> {
    let asked: Vec<_> = (0..count)
        .map(|number| {
            let upstream = Arc::clone(upstream);
            let question = manifest(&format!("r{number}"));
            tokio::spawn(async move { ask(&upstream, &question).await.unwrap_err() })
        })
        .collect();
    let mut errors = Vec::new();
    for asked in asked {
        errors.push(asked.await.unwrap());
    }
    errors
}

/// F8: two hundred clients must not become two hundred requests that make the limit worse.
#[tokio::test(start_paused = true)]
async fn a_limit_is_asked_about_once_in_each_of_its_windows() {
    for (status, header) in [(429, "30"), (503, "30")] {
        let network = world();
        network.serve(UP, move |_| reply(status, &[("Retry-After", header)], ""));
        let upstream = upstream(&network, &options());
        assert!(ask(&upstream, &manifest("a")).await.is_err());

        for window in 1..=3 {
            let start = Instant::now();
            for error in ask_often(&upstream, 200).await {
                let UpstreamError::Throttled { wait: Some(wait), .. } = error else {
                    panic!("{error:?}")
                };
                assert!(wait <= Duration::from_secs(30));
            }
            assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits");
            assert_eq!(network.seen().len(), window, "{status}");
            tokio::time::advance(Duration::from_secs(30)).await;
            ask_often(&upstream, 200).await;
            assert_eq!(network.seen().len(), window + 1, "one finds out");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_manifests_is_none_on_blobs_or_heads() {
    let network = world();
    network.serve(UP, |seen| match (&*seen.method, seen.target.contains("/manifests/")) {
        ("GET", true) => reply(429, &[("Retry-After", "60")], ""),
        _ => reply(200, &[], "layer"),
    });
    let upstream = upstream(&network, &options());

    let limited = ask(&upstream, &manifest("a")).await.unwrap_err();
    assert!(matches!(limited, UpstreamError::Throttled { wait: Some(_), .. }), "{limited:?}");
    assert_eq!(pull(&upstream).await.unwrap(), "layer");
    assert!(ask(&upstream, &head_of_manifest()).await.is_ok());
    assert!(ask(&upstream, &manifest("b")).await.is_err());
    assert_eq!(network.seen().len(), 3);
}

/// The limit is the token server's, not the registry's, and the other way round for storage.
#[tokio::test(start_paused = true)]
async fn a_limit_belongs_to_the_host_that_set_it() {
    let network = world();
    network.serve(UP, leading_blobs_away);
    network.serve(CDN, |_| reply(429, &[("Retry-After", "60")], ""));
    let upstream = upstream(&network, &options());

    let error = pull(&upstream).await.unwrap_err();
    assert_eq!(error.host(), "cdn.test");
    assert!(pull(&upstream).await.is_err());
    assert!(ask(&upstream, &manifest("a")).await.is_ok());
    assert_eq!((network.count("cdn.test"), network.count("up.example.com")), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_token_server_that_limits_us_is_left_alone() {
    let network = world();
    let realm = r#"Bearer realm="http://auth.example.com/token",service="s""#;
    network.serve(UP, move |_| reply(401, &[("WWW-Authenticate", realm)], ""));
    network.serve(AUTH, |_| reply(429, &[("Retry-After", "60")], ""));
    let upstream = upstream(&network, &options());

    for repository in ["a", "b", "c"] {
        let error = ask(&upstream, &manifest(repository)).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Throttled { .. }), "{error:?}");
    }
    assert_eq!(network.count("auth.example.com"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_fails_five_times_is_told_of_at_once_and_probed_once() {
    let faults: [(&str, Make); 4] = [
        ("502", || reply(502, &[], "")),
        ("503", || reply(503, &[], "")),
        ("504", || reply(504, &[], "")),
        ("closed", || vec![Step::Close]),
    ];
    for (fault, script) in faults {
        let network = world();
        network.serve(UP, move |_| script());
        let upstream = upstream(&network, &options());

        let first = ask(&upstream, &manifest("a")).await.unwrap_err();
        assert!(!upstream.is_open(), "{fault}");
        let second = ask(&upstream, &manifest("a")).await.unwrap_err();
        for error in [first, second] {
            assert!(!error.to_string().contains("breaker"), "{fault}: {error}");
        }
        assert_eq!(network.seen().len(), 5, "{fault}");
        assert!(upstream.is_open(), "{fault}");

        let start = Instant::now();
        for error in ask_often(&upstream, 200).await {
            let UpstreamError::Unreachable { reason, .. } = error else { panic!("{error:?}") };
            assert!(reason.contains("breaker is open"), "{reason}");
        }
        assert_eq!((start.elapsed(), network.seen().len()), (Duration::ZERO, 5), "{fault}");

        tokio::time::advance(Duration::from_secs(5)).await;
        ask_often(&upstream, 200).await;
        assert_eq!(network.seen().len(), 6, "{fault}: one finds out");
    }
}

/// F9: a black hole costs the first requests their time-out and later ones nothing.
#[tokio::test(start_paused = true)]
async fn a_black_hole_is_found_out_and_a_host_that_is_back_is_asked() {
    let network = world();
    network.black_hole(UP);
    let upstream = upstream(&network, &options());

    ask_often(&upstream, 200).await;
    assert!(upstream.is_open());
    let start = Instant::now();
    assert!(ask(&upstream, &manifest("a")).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO);

    network.light(UP);
    network.serve(UP, |_| reply(200, &[], "layer"));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!upstream.is_open());
    assert_eq!(pull(&upstream).await.unwrap(), "layer");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_fault_of_the_host_opens_nothing() {
    for status in [200, 401, 404, 429, 500] {
        let network = world();
        network.serve(UP, move |_| reply(status, &[], ""));
        let upstream = upstream(&network, &options());
        for _ in 0..10 {
            drop(ask(&upstream, &manifest("a")).await);
        }
        assert!(!upstream.is_open(), "{status}");
    }
}

/// Storage that is down is no reason not to ask for manifests, and a body that runs goes on.
#[tokio::test(start_paused = true)]
async fn a_breaker_stops_neither_other_hosts_nor_bodies_on_their_way() {
    static STATUS: AtomicU16 = AtomicU16::new(200);
    let network = world();
    network.serve(UP, leading_blobs_away);
    network.serve(CDN, |_| match STATUS.load(Ordering::Relaxed) {
        200 => vec![
            Step::Send(sites::head(200, &[("Content-Length", "5")])),
            Step::Wait(Duration::from_secs(20)),
            Step::Send(b"layer".to_vec()),
        ],
        status => reply(status, &[], ""),
    });
    let upstream = upstream(&network, &options());
    let running = ask(&upstream, &blob(ReadMethod::Get, 0)).await.unwrap();
    STATUS.store(502, Ordering::Relaxed);

    for _ in 0..3 {
        assert!(pull(&upstream).await.is_err());
    }
    let error = pull(&upstream).await.unwrap_err();

    assert!(error.to_string().contains("breaker is open"), "{error}");
    assert!(!upstream.is_open());
    assert!(ask(&upstream, &manifest("a")).await.is_ok());
    assert_eq!(running.body.collect(10).await.unwrap(), "layer");
}

/// A host that stays away is asked ever less often, and one that is back is found by nobody's
/// request: the registry, and the storage to which it points.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_probed_while_idle_rarely_and_until_it_closes() {
    for (host, down) in [(UP, "up.example.com"), (CDN, "cdn.test")] {
        let network = world();
        network.serve(UP, leading_blobs_away);
        network.serve(CDN, |_| reply(200, &[], "layer"));
        network.serve(host, |_| reply(502, &[], ""));
        let upstream = upstream(&network, &options());
        for _ in 0..2 {
            assert!(pull(&upstream).await.is_err());
        }
        assert_eq!(open_hosts(&upstream), [down], "{host:?}");

        let before = network.count(down);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let probes = network.count(down) - before;
        assert!((40..=60).contains(&probes), "{probes} in an hour");

        network.serve(host, |_| reply(404, &[], ""));
        tokio::time::sleep(Duration::from_secs(91)).await;
        assert_eq!(open_hosts(&upstream), [""; 0]);
        let before = network.count(down);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(network.count(down), before, "no probe of a host that is well");
    }
}

/// Nothing is left behind by an upstream that the configuration has no more.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_gone_is_not_probed() {
    let network = world();
    network.serve(UP, |_| reply(502, &[], ""));
    let upstream = upstream(&network, &options());
    for _ in 0..2 {
        assert!(ask(&upstream, &manifest("a")).await.is_err());
    }
    let before = network.seen().len();
    drop(upstream);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(network.seen().len(), before);
}

fn open_hosts(upstream: &Upstream) -> Vec<String> {
    upstream.troubles().into_iter().map(|trouble| trouble.host).collect()
}
