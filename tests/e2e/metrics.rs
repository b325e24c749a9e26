//! Prometheus' own tool reads what Larder shows, and the alerts that come with it.

use std::fs::File;
use std::path::Path;

use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::larder::Larder;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{command, requires, run};
use crate::support::work::Work;

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_of_a_busy_larder() {
    let test = requires!(DISTRIBUTION, PROMTOOL);
    let image = Image::debian();
    let work = Work::new(test);
    let mut upstream = Registry::start(&work, &Guard::Open);
    let larder = Larder::mirror(&work, &upstream.url(), "");
    let latest = larder.url(&format!("{}/manifests/{}", image.repository, image.tag));
    for _ in 0..2 {
        assert_eq!(Curl::get(&latest).send().status, 200);
        for blob in image.blobs() {
            let url = larder.url(&format!("{}/blobs/{blob}", image.repository));
            assert_eq!(Curl::get(&url).send().status, 200);
        }
    }
    assert_eq!(Curl::get(&larder.url("none/such/manifests/v1")).send().status, 404);
    upstream.stop();
    assert!(Curl::get(&latest).send().cache_status().contains("ttl=-"));

    let (plain, ready) = (work.log("metrics.txt"), work.log("ready.json"));
    assert_eq!(Curl::get(&larder.admin_url("metrics")).to(&plain).send().status, 200);
    assert_eq!(Curl::get(&larder.admin_url("readyz")).to(&ready).send().status, 200);

    let shown = std::fs::read_to_string(&plain).expect("curl wrote it");
    assert!(shown.contains("decision=\"stale\",detail=\"upstream-unavailable\""), "{shown}");
    let metrics = File::open(&plain).expect("curl wrote it");
    let said = run(command("promtool").args(["check", "metrics"]).stdin(metrics));
    assert_eq!(said.as_deref(), Ok(""), "promtool finds something");
}

#[test]
fn promtool_understands_the_alerts() {
    requires!(PROMTOOL);
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yml");
    let said = run(command("promtool").args(["check", "rules"]).arg(alerts));
    println!("{}", said.expect("the rules are right"));
}

/// Debian has it in the package `prometheus`.
const PROMTOOL: &[&str] = &["promtool"];
