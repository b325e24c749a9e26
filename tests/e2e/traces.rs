//! Traces, as the OpenTelemetry Collector's own receiver understands them.

use serde_json::Value;

use crate::support::curl::Curl;
use crate::support::image::Image;
use crate::support::larder::Setup;
use crate::support::process::Process;
use crate::support::registry::{DISTRIBUTION, Guard, Registry};
use crate::support::tools::{command, requires};
use crate::support::wait;
use crate::support::work::Work;

/// Built from `tests/tools/otlp-receiver`.
const COLLECTOR: &[&str] = &["otlp-receiver"];

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[test]
fn a_collector_gets_a_pull_as_a_part_of_its_clients_trace() {
    let test = requires!(DISTRIBUTION, COLLECTOR);
    let image = Image::alpine();
    let work = Work::new(test);
    let registry = Registry::start(&work, &Guard::Open);
    let port = wait::free_port();
    let mut collector = command("otlp-receiver");
    collector.arg(format!("127.0.0.1:{port}"));
    let log = work.log("collector.log");
    let mut collector = Process::spawn("otlp-receiver", &collector, &log);
    collector.wait_until_ready(|| wait::answers(port));
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SERVICE_NAME", "mirror")];
    let upstream = registry.url();
    let mut larder = Setup { variables: &variables, ..Setup::new(&work, &upstream) }.start();

    let path = format!("{}/manifests/{}", image.repository, image.tag);
    let parent = format!("traceparent: 00-{TRACE}-{SPAN}-01");
    let reply = Curl::get(&larder.url(&path)).arg("-H").arg(parent).send();
    assert_eq!(reply.status, 200, "{}", reply.trouble);
    larder.stop();

    let written = std::fs::read_to_string(log.with_extension("out")).expect("it writes there");
    let batches = written.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let batches: Vec<_> = batches.collect();
    let resource = &batches[0]["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(attribute(resource, "service.name"), "mirror", "{written}");
    let spans = batches.iter().flat_map(|batch| {
        batch["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().into_iter().flatten()
    });
    let (requests, calls): (Vec<_>, Vec<_>) =
        spans.filter(|span| span["traceId"] == TRACE).partition(|span| span["kind"] == 2);
    let [request] = &requests[..] else { panic!("{written}") };
    assert_eq!(request["parentSpanId"], SPAN);
    assert_eq!(request["name"], "GET /v2/{name}/manifests/{reference}");
    assert_eq!(attribute(&request["attributes"], "larder.repository"), image.repository);
    assert!(!calls.is_empty(), "{written}");
    for call in calls {
        assert_eq!((&call["kind"], &call["parentSpanId"]), (&3.into(), &request["spanId"]));
        assert_eq!(attribute(&call["attributes"], "server.address"), "127.0.0.1");
    }
}

/// The text of an attribute.
fn attribute<'v>(attributes: &'v Value, name: &str) -> &'v str {
    let mut all = attributes.as_array().into_iter().flatten();
    let found = all.find(|it| it["key"] == name);
    found.and_then(|it| it["value"]["stringValue"].as_str()).unwrap_or_default()
}
