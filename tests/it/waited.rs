//! An upstream that limits requests for a moment: the pull waits, and its client notices nothing.
//! Refused at once, every client ends its cold pull or goes to another registry (containerd, whose
//! five tries come within the same second; dockerd).

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    Auth, Blob, Fault, Gate, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL, When,
};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const TAGS: &str = "/v2/library/alpine/tags/list";

/// The time that everything before the head of an answer shares.
const DEADLINE: Duration = Duration::from_secs(25);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limit(status: u16, retry_after: Option<&str>) -> Fault {
    let headers = retry_after.map(|after| ("Retry-After", after.to_owned())).into_iter();
    Fault::Status(status, headers.collect(), "toomanyrequests")
}

/// A mirror of a registry with one image, with tokens.
async fn mirror(hub: &ScriptedRegistry) -> Proxy {
    hub.requires(Auth::tokens("http://auth.docker.io/token"));
    let mut setup = Setup::new();
    setup.network.put("auth.docker.io", 80, hub.clone());
    setup.registry("docker.io", hub);
    setup.start().await
}

/// Limits that end in time, and for how long each holds.
const SHORT: [(u16, Option<&str>, Duration); 8] = [
    (429, None, s(1)),
    (429, Some("soon"), s(1)),
    (429, Some("0"), s(1)),
    (429, Some("1"), s(1)),
    (503, Some("1"), s(1)),
    (429, Some("2"), s(2)),
    (503, Some("10"), s(10)),
    (429, Some("20"), s(20)),
];

#[tokio::test(start_paused = true)]
async fn no_question_of_a_cold_pull_fails_for_a_limit_that_ends_in_time() {
    let image = Image::random(1, &[100_000, 10]);
    let layer = image.layers[0].digest.to_string();
    let config = image.blobs().last().expect("an image has blobs").digest.to_string();
    let by_digest = format!("manifests/{}", image.manifest.digest());
    for (status, retry_after, held) in SHORT {
        for limited in ["/token", "manifests/latest", &by_digest, &layer, &config] {
            let name = format!("{status} with {retry_after:?} to {limited}");
            let hub = ScriptedRegistry::new();
            hub.put_image(REPOSITORY, "latest", &image);
            let proxy = mirror(&hub).await;
            hub.breaks(When::asked(limited).nth(1), limit(status, retry_after));
            let begin = Instant::now();

            proxy.pull(REPOSITORY, "latest", &image).await;

            let took = begin.elapsed();
            assert!((held..held + s(2)).contains(&took), "{name}: {took:?}");
            let asked = hub.asked();
            let asked = asked.iter().filter(|asked| asked.target.contains(limited));
            let statuses = asked.map(|asked| asked.status()).filter(|it| *it != 401);
            assert_eq!(statuses.collect::<Vec<_>>(), [status, 200], "{name}: once more");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_list_waits_for_a_limit_that_ends_in_time() {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let referrers = format!("/v2/library/alpine/referrers/{}", Blob::random(9, 9).digest);
    let rows = [
        (TAGS, "application/json", r#"{"name":"library/alpine","tags":["latest"]}"#),
        (&referrers, INDEX, r#"{"schemaVersion":2,"manifests":[]}"#),
    ];
    for (status, retry_after, held) in SHORT {
        for (path, media_type, body) in rows {
            let hub = ScriptedRegistry::new();
            let proxy = Proxy::before(&hub).await;
            let list = Fault::Status(200, vec![("Content-Type", media_type.to_owned())], body);
            hub.breaks(When::asked(path).nth(1), limit(status, retry_after));
            hub.breaks(When::asked(path).after(1), list);
            let begin = Instant::now();

            proxy.get(path).await.assert_status(200);

            assert!(begin.elapsed() >= held, "{status} with {retry_after:?} to {path}");
        }
    }
}

/// Readers of a blob would take an error for a cut.
#[tokio::test(start_paused = true)]
async fn a_limit_in_the_middle_of_a_blob_is_waited_out() {
    for (status, retry_after, _) in SHORT {
        let hub = ScriptedRegistry::new();
        let blob = Blob::random(1, 500_000);
        hub.put_blob(REPOSITORY, &blob);
        let proxy = Proxy::before(&hub).await;
        hub.breaks(When::asked(&blob.digest).nth(1), Fault::CutAt(250_000));
        hub.breaks(When::asked(&blob.digest).nth(2), limit(status, retry_after));

        proxy.get(&blob.path(REPOSITORY)).await.assert_is(&blob);

        assert_eq!(hub.gets(&blob.digest).len(), 3, "{status} with {retry_after:?}");
    }
}

/// Clients give up at 30 s; those that are told can say why, and come again.
#[tokio::test(start_paused = true)]
async fn a_limit_that_does_not_end_in_time_is_passed_on_at_once() {
    let layer = Blob::random(1, 1000);
    for (status, seconds) in [(429, 25), (429, 30), (503, 30), (429, 600)] {
        for path in [LATEST, TAGS, &layer.path(REPOSITORY)] {
            let hub = ScriptedRegistry::new();
            hub.put_blob(REPOSITORY, &layer);
            let proxy = Proxy::before(&hub).await;
            hub.breaks(When::asked("/v2/"), limit(status, Some(&seconds.to_string())));
            let begin = Instant::now();

            let reply = proxy.get(path).await;

            assert_eq!(reply.error(429).0, "TOOMANYREQUESTS", "{status} {seconds} {path}");
            assert_eq!(reply.header("retry-after"), Some(&*seconds.to_string()));
            assert!(begin.elapsed() < s(1), "{:?}", begin.elapsed());
            assert_eq!(hub.asked().len(), 1, "{status} {seconds} {path}");
        }
    }
}

/// A limit that is set anew after each wait is passed on before clients give up.
#[tokio::test(start_paused = true)]
async fn a_limit_that_goes_on_is_passed_on_in_time_and_is_not_hammered() {
    for (retry_after, asked_max) in [(None, 6), (Some("1"), 25), (Some("5"), 5), (Some("20"), 2)] {
        let hub = ScriptedRegistry::new();
        let proxy = Proxy::before(&hub).await;
        hub.breaks(When::asked("/v2/"), limit(429, retry_after));
        let begin = Instant::now();

        let reply = proxy.get(LATEST).await;

        assert_eq!(reply.error(429).0, "TOOMANYREQUESTS", "{retry_after:?}");
        assert!(reply.header("retry-after").is_some(), "{retry_after:?}: it says when");
        assert!(begin.elapsed() <= DEADLINE, "{retry_after:?}: {:?}", begin.elapsed());
        let asked = hub.asked().len();
        assert!((2..=asked_max).contains(&asked), "{retry_after:?}: {asked} requests");
    }
}

/// However many clients wait, one request finds out whether the limit is over.
#[tokio::test(start_paused = true)]
async fn one_request_probes_a_limit_for_all_that_wait_for_its_end() {
    const CLIENTS: usize = 200;
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    let path = |client: usize| format!("/v2/team/app{client}/manifests/latest");
    for client in 0..CLIENTS {
        hub.put_image(&format!("team/app{client}"), "latest", &image);
    }
    let proxy = Proxy::before(&hub).await;
    let gate = Gate::new();
    hub.breaks(When::asked("/manifests/latest").nth(1), limit(429, Some("30")));
    hub.breaks(When::asked("/manifests/latest").nth(2), limit(429, Some("5")));
    hub.breaks(When::asked("/manifests/latest").nth(3), Fault::HoldHeaders(gate.clone()));
    proxy.get("/v2/team/other/manifests/latest").await.error(429);
    tokio::time::advance(s(20)).await;

    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(proxy.client.get(&path(client)));
    }
    tokio::time::sleep(s(9)).await;
    assert_eq!(hub.asked().len(), 1, "nothing is sent while the limit holds");
    tokio::time::sleep(s(4)).await;
    assert_eq!(hub.asked().len(), 2, "one request after it, which is limited again");
    gate.reached().await;
    tokio::time::sleep(s(3)).await;
    assert_eq!(hub.asked().len(), 3, "and one more, whose answer all others wait for");
    gate.open();

    for reply in clients.join_all().await {
        reply.assert_is(&image.manifest.blob);
    }
}

/// Promise 5: what is cached is served while the upstream limits us, without waiting for the end.
#[tokio::test(start_paused = true)]
async fn a_stale_tag_is_served_while_the_end_of_a_limit_is_waited_for() {
    let hub = ScriptedRegistry::new();
    let [old, new] = [1, 2].map(|seed| Image::random(seed, &[]));
    hub.put_image(REPOSITORY, "latest", &old);
    let proxy = Proxy::before(&hub).await;
    proxy.get(LATEST).await.assert_is(&old.manifest.blob);
    tokio::time::advance(TAG_TTL * 2).await;
    hub.put_image(REPOSITORY, "latest", &new);
    hub.breaks(When::asked("/v2/").first(1), limit(429, Some("15")));

    for wait_max in [s(2), Duration::ZERO, Duration::ZERO] {
        let begin = Instant::now();
        let stale = proxy.get(LATEST).await;
        stale.assert_is(&old.manifest.blob);
        assert!(stale.decision().is_stale(), "{:?}", stale.decision());
        assert!(begin.elapsed() <= wait_max, "{:?}", begin.elapsed());
    }
    tokio::time::sleep(s(17)).await;

    proxy.get(LATEST).await.assert_is(&new.manifest.blob);
    assert_eq!(hub.heads(LATEST).len(), 3, "one question was limited, and one more asked");
}

/// Another Larder gives up a silent one after 15 s and would think it down. It can wait itself.
#[tokio::test(start_paused = true)]
async fn another_larder_is_told_of_a_limit_that_is_long() {
    let via = [("Via", "1.1 larder-0123456789abcdef")];
    for (seconds, is_waited_out) in [(1, true), (8, true), (11, false), (20, false)] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[]);
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = Proxy::before(&hub).await;
        hub.breaks(When::asked("/v2/").nth(1), limit(429, Some(&seconds.to_string())));

        let reply = proxy.get_with(LATEST, &via).await;

        if is_waited_out {
            reply.assert_is(&image.manifest.blob);
        } else {
            reply.error(429);
            assert_eq!(reply.header("retry-after"), Some(&*seconds.to_string()));
        }
    }
}

/// Clients wait for one answer, however many questions it takes.
#[tokio::test(start_paused = true)]
async fn the_limits_of_all_questions_of_a_pull_share_one_wait() {
    let image = Image::random(1, &[]);
    for second in ["manifests/sha256:", "/token"] {
        let hub = ScriptedRegistry::new();
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = mirror(&hub).await;
        hub.breaks(When::asked("manifests/latest").nth(1), limit(429, Some("15")));
        hub.breaks(When::asked(second).nth(1), limit(429, Some("15")));
        let begin = Instant::now();

        let status = proxy.get(LATEST).await.status.as_u16();

        assert!(matches!(status, 429 | 504), "{second}: {status}");
        assert!(begin.elapsed() <= DEADLINE, "{second}: {:?}", begin.elapsed());
        tokio::time::sleep(s(10)).await;
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    }
}

/// A tag that is too old to be served is as good as none.
#[tokio::test(start_paused = true)]
async fn an_expired_tag_waits_for_the_end_of_a_limit_like_a_cold_one() {
    for (status, retry_after, held) in SHORT {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[]);
        hub.put_image(REPOSITORY, "latest", &image);
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub).tags.max_stale = s(3600);
        let proxy = setup.start().await;
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        tokio::time::advance(s(7200)).await;
        hub.breaks(When::asked("/v2/").nth(1), limit(status, retry_after));
        let begin = Instant::now();

        let reply = proxy.get(LATEST).await;

        reply.assert_is(&image.manifest.blob);
        assert!(!reply.decision().is_stale(), "{:?}", reply.decision());
        assert!(begin.elapsed() >= held, "{status} with {retry_after:?}");
    }
}
