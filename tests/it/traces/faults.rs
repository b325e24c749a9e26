//! Collectors that hang, refuse or are away cost spans, and never a request.

use std::time::Duration;

use tokio::time::Instant;

use super::collector::{Collector, HOST, Mood};
use crate::support::{Image, Proxy, Reach, ScriptedRegistry, Setup};

const MANIFEST: &str = "/v2/library/app/manifests/latest";

async fn start() -> (Collector, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.put_image("library/app", "latest", &Image::random(1, &[50_000]));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let collector = Collector::before(&mut setup);
    let proxy = setup.start().await;
    (collector, proxy)
}

/// Hits, of which each is one span.
async fn hit(proxy: &Proxy, times: usize) {
    for _ in 0..times {
        proxy.get(MANIFEST).await.assert_status(200);
    }
}

async fn spans(proxy: &Proxy, result: &str) -> u64 {
    proxy.metrics().await.value("larder_trace_spans_total", &[("result", result)])
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_delays_nothing_and_costs_bounded_memory() {
    let (collector, proxy) = start().await;
    collector.be(Mood::Hung);
    hit(&proxy, 1).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(collector.heads().len(), 1, "it has been asked, and hangs");

    let began = Instant::now();
    hit(&proxy, 3000).await;
    assert!(began.elapsed() < Duration::from_secs(1), "no request has waited");
    let lost = spans(&proxy, "lost").await;
    assert_eq!(lost, 3000 - 2048, "the queue is full, and the rest is lost");

    let began = Instant::now();
    proxy.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_again_when_the_collector_can_take_it() {
    let (collector, proxy) = start().await;
    for (mood, at_least) in [
        (Mood::Status(503, None), Duration::ZERO),
        (Mood::Status(429, Some(20)), Duration::from_secs(20)),
    ] {
        let (had, sent) = (collector.seen().len(), spans(&proxy, "sent").await);
        collector.be(mood);
        proxy.get("/v2/").await.assert_status(200);
        tokio::time::sleep(Duration::from_secs(6)).await;
        let began = Instant::now();
        collector.be(Mood::Willing);
        while collector.seen().len() == had {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        assert!(began.elapsed() + Duration::from_secs(2) > at_least, "{:?}", began.elapsed());
        assert_eq!(collector.seen().len(), had + 1);
        assert_eq!(spans(&proxy, "sent").await, sent + 1);
    }
    assert_eq!(spans(&proxy, "lost").await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_collector_refuses_is_not_sent_again() {
    let (collector, proxy) = start().await;
    collector.be(Mood::Status(400, None));
    proxy.get("/v2/").await.assert_status(200);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(collector.heads().len(), 1);
    assert_eq!(spans(&proxy, "refused").await, 1);

    collector.be(Mood::Partial(2));
    for _ in 0..3 {
        proxy.get("/v2/").await.assert_status(200);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(collector.heads().len(), 2);
    assert_eq!((spans(&proxy, "refused").await, spans(&proxy, "sent").await), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_is_given_up_and_found_again() {
    let (collector, proxy) = start().await;
    for reach in [Reach::Down, Reach::Dark] {
        let (had, lost) = (collector.seen().len(), spans(&proxy, "lost").await);
        proxy.network.set(HOST, reach);
        proxy.get("/v2/").await.assert_status(200);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(spans(&proxy, "lost").await, lost + 1);

        proxy.network.set(HOST, Reach::Up);
        proxy.get("/v2/").await.assert_status(200);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(collector.seen().len(), had + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_what_there_is() {
    let (collector, proxy) = start().await;
    hit(&proxy, 600).await;
    proxy.stop().await;
    let requests = collector.seen().iter().filter(|it| !it.get("http.route").is_empty()).count();
    assert_eq!(requests, 600);
}
