//! How a request was answered is said in three places, and must be the same in all of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use http::Method;
use larder::cache::Decision;
use larder::store::SpaceAmount;
use larder::upstream::ProxyCredential;
use serde_json::Value;

use crate::support::image::SCHEMA_1;
use crate::support::log::Log;
use crate::support::metrics::Metrics;
use crate::support::{Auth, Blob, Fault, Gate, Image, Manifest, Proxy, Reach, Reply};
use crate::support::{ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/app";

/// More than any disk has.
const HUGE: u64 = 1 << 60;

/// A word and its detail, and how many answers were decided so.
type Told = BTreeMap<(String, String), usize>;

/// Every way in which a request can be decided, each brought about once or more.
struct World {
    hub: ScriptedRegistry,
    /// As many others, each to fail in a way of its own.
    others: Vec<(&'static str, ScriptedRegistry)>,
    image: Image,
    proxy: Proxy,
    replies: Vec<Reply>,
}

impl World {
    async fn new() -> Self {
        let image = Image::random(1, &[100_000]);
        let hub = ScriptedRegistry::new();
        hub.put_image(REPOSITORY, "latest", &image);
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub);
        let mut others = Vec::new();
        let names =
            ["down.test", "slow.test", "busy.test", "locked.test", "offline.test", "spent.test"];
        for name in names {
            let registry = ScriptedRegistry::new();
            if name == "spent.test" {
                for (name, count) in [("ratelimit-limit", 100), ("ratelimit-remaining", 5)] {
                    let states = Fault::Header(name, format!("{count};w=21600"));
                    registry.breaks(When::asked("/manifests/"), states);
                }
            }
            registry.put_image(REPOSITORY, "latest", &image);
            setup.registry(name, &registry).upstream.credential = ProxyCredential::Basic {
                username: "robot".to_owned(),
                password: "pa55word".into(),
            };
            others.push((name, registry));
        }
        let lazy = ScriptedRegistry::new();
        lazy.put_image(REPOSITORY, "latest", &image);
        setup.registry("lazy.test", &lazy).rules.fill_on_range = false;
        let pushed = ScriptedRegistry::new();
        pushed.put_image(REPOSITORY, "latest", &image);
        setup.registry("push.test", &pushed).rules.push = true;
        let proxy = setup.start().await;
        Self { hub, others, image, proxy, replies: Vec::new() }
    }

    async fn get(&mut self, path: &str) {
        let reply = self.proxy.get(path).await;
        self.replies.push(reply);
    }

    /// A world in which every decision was made, and logged.
    async fn with_every_decision(log: &Log) -> Self {
        let mut world = Self::new().await;
        world.proxy.log_requests(log);
        world.with_pushes().await;
        world.with_a_healthy_upstream().await;
        world.with_a_lazy_puller().await;
        world.while_blobs_arrive().await;
        world.with_ailing_upstreams().await;
        world.with_an_ailing_disk().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world
    }

    /// The actions that only the registry can carry out.
    async fn with_pushes(&mut self) {
        let uploads = "/push.test/v2/library/other/blobs/uploads/";
        let mount = &self.image.layers[0].digest;
        for path in [uploads.to_owned(), format!("{uploads}?mount={mount}&from={REPOSITORY}")] {
            let reply = self.proxy.call(Method::POST, &path).await;
            self.replies.push(reply);
        }
    }

    /// Hits, misses and revalidations, and what makes stale answers.
    async fn with_a_healthy_upstream(&mut self) {
        let latest = format!("/v2/{REPOSITORY}/manifests/latest");
        self.get(&latest).await;
        self.get(&latest).await;
        for (name, _) in &self.others {
            let path = format!("/v2/{name}/{REPOSITORY}/manifests/latest");
            self.replies.push(self.proxy.get(&path).await);
        }
        tokio::time::advance(TAG_TTL * 2).await;
        self.get(&latest).await;
        let head = self.proxy.head(&self.image.layers[0].path(REPOSITORY)).await;
        self.replies.push(head);
        let signed = r#"{"schemaVersion":1,"signatures":[]}"#;
        self.hub.put_tagged(REPOSITORY, "old", &Manifest::raw(SCHEMA_1, signed));
        self.hub.breaks(When::asked("/manifests/old"), Fault::NoDigestHeader);
        self.get(&format!("/v2/{REPOSITORY}/manifests/old")).await;
    }

    /// A range that is not to begin a fill.
    async fn with_a_lazy_puller(&mut self) {
        let path = format!("/v2/lazy.test/{REPOSITORY}/blobs/{}", self.image.layers[0].digest);
        let reply = self.proxy.get_with(&path, &[("range", "bytes=0-9")]).await;
        self.replies.push(reply);
    }

    /// Ranges of blobs that are on their way, and who joins them.
    async fn while_blobs_arrive(&mut self) {
        for range in [None, Some(("range", "bytes=0-9"))] {
            let blob = Blob::random(if range.is_some() { 7 } else { 8 }, 200_000);
            self.hub.put_blob(REPOSITORY, &blob);
            let gate = Gate::new();
            self.hub.breaks(When::asked(&blob.digest), Fault::HoldAt(1000, gate.clone()));
            let (path, headers) = (blob.path(REPOSITORY), Vec::from_iter(range));
            let first = tokio::spawn(self.proxy.client.get_with(&path, &headers));
            gate.reached().await;
            let second = tokio::spawn(self.proxy.client.get_with(&path, &headers));
            crate::support::settle().await;
            gate.open();
            self.replies.extend([first.await.unwrap(), second.await.unwrap()]);
        }
    }

    /// Each registry fails in its own way, and what is held of it is served.
    async fn with_ailing_upstreams(&mut self) {
        self.proxy.network.set("down.test", Reach::Down);
        self.proxy.network.set("slow.test", Reach::Dark);
        let limit = vec![("Retry-After", "3600".to_owned())];
        let busy = Fault::Status(429, limit, "toomanyrequests");
        for (name, registry) in &self.others {
            match *name {
                "busy.test" => registry.breaks(When::asked("/v2/"), busy.clone()),
                "locked.test" => registry.requires(Auth::basic("robot", "another")),
                _ => {}
            }
        }
        self.proxy.reload(|settings| {
            let offline = settings.registries.iter_mut().find(|it| it.name.as_str() == OFFLINE);
            offline.unwrap().rules.offline = true;
        });
        for (name, _) in &self.others {
            let path = format!("/v2/{name}/{REPOSITORY}/manifests/latest");
            self.replies.push(self.proxy.get(&path).await);
        }
    }

    /// A blob that fits on no disk, and a disk on which nothing can be made.
    async fn with_an_ailing_disk(&mut self) {
        let huge = Blob::random(9, 10);
        self.hub.put_blob(REPOSITORY, &huge);
        let length = vec![("Content-Length", HUGE.to_string())];
        self.hub.breaks(When::asked(&huge.digest), Fault::Status(200, length, "no such length"));
        self.get(&huge.path(REPOSITORY)).await;

        let fills = self.proxy.cache_dir().join("fills");
        fs::remove_dir_all(&fills).unwrap();
        fs::write(&fills, "in the way").unwrap();
        let blob = Blob::random(10, 10);
        self.hub.put_blob(REPOSITORY, &blob);
        self.get(&blob.path(REPOSITORY)).await;
    }
}

const OFFLINE: &str = "offline.test";

/// Reads `Cache-Status` in the words of the log and the metrics, without the product's own table.
fn told_by_header(reply: &Reply) -> (String, String) {
    let decision = reply.decision();
    let word = match () {
        () if decision.is_stale() => "stale",
        () if decision.is_hit() => "hit",
        () if decision.is_bypass() => "bypass",
        () if decision.is_miss() && decision.is_collapsed() => "collapsed",
        () if decision.is_miss() => "miss",
        () if decision.get("fwd") == Some("stale") => "revalidated",
        () if decision.get("fwd") == Some("method") => "relayed",
        () => panic!("{decision:?}"),
    };
    (word.to_owned(), decision.get("detail").unwrap_or_default().to_owned())
}

fn told_by_line(line: &Value) -> (String, String) {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    (text("decision"), text("detail"))
}

/// Counts each sample as often as it says.
fn told_by_metrics(metrics: &Metrics) -> Told {
    let samples = metrics.samples.iter().filter(|it| it.name == "larder_requests_total");
    count(samples.flat_map(|sample| {
        let told = (sample.labels["decision"].clone(), sample.labels["detail"].clone());
        (0..sample.whole()).map(move |_| told.clone())
    }))
}

fn count(told: impl Iterator<Item = (String, String)>) -> Told {
    told.fold(Told::new(), |mut counts, told| {
        *counts.entry(told).or_default() += 1;
        counts
    })
}

/// An operator compares them: what a client reports, what the log has of it, what a graph shows.
#[tokio::test(start_paused = true)]
async fn every_decision_is_the_same_in_header_log_and_metric() {
    let log = Log::capture();
    let world = World::with_every_decision(&log).await;

    let by_header = count(world.replies.iter().map(told_by_header));
    let lines = log.lines("request");
    assert_eq!(count(lines.iter().map(told_by_line)), by_header);
    assert_eq!(told_by_metrics(&world.proxy.metrics().await), by_header);
    let all = Decision::ALL.map(|decision| {
        let names = decision.names();
        (names.word.to_owned(), names.detail.to_owned())
    });
    let missing: Vec<_> = all.iter().filter(|names| !by_header.contains_key(names)).collect();
    assert!(missing.is_empty(), "{missing:?} did not occur: {by_header:?}");
}

/// The words that an operator searches the log for.
#[tokio::test(start_paused = true)]
async fn a_line_says_who_asked_for_what_and_what_became_of_it() {
    let log = Log::capture();
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 100_000);
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    proxy.log_requests(&log);

    let agent = [("user-agent", "containerd/2.0 \u{e9}")];
    proxy.client.get_with(&blob.path(REPOSITORY), &agent).await.assert_is(&blob);
    proxy.get("/v2/library/app/manifests/none?secret=1").await.error(404);
    proxy.get("/nothing/here").await.error(404);
    tokio::time::sleep(Duration::from_secs(1)).await;

    let lines = log.lines("request");
    let [got, refused, unknown] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(got["method"], "GET");
    assert_eq!(got["path"], blob.path(REPOSITORY));
    assert_eq!((&got["route"], &got["registry"]), (&"blob".into(), &"docker.io".into()));
    assert_eq!((&got["repository"], &got["status"]), (&REPOSITORY.into(), &200.into()));
    assert_eq!((&got["bytes"], &got["end"]), (&100_000.into(), &"whole".into()));
    assert_eq!(
        (&got["client"], &got["agent"]),
        (&"127.0.0.1".into(), &r"containerd/2.0 \xc3\xa9".into())
    );
    assert!(got["user"].is_null() && got["received"].is_null(), "{got}");
    assert!(got["duration_ms"].is_number() && got["first_byte_ms"].is_number(), "{got}");
    assert!(refused["request_id"].is_string() && refused["fault"].is_string(), "{refused}");
    assert!(!refused.to_string().contains("secret"), "{refused}");
    assert_eq!((&unknown["route"], &unknown["status"]), (&"unknown".into(), &404.into()));
    assert!(unknown["registry"].is_null() && unknown["decision"].is_null(), "{unknown}");
}

/// An operator asks whether a larger cache would help. A client is not told: it would learn what
/// others have pulled.
#[tokio::test(start_paused = true)]
async fn the_line_of_a_miss_says_whether_it_was_evicted_and_the_header_does_not() {
    const MIB: usize = 1 << 20;
    let log = Log::capture();
    let (hub, mut setup) = (ScriptedRegistry::new(), Setup::new());
    setup.registry("docker.io", &hub);
    setup.settings.store.limits.max_size = Some(SpaceAmount::Bytes(8 * MIB as u64));
    let blobs: Vec<_> = (0..6).map(|seed| Blob::large(seed, 2 * MIB)).collect();
    for blob in &blobs {
        hub.put_blob(REPOSITORY, blob);
    }
    let proxy = setup.start().await;
    proxy.log_requests(&log);
    for blob in &blobs {
        proxy.get(&blob.path(REPOSITORY)).await.assert_is(blob);
        while !proxy.has_stored(&blob.digest) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let evicted = blobs.iter().find(|blob| !proxy.has_stored(&blob.digest)).unwrap();

    for _ in 0..2 {
        let reply = proxy.get(&evicted.path(REPOSITORY)).await;
        reply.assert_is(evicted);
        assert_eq!(reply.decision().get("detail"), None);
        while !proxy.has_stored(&evicted.digest) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    let lines = log.lines("request");
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].as_str()).collect();
    let (first, again) = reasons.split_at(blobs.len());
    assert!(first.iter().all(|reason| *reason == Some("absent")), "{reasons:?}");
    assert_eq!(again, [Some("evicted"), None], "a hit has none");
}

/// Queries compare numbers and words; `Some("x")` and `1.2s` are neither.
#[tokio::test(start_paused = true)]
async fn no_field_of_a_log_line_is_a_debug_string() {
    let log = Log::of_everything();
    let _world = World::with_every_decision(&log).await;

    let mut seen = 0;
    for line in log.text().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if !line["target"].as_str().unwrap().starts_with("larder") {
            continue;
        }
        for (name, value) in line["fields"].as_object().unwrap() {
            assert!(!value.as_str().is_some_and(is_of_debug), "{name} in {line}");
            seen += 1;
        }
    }
    assert!(seen > 300, "{seen} fields");
}

/// Whether a text is a value as `Debug` writes it.
fn is_of_debug(text: &str) -> bool {
    let is_wrapped = ["Some(", "Ok(", "Err(", "\"", "["].iter().any(|it| text.starts_with(it));
    let number = text.trim_end_matches(|c: char| c.is_alphabetic());
    let is_duration =
        number.parse::<f64>().is_ok() && ["ns", "µs", "ms", "s"].contains(&&text[number.len()..]);
    is_wrapped || is_duration || text == "None" || text.contains(" { ")
}

/// An operator sees in the log what the cache is good for, without a scraper.
#[tokio::test(start_paused = true)]
async fn the_log_has_a_line_for_each_hour_with_pulls() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[5000]);
    hub.put_image("team/app", "1.0", &image);
    let log = Log::capture();
    let proxy = Proxy::before(&hub).await;
    let hours = || log.lines("pulls of the last hour");
    proxy.pull("team/app", "1.0", &image).await;
    for blob in image.blobs() {
        proxy.until_filled(&blob.digest).await;
    }
    proxy.pull("team/app", "1.0", &image).await;
    tokio::time::sleep(Duration::from_secs(3601)).await;
    let [hour] = &hours()[..] else { panic!("{:?}", hours()) };
    let requests = hour["requests"].as_u64().unwrap();
    assert_eq!(hour["hits"].as_u64().unwrap() * 2, requests, "{hour}");
    assert_eq!((&hour["stale"], requests > 0), (&0.into(), true), "{hour}");
    assert!(hour["saved"].as_str().unwrap().ends_with("KiB"), "{hour}");

    // Nobody pulls.
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!(hours().len(), 1);
    proxy.pull("team/app", "1.0", &image).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(hours()[1]["requests"], requests / 2);
}
