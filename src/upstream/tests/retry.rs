//! Retries: of which failures, how often, and when to give up.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::sites::{Make, Script, Step, head, reply};
use super::*;

/// A registry that serves the scripts in turn, and the last one for ever.
fn serving(network: &ScriptedSites, scripts: &'static [Make]) {
    let next = AtomicUsize::new(0);
    network
        .serve(UP, move |_| scripts[next.fetch_add(1, Ordering::Relaxed).min(scripts.len() - 1)]());
}

fn layer() -> Script {
    reply(200, &[], "layer")
}

#[tokio::test(start_paused = true)]
async fn a_fault_on_the_way_is_tried_three_times() {
    let faults: [(&str, &[Make]); 6] = [
        ("500", &[|| reply(500, &[], ""), || reply(500, &[], ""), layer]),
        ("502, 503", &[|| reply(502, &[], ""), || reply(503, &[], ""), layer]),
        ("504", &[|| reply(504, &[], ""), layer]),
        ("closed", &[|| vec![Step::Close], || vec![Step::Close], layer]),
        ("cut", &[|| vec![Step::Send(b"HTTP/1.1 200 O".to_vec()), Step::Close], layer]),
        ("garbage", &[|| vec![Step::Send(b"SSH-2.0-x\r\n\r\n".to_vec())], layer]),
    ];
    for (fault, scripts) in faults {
        let network = world();
        serving(&network, scripts);

        assert_eq!(pull(&upstream(&network, &options())).await.unwrap(), "layer", "{fault}");

        assert_eq!(network.seen().len(), scripts.len(), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_three_tries_the_last_fault_is_the_answer() {
    let network = world();
    serving(&network, &[|| reply(503, &[], "")]);
    let start = Instant::now();

    let error = pull(&upstream(&network, &options())).await.unwrap_err();

    assert!(error.is_transient());
    assert!(matches!(
        error,
        UpstreamError::Unexpected { status: StatusCode::SERVICE_UNAVAILABLE, .. }
    ));
    assert_eq!(network.seen().len(), 3);
    let paused = start.elapsed().as_millis();
    assert!((250..=760).contains(&paused), "{paused} ms");
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_says_on_purpose_is_not_asked_again() {
    for status in [400, 404, 405, 410, 416, 429, 501] {
        let network = world();
        network.serve(UP, move |_| reply(status, &[("Retry-After", "30")], ""));

        let error = pull(&upstream(&network, &options())).await.unwrap_err();

        let is_right = match (status, &error) {
            (404, UpstreamError::NotFound { .. })
            | (416, UpstreamError::RangeNotSatisfiable { .. }) => true,
            (429, UpstreamError::Throttled { wait, .. }) => *wait == Some(Duration::from_secs(30)),
            (501, UpstreamError::Unexpected { status: got, .. })
            | (_, UpstreamError::Rejected { status: got, .. }) => got.as_u16() == status,
            _ => false,
        };
        assert!(is_right, "{status} gave {error:?}");
        assert_eq!(network.seen().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_not_there_is_called_three_times() {
    let network = world();

    let error = pull(&upstream(&network, &options())).await.unwrap_err();

    let UpstreamError::Unreachable { host, reason } = error else { panic!("{error:?}") };
    assert_eq!((&*host, &*reason), ("up.example.com", "connection refused"));
    assert_eq!(network.dialled(), [UP; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_there_is_no_crash() {
    let network = world();
    let options = UpstreamOptions { url: "http://nowhere.test".parse().unwrap(), ..options() };

    let error = pull(&upstream(&network, &options)).await.unwrap_err();

    let UpstreamError::Unreachable { reason, .. } = error else { panic!("{error:?}") };
    assert_eq!(reason, "no such host: nowhere.test");
}

/// Three tries of 5 s each, and two pauses.
#[tokio::test(start_paused = true)]
async fn a_look_up_and_a_connection_have_five_seconds() {
    for is_known in [true, false] {
        let network = world();
        if is_known {
            network.black_hole(UP);
        } else {
            network.silent_name("up.example.com");
        }
        let start = Instant::now();

        let error = pull(&upstream(&network, &options())).await.unwrap_err();

        let UpstreamError::Unreachable { reason, .. } = error else { panic!("{error:?}") };
        let fault = if is_known { "the connection was not accepted" } else { "the name lookup" };
        assert!(reason.starts_with(fault), "{reason}");
        assert_eq!(start.elapsed().as_secs(), 15);
    }
}

/// 15 s for the first try, what remains of 25 s for the second.
#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_given_up_at_the_deadline() {
    let network = world();
    serving(&network, &[|| vec![Step::Hang]]);
    let start = Instant::now();

    let error = pull(&upstream(&network, &options())).await.unwrap_err();

    assert!(matches!(error, UpstreamError::Stalled { .. }), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 25);
    assert_eq!(network.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_try_begins_that_the_deadline_would_not_let_begin() {
    let network = world();
    serving(&network, &[|| reply(503, &[], "")]);
    let upstream = upstream(&network, &options());

    let deadline = Instant::now() + Duration::from_millis(20);
    let error = upstream.ask(&manifest("a"), deadline).await.unwrap_err();

    assert!(matches!(error, UpstreamError::Unexpected { .. }), "{error:?}");
    assert_eq!(network.seen().len(), 1);
}

/// RFC 8305: where one family leads nowhere, the other answers in time.
#[tokio::test(start_paused = true)]
async fn an_address_that_swallows_connections_delays_little() {
    let network = world();
    network.name("up.example.com", &["fd00::1", "fd00::2", "fd00::3", "10.0.0.1"]);
    for silent in ["[fd00::1]:80", "[fd00::2]:80", "[fd00::3]:80"] {
        network.black_hole(silent);
    }
    serving(&network, &[layer]);
    let start = Instant::now();

    assert_eq!(pull(&upstream(&network, &options())).await.unwrap(), "layer");

    assert!(start.elapsed().as_millis() < 300, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_run_at_once_than_allowed_and_each_has_its_turn() {
    let network = world();
    serving(
        &network,
        &[|| {
            vec![
                Step::Send(head(200, &[("Content-Length", "5")])),
                Step::Wait(Duration::from_secs(5)),
                Step::Send(b"layer".to_vec()),
            ]
        }],
    );
    let options = UpstreamOptions { max_connections: 2, ..options() };
    let upstream = upstream(&network, &options);

    let pulls: Vec<_> = (0..6)
        .map(|_| {
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move { pull(&upstream).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(network.seen().len(), 2);
    let start = Instant::now();
    for pull in pulls {
        assert_eq!(pull.await.unwrap().unwrap(), "layer");
    }
    assert_eq!(start.elapsed().as_secs(), 14);
    assert_eq!(network.dialled().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_ends_with_the_deadline() {
    let network = world();
    serving(&network, &[|| vec![Step::Send(head(200, &[("Content-Length", "5")])), Step::Hang]]);
    let options = UpstreamOptions { max_connections: 1, ..options() };
    let upstream = upstream(&network, &options);
    let held = ask(&upstream, &blob(ReadMethod::Get, 0)).await.unwrap();

    let error = ask(&upstream, &blob(ReadMethod::Get, 0)).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Stalled { .. }), "{error:?}");
    assert_eq!(network.seen().len(), 1);

    drop(held);
    assert!(ask(&upstream, &blob(ReadMethod::Get, 0)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_head_gives_its_turn_back_with_the_answer() {
    let network = world();
    serving(&network, &[|| reply(200, &[("Content-Length", "5")], "")]);
    let options = UpstreamOptions { max_connections: 1, ..options() };
    let upstream = upstream(&network, &options);

    let first = ask(&upstream, &blob(ReadMethod::Head, 0)).await.unwrap();
    assert!(ask(&upstream, &blob(ReadMethod::Head, 0)).await.is_ok());
    assert_eq!(first.headers["content-length"], "5");
    assert_eq!(network.dialled().len(), 1, "the connection was not used again");
}

/// `HAProxy` ends an idle connection with a 408, which a request may cross on its way.
#[tokio::test(start_paused = true)]
async fn an_early_408_on_an_idle_connection_is_no_answer_to_the_next_request() {
    for crosses in [true, false] {
        let network = world();
        let is_first = AtomicUsize::new(0);
        network.serve(UP, move |_| {
            let mut script = reply(200, &[], "layer");
            if is_first.fetch_add(1, Ordering::Relaxed) == 0 {
                let early = head(408, &[("Content-Length", "0"), ("Connection", "close")]);
                script.extend([Step::Wait(Duration::from_secs(5)), Step::Send(early), Step::Close]);
            }
            script
        });
        let upstream = upstream(&network, &options());
        let question = Question { method: ReadMethod::Get, ..manifest("a") };
        assert!(ask(&upstream, &question).await.unwrap().body.collect(9).await.is_ok());
        tokio::time::sleep(Duration::from_secs(if crosses { 4 } else { 6 })).await;

        let again = ask(&upstream, &question).await;

        assert_eq!(again.unwrap().body.collect(9).await.unwrap(), "layer", "{crosses}");
        assert_eq!(network.dialled().len(), 2, "{crosses}");
    }
}

/// A push is sent again where the host says that it has not processed it, and nowhere else.
#[tokio::test(start_paused = true)]
async fn a_change_that_was_not_processed_is_sent_once_more() {
    for (status, want, sent) in [
        (408, 202, 2),
        (421, 202, 2),
        (425, 202, 2),
        (400, 400, 1),
        (409, 409, 1),
        (499, 499, 1),
        (500, 500, 1),
        (502, 502, 1),
        (520, 520, 1),
    ] {
        let network = world();
        let posts = AtomicUsize::new(0);
        network.serve(UP, move |seen| match (&*seen.method, posts.load(Ordering::Relaxed)) {
            ("POST", 0) => {
                posts.store(1, Ordering::Relaxed);
                reply(status, &[], "")
            }
            ("POST", _) => reply(202, &[("Location", "/u")], ""),
            _ => reply(200, &[], ""),
        });

        let change = upstream(&network, &options()).change(begin_upload()).await.unwrap();

        assert_eq!(change.status.as_u16(), want);
        let seen = network.seen().into_iter().filter(|seen| seen.method == "POST").count();
        assert_eq!(seen, sent, "{status}");
    }
}
