//! A real Prometheus scrapes Larder: the alerts fire when they should, and every question of the
//! board has an answer.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::process::Process;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{command, requires, run};
use crate::support::wait;
use crate::support::work::Work;

/// Debian has both in the package `prometheus`.
const PROMTOOL: &[&str] = &["promtool"];
const PROMETHEUS: &[&str] = &["prometheus"];

/// Panels that have nothing to show of a healthy Larder whose upstream states no limit.
const EMPTY_PANELS: [&str; 6] = [
    "Bypass by reason",
    "Pulls left",
    "Rate limit left",
    "Stale answers by reason",
    "Space taken",
    "Unused before eviction",
];

/// Expressions of other panels that have nothing to show: no eviction, no answer that was cut.
const EMPTY_METRICS: [&str; 4] =
    ["larder_index_state", "larder_unfinished", "larder_upstream_backoffs", "larder_evicted_bytes"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each alert once with a Larder about which it fires, and one about which it does not.
#[test]
fn each_alert_fires_when_it_should_and_not_otherwise() {
    let test = requires!(PROMTOOL);
    let work = Work::new(test);
    let alerts = std::fs::read_to_string(root().join("docs/alerts.yml")).expect("readable");
    let cases =
        std::fs::read_to_string(root().join("tests/e2e/alerts.test.yml")).expect("readable");
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for name in names {
        let case = cases.contains(&format!("alertname: {name}\n"));
        assert!(case, "{name} has no case in alerts.test.yml");
    }
    let severities = alerts.matches("          severity: ").count();
    assert_eq!(severities, alerts.matches("- alert: ").count(), "each has a severity");
    work.file("alerts.yml", &alerts);
    let cases = work.file("alerts.test.yml", &cases);
    run(command("promtool").args(["test", "rules"]).arg(cases))
        .expect("alerts fire as they should");
}

/// A Prometheus with the alerts that scrapes one Larder each second.
struct Prometheus {
    url: String,
    answer: std::path::PathBuf,
    _process: Process,
}

impl Prometheus {
    fn start(work: &Work, larder: &Larder) -> Self {
        let target = larder.admin_url("");
        let target = target.trim_start_matches("http://").trim_end_matches('/');
        let alerts = root().join("docs/alerts.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: larder\n    static_configs: [{{ targets: ['{target}'] }}]\n",
            alerts.display()
        );
        let config = work.file("prometheus.yml", &config);
        let port = wait::free_port();
        let mut prometheus = command("prometheus");
        prometheus
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", work.new_dir("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::spawn("prometheus", &prometheus, &work.log("prometheus.log"));
        let url = format!("http://127.0.0.1:{port}");
        let ready = format!("{url}/-/ready");
        process.wait_until_ready(|| Curl::get(&ready).send().status == 200);
        Self { url, answer: work.log("answer.json"), _process: process }
    }

    /// The data of an answer of its API.
    fn ask(&self, path: &str) -> Value {
        let status =
            Curl::get(&format!("{}/api/v1/{path}", self.url)).to(&self.answer).send().status;
        let text = std::fs::read_to_string(&self.answer).expect("curl wrote it");
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!((status, answer["status"].as_str()), (200, Some("success")), "{path}: {text}");
        answer["data"].clone()
    }

    /// The samples that an expression gives.
    fn samples(&self, expression: &str) -> Vec<Value> {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let data = self.ask(&format!("query?query={query}"));
        data["result"].as_array().cloned().unwrap_or_default()
    }
}

/// The panels of the board with their expressions, for this Larder.
fn expressions() -> Vec<(String, String)> {
    let board = std::fs::read_to_string(root().join("docs/grafana.json")).expect("readable");
    let board: Value = serde_json::from_str(&board).expect("the board is JSON");
    let mut found = Vec::new();
    for panel in board["panels"].as_array().expect("there are panels") {
        let title = panel["title"].as_str().expect("a panel has a title");
        for target in panel["targets"].as_array().expect("a panel has targets") {
            let expression = target["expr"].as_str().expect("a target has an expression");
            for selector in ["job=~\"$job\"", "instance=~\"$instance\""] {
                assert!(expression.contains(selector), "{title}: {expression}");
            }
            let expression = expression
                .replace("$job", "larder")
                .replace("$instance", ".*")
                .replace("$registry", ".*")
                .replace("$__rate_interval", "1m")
                .replace("$__range", "1m");
            assert!(!expression.contains('$'), "{title}: {expression}");
            found.push((title.to_owned(), expression));
        }
    }
    found
}

#[test]
fn every_question_of_the_board_and_every_alert_is_answered() {
    let test = requires!(DISTRIBUTION, PROMTOOL, PROMETHEUS);
    let image = Image::debian();
    let work = Work::new(test);
    let upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let prometheus = Prometheus::start(&work, &larder);
    let pull = || {
        let latest = larder.url(&format!("{}/manifests/{}", image.repository, image.tag));
        assert_eq!(Curl::get(&latest).send().status, 200);
        for blob in image.blobs() {
            let url = larder.url(&format!("{}/blobs/{blob}", image.repository));
            assert_eq!(Curl::get(&url).send().status, 200);
        }
        assert_eq!(Curl::get(&larder.url("none/such/manifests/v1")).send().status, 404);
    };
    // Rates are of counters that were scraped before they rose, and after it.
    let seen = "larder_ready{state=\"ready\"} == 1";
    wait::until("it is scraped", wait::DAEMON, || {
        (!prometheus.samples(seen).is_empty()).then_some(())
    });
    let rates = "sum(rate(larder_sent_bytes_total{decision=\"hit\"}[1m])) > 0";
    wait::until("there are rates", Duration::from_secs(90), || {
        pull();
        (!prometheus.samples(rates).is_empty()).then_some(())
    });

    let mut count = 0;
    for (panel, expression) in expressions() {
        count += 1;
        let is_empty = prometheus.samples(&expression).is_empty();
        let may_be = EMPTY_PANELS.contains(&&*panel)
            || EMPTY_METRICS.iter().any(|metric| expression.contains(metric));
        assert!(!is_empty || may_be, "{panel} has no value: {expression}");
    }
    assert!(count > 30, "{count} expressions");

    let is_evaluated = |rule: &Value| rule["health"] == "ok";
    wait::until("alerts are evaluated", wait::DAEMON, || {
        let rules = prometheus.ask("rules");
        let rules = rules["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let bad = rules.iter().find(|rule| rule["health"] == "err");
        assert!(bad.is_none(), "{bad:?}");
        (rules.len() > 20 && rules.iter().all(is_evaluated)).then_some(())
    });
    let firing = prometheus.samples("ALERTS{alertstate=\"firing\"}");
    assert!(firing.is_empty(), "nothing is wrong: {firing:?}");
}
