//! The metrics count what happens, and those that are shown, documented and drawn are the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use http::Method;
use larder::admin::{CATALOGUE, MetricKind};
use larder::store::{IndexOptions, IndexState};
use serde_json::Value;

use crate::support::metrics::{Metrics, ask};
use crate::support::{
    Blob, Fault, Gate, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL, When, settle,
};

const REPOSITORY: &str = "secret-team/app";
const HUB: (&str, &str) = ("registry", "docker.io");

async fn mirrored() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[100_000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    (hub, image, proxy)
}

/// The two numbers that say what a cache is worth.
#[tokio::test(start_paused = true)]
async fn bytes_are_counted_on_both_sides() {
    let (_hub, image, proxy) = mirrored().await;
    let size: usize = image.blobs().map(Blob::len).sum::<usize>() + image.manifest.blob.len();
    for _ in 0..3 {
        proxy.pull(REPOSITORY, "latest", &image).await;
        for blob in image.blobs() {
            proxy.until_stored(&blob.digest).await;
        }
    }

    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("larder_sent_bytes_total", &[HUB]), 3 * size as u64);
    let hits = [HUB, ("decision", "hit")];
    assert_eq!(metrics.sum("larder_sent_bytes_total", &hits), 2 * size as u64);
    assert_eq!(metrics.value("larder_upstream_received_bytes_total", &[HUB]), size as u64);
    assert_eq!(metrics.value("larder_fills_running", &[]), 0);
    assert_eq!(metrics.value("larder_fills_ended_total", &[HUB, ("result", "stored")]), 2);
    let took = [("route", "blob")];
    assert_eq!(metrics.value("larder_request_duration_seconds_count", &took), 6);
    assert_eq!(metrics.value("larder_request_first_byte_seconds_count", &took), 6);
}

/// Requests to an upstream are counted, since its operator limits them.
#[tokio::test(start_paused = true)]
async fn upstream_requests_are_counted_by_class_and_result() {
    let (hub, image, proxy) = mirrored().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    proxy.get("/v2/secret-team/app/manifests/none").await.error(404);
    hub.breaks(When::asked("/tags/list"), Fault::status(500));
    proxy.get("/v2/secret-team/app/tags/list").await.error(502);

    let metrics = proxy.metrics().await;
    let count = |class, result| {
        let labels = [HUB, ("class", class), ("result", result)];
        metrics.value("larder_upstream_requests_total", &labels)
    };
    assert_eq!(count("blob", "2xx"), 2);
    assert_eq!(count("manifest-get", "2xx"), 1);
    assert_eq!((count("manifest-head", "2xx"), count("manifest-head", "4xx")), (1, 1));
    assert_eq!(count("list", "5xx"), 3, "tries are counted one by one");
    let heads = [HUB, ("class", "list")];
    assert_eq!(metrics.value("larder_upstream_head_seconds_count", &heads), 3);
}

/// Docker Hub says how many pulls are left; an operator wants to know before they are none.
#[tokio::test(start_paused = true)]
async fn the_pulls_left_at_docker_hub_are_a_metric() {
    let (hub, image, proxy) = mirrored().await;
    assert_eq!(proxy.metrics().await.sum("larder_upstream_ratelimit_limit", &[HUB]), 0);
    hub.breaks(When::asked("/manifests/"), header("ratelimit-limit", "100;w=21600"));
    hub.breaks(When::asked("/manifests/"), header("ratelimit-remaining", "76;w=21600"));
    proxy.pull(REPOSITORY, "latest", &image).await;

    let metrics = proxy.metrics().await;
    for (name, value) in [("limit", 100), ("remaining", 76), ("window_seconds", 21600)] {
        let name = format!("larder_upstream_ratelimit_{name}");
        assert_eq!(metrics.value(&name, &[HUB, ("login", "1")]), value, "{name}");
    }
}

/// How large the cache is, and whether that can be believed.
#[tokio::test]
async fn the_size_and_state_of_the_index_are_metrics() {
    let mut setup = Setup::new();
    setup.registry("docker.io", &ScriptedRegistry::new());
    let cache = setup.settings.store.dir.clone();
    for number in 1..=3 {
        let blob = Blob::random(number, 2000);
        let dir = cache.join("blobs/sha256").join(&blob.digest.hex()[..2]);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(blob.digest.hex()), &blob.bytes).unwrap();
    }
    setup.settings.store.index = Some(IndexOptions { checker: None });
    let proxy = setup.start().await;
    let is_ready = || proxy.store_report().index.state == IndexState::Ready;
    proxy.until(is_ready, "the index is not ready").await;

    let metrics = proxy.metrics().await;

    let count = |kind| metrics.value("larder_store_entries", &[("kind", kind)]);
    assert_eq!([count("content"), count("manifest"), count("tag")], [3, 0, 0]);
    assert_eq!(metrics.value("larder_store_bytes", &[]), 6000);
    assert_eq!(metrics.value("larder_index_state", &[("state", "ready")]), 1);
    assert_eq!(metrics.sum("larder_index_state", &[]), 1);
    assert_eq!(metrics.value("larder_index_comparisons_total", &[]), 1);
    assert_eq!(metrics.value("larder_index_set_aside_total", &[]), 0);
}

/// Without an index the size of the store is not known; a zero would be a lie.
#[tokio::test(start_paused = true)]
async fn without_an_index_no_size_is_shown() {
    let (_hub, image, proxy) = mirrored().await;
    proxy.pull(REPOSITORY, "latest", &image).await;

    let metrics = proxy.metrics().await;

    let has = |name: &str| metrics.samples.iter().any(|sample| sample.name == name);
    assert!(!has("larder_store_entries") && !has("larder_store_bytes"));
    assert_eq!(metrics.value("larder_index_state", &[("state", "off")]), 1);
}

fn header(name: &'static str, value: &str) -> Fault {
    Fault::Header(name, value.to_owned())
}

/// An answer that was cut is what promise 1 looks like; a client that left is no fault.
#[tokio::test(start_paused = true)]
async fn answers_that_did_not_end_are_counted() {
    let (hub, _image, proxy) = mirrored().await;
    let wrong = Blob::random(5, 300_000);
    hub.put_blob(REPOSITORY, &wrong);
    hub.breaks(When::asked(&wrong.digest), Fault::FlipByte(crate::support::Place::Middle));
    let gate = Gate::new();
    hub.breaks(When::asked(&wrong.digest), Fault::HoldAt(200_000, gate.clone()));

    let clients = proxy.get_often(&wrong.path(REPOSITORY), 1);
    gate.reached().await;
    // A fill that ends before its client has heard of it is answered with 502, whole.
    settle().await;
    gate.open();

    assert!(!clients.join_all().await[0].is_complete());
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.value("larder_unfinished_answers_total", &[HUB, ("end", "cut")]), 1);
    assert_eq!(metrics.value("larder_fills_ended_total", &[HUB, ("result", "corrupt")]), 1);
}

/// A person who may see the metrics may perhaps not see what is pulled; and names that clients make
/// up must not fill the memory of Prometheus.
#[tokio::test(start_paused = true)]
async fn no_metric_label_holds_text_of_a_client() {
    let (_hub, image, proxy) = mirrored().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    let before = proxy.metrics().await.samples.len();
    for number in 0..200 {
        proxy.get(&format!("/v2/made-up-{number}/x/manifests/v{number}")).await;
        proxy.get(&format!("/v2/x/y/manifests/z?ns=made-up-{number}.test")).await;
        proxy.get(&format!("/made-up-{number}/v2/")).await;
    }

    let admin = proxy.admin();
    for path in ["/metrics", "/readyz"] {
        let reply = ask(&admin, Method::GET, path, "*/*").await;
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert!(!text.contains("secret-team") && !text.contains("made-up"), "{text}");
    }
    let after = proxy.metrics().await.samples.len();
    assert!(after - before < 20, "{} more series", after - before);
}

/// A reload must not read as a restart.
#[tokio::test(start_paused = true)]
async fn counters_outlive_a_reload_also_of_what_has_changed() {
    let (_hub, image, mut proxy) = mirrored().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    let before = proxy.metrics().await;
    proxy.reload(|settings| settings.registries[0].upstream.max_connections += 1);

    let after = proxy.metrics().await;
    for name in ["larder_requests_total", "larder_upstream_requests_total"] {
        assert!(before.sum(name, &[HUB]) > 0);
        assert_eq!(after.sum(name, &[HUB]), before.sum(name, &[HUB]), "{name}");
    }
}

/// Prometheus asks for `OpenMetrics` when it can.
#[tokio::test(start_paused = true)]
async fn the_format_is_the_one_that_is_asked_for() {
    let (_hub, _image, proxy) = mirrored().await;
    let accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5";
    let open = ask(&proxy.admin(), Method::GET, "/metrics", accept).await;
    let media_type = open.header("content-type").unwrap();
    assert!(media_type.starts_with("application/openmetrics-text; version=1.0.0"), "{media_type}");
    assert!(open.body.ends_with(b"# EOF\n"));
}

/// Every metric in the catalogue is shown, with its type and its labels, and no other.
#[tokio::test(start_paused = true)]
async fn everything_in_the_catalogue_is_shown_and_nothing_else() {
    let (_hub, image, proxy) = mirrored().await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    let metrics = proxy.metrics().await;

    let shown: BTreeSet<&str> = metrics.types.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    assert_eq!(shown, known);
    for metric in CATALOGUE {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        assert_eq!(metrics.types[metric.name], kind, "{}", metric.name);
        assert_eq!(metrics.help[metric.name], metric.help);
    }
    for sample in &metrics.samples {
        let metric = CATALOGUE.iter().find(|metric| family_of(&sample.name) == metric.name);
        let metric = metric.unwrap_or_else(|| panic!("{sample:?}"));
        let labels = sample.labels.keys().map(String::as_str).filter(|label| *label != "le");
        let known: BTreeSet<&str> = metric.labels.iter().copied().collect();
        assert_eq!(labels.collect::<BTreeSet<_>>(), known, "{sample:?}");
    }
}

/// An operator reads the documents, not the code.
#[test]
fn the_documents_have_every_metric_with_its_labels() {
    let text = read("docs/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<(String, String)> = rows
        .filter_map(|row| {
            let mut cells = row.split('|').map(|cell| cell.replace('`', "").trim().to_owned());
            let (name, labels) = (cells.next()?, cells.nth(1)?);
            let is_metric = name.starts_with("larder_") || name.starts_with("process_");
            is_metric.then_some((name, labels))
        })
        .collect();
    let known = CATALOGUE.iter().map(|it| (it.name.to_owned(), it.labels.join(", ")));
    assert_eq!(documented, known.collect());
}

/// A panel that asks for what is not there shows nothing, and nothing looks well.
#[test]
fn the_board_and_the_alerts_ask_for_what_is_there() {
    let board: Value = serde_json::from_str(&read("docs/grafana.json")).unwrap();
    let mut questions = Vec::new();
    expressions(&board, &mut questions);
    assert!(questions.len() > 10, "{questions:?}");
    let alerts = read("docs/alerts.yml");
    questions.extend(alerts.lines().filter_map(|line| {
        line.trim().strip_prefix("expr:").map(|question| question.trim().to_owned())
    }));
    // `up` is of Prometheus itself.
    for question in questions.iter().filter(|question| !question.starts_with("up{")) {
        let names = names_in(question);
        assert!(!names.is_empty(), "{question}");
        for name in names {
            let metric = CATALOGUE.iter().find(|metric| {
                let parts = ["_bucket", "_sum", "_count"];
                match metric.kind {
                    MetricKind::Histogram => {
                        name.strip_prefix(metric.name).is_some_and(|it| parts.contains(&it))
                    }
                    MetricKind::Counter | MetricKind::Gauge => name == metric.name,
                }
            });
            let metric = metric.unwrap_or_else(|| panic!("{name} is not shown: {question}"));
            for label in labels_in(question) {
                let others = ["le", "job", "instance"];
                let known = metric.labels.contains(&label.as_str()) || others.contains(&&*label);
                assert!(known, "{name} has no {label}: {question}");
            }
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The queries of all panels and variables.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let queries = ["expr", "query"].iter().filter_map(|key| fields.get(*key)?.as_str());
            found.extend(queries.filter(|it| it.contains("larder_")).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn words(question: &str) -> impl Iterator<Item = &str> {
    question.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

fn names_in(question: &str) -> BTreeSet<&str> {
    words(question).filter(|it| it.starts_with("larder_") || it.starts_with("process_")).collect()
}

/// The labels of `{…}` and `by (…)`, which here are about all metrics of the question.
fn labels_in(question: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for part in question.split('{').skip(1) {
        let inner = part.split('}').next().unwrap_or_default();
        labels.extend(inner.split(',').filter_map(|it| it.split(['=', '!']).next()).map(trimmed));
    }
    for part in question.split("by (").skip(1) {
        let inner = part.split(')').next().unwrap_or_default();
        labels.extend(inner.split(',').map(trimmed));
    }
    labels.remove("");
    labels
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}

fn family_of(name: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"];
    let family = parts.iter().find_map(|part| name.strip_suffix(part));
    family.filter(|it| CATALOGUE.iter().any(|metric| metric.name == *it)).unwrap_or(name)
}

/// Setting a registry up is no request.
#[tokio::test(start_paused = true)]
async fn metrics_begin_at_zero_before_the_first_request() {
    let mut setup = Setup::new();
    let hub = ScriptedRegistry::new();
    setup.registry("docker.io", &hub);
    let proxy = setup.start().await;
    tokio::time::advance(TAG_TTL).await;

    let metrics: Metrics = proxy.metrics().await;

    assert_eq!(metrics.sum("larder_requests_total", &[]), 0);
    assert_eq!(metrics.value("larder_upstream_received_bytes_total", &[HUB]), 0);
    assert!(metrics.value("larder_disk_size_bytes", &[]) > 0);
    assert!(metrics.value("process_resident_memory_bytes", &[]) > 0);
    hub.assert_not_asked();
}
