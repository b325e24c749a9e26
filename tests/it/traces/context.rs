//! W3C Trace Context: continued from clients, and handed on to the upstreams that may know of it.

use super::collector::{Collector, Seen};
use crate::support::{Image, ScriptedRegistry, Setup};

const MANIFEST: &str = "/v2/library/app/manifests/latest";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    let byte = |text: String, byte: &u8| text + &format!("{byte:02x}");
    bytes.iter().fold(String::new(), byte)
}

fn start() -> (ScriptedRegistry, Setup, Collector) {
    let hub = ScriptedRegistry::new();
    hub.put_image("library/app", "latest", &Image::random(1, &[50_000]));
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    let collector = Collector::before(&mut setup);
    (hub, setup, collector)
}

#[tokio::test(start_paused = true)]
async fn a_clients_trace_is_continued_and_handed_on_where_that_is_allowed() {
    let (hub, mut setup, collector) = start();
    setup.settings.registries[0].upstream.trace_context = true;
    let proxy = setup.start().await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let headers = [("traceparent", &*parent), ("tracestate", "rojo=00f067aa0ba902b7")];
    proxy.get_with(MANIFEST, &headers).await.assert_status(200);

    let (requests, calls) = collector.parted().await;
    let request = &requests[0].span;
    assert_eq!((&*hex(&request.trace_id), &*hex(&request.parent_span_id)), (TRACE, SPAN));
    assert_eq!(request.trace_state, "rojo=00f067aa0ba902b7");
    assert_eq!(request.flags, 0x301, "the parent is remote");
    let asked = hub.asked();
    assert_eq!(asked.len(), calls.len());
    for (asked, Seen { span, .. }) in asked.iter().zip(&calls) {
        let parent = format!("00-{TRACE}-{}-01", hex(&span.span_id));
        assert_eq!(asked.header("traceparent"), Some(&*parent));
        assert_eq!(asked.header("tracestate"), Some("rojo=00f067aa0ba902b7"));
    }
}

/// Docker Hub need not know who pulls what together with what.
#[tokio::test(start_paused = true)]
async fn an_upstream_is_told_nothing_unless_it_is_allowed() {
    let (hub, setup, collector) = start();
    let proxy = setup.start().await;
    let parent = format!("00-{TRACE}-{SPAN}-01");
    proxy.get_with(MANIFEST, &[("traceparent", &parent)]).await.assert_status(200);

    assert_eq!(collector.parted().await.1.len(), hub.asked().len());
    for asked in hub.asked() {
        assert_eq!((asked.header("traceparent"), asked.header("tracestate")), (None, None));
    }
}

/// Only the upstream itself: not where its layers are, and not its token server elsewhere.
#[tokio::test(start_paused = true)]
async fn hosts_to_which_an_upstream_points_are_told_nothing() {
    let (hub, mut setup, _collector) = start();
    let storage = ScriptedRegistry::new();
    let image = Image::random(1, &[50_000]);
    storage.put_image("library/app", "latest", &image);
    setup.network.put("storage.test", 80, storage.clone());
    hub.redirect_blobs_to("http://storage.test");
    setup.settings.registries[0].upstream.trace_context = true;
    let proxy = setup.start().await;
    let layer = &image.layers[0];
    proxy.get(&layer.path("library/app")).await.assert_is(layer);

    assert!(hub.asked().iter().all(|asked| asked.header("traceparent").is_some()));
    assert!(!storage.asked().is_empty());
    assert!(storage.asked().iter().all(|asked| asked.header("traceparent").is_none()));
}

/// A client that does not record is not recorded, and its upstreams are told so.
#[tokio::test(start_paused = true)]
async fn the_client_decides_whether_its_trace_is_recorded() {
    let (hub, mut setup, collector) = start();
    setup.settings.registries[0].upstream.trace_context = true;
    setup.settings.traces.as_mut().unwrap().sample_ratio = 0.0;
    let proxy = setup.start().await;
    let parent = |flags: &str| format!("00-{TRACE}-{SPAN}-{flags}");
    proxy.get_with(MANIFEST, &[("traceparent", &parent("00"))]).await.assert_status(200);
    let told = hub.asked()[0].header("traceparent").unwrap().to_owned();
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00"), "{told}");
    proxy.get(MANIFEST).await.assert_status(200);
    assert_eq!(collector.spans().await.len(), 0);

    proxy.get_with(MANIFEST, &[("traceparent", &parent("01"))]).await.assert_status(200);
    assert_eq!(collector.spans().await.len(), 1);
}

/// A header that is no parent begins a trace like any request without one.
#[tokio::test(start_paused = true)]
async fn hostile_parents_cost_nothing() {
    let (_hub, setup, collector) = start();
    let proxy = setup.start().await;
    let long = "0".repeat(20_000);
    let good = format!("00-{TRACE}-{SPAN}-01");
    let state = format!("a={}", "x".repeat(20_000));
    let hostile: [&[(&str, &str)]; 6] = [
        &[("traceparent", &long)],
        &[("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01")],
        &[("traceparent", "\u{e9}\u{e9}-")],
        &[("traceparent", &good), ("traceparent", &good)],
        &[("tracestate", &state)],
        &[("traceparent", &good), ("tracestate", &state)],
    ];
    for headers in hostile {
        proxy.get_with(MANIFEST, headers).await.assert_status(200);
    }

    let (requests, _) = collector.parted().await;
    let remote: Vec<_> = requests.iter().map(|it| hex(&it.span.trace_id) == TRACE).collect();
    assert_eq!(remote, [false, false, false, false, false, true]);
    assert!(requests.iter().all(|it| it.span.trace_state.is_empty()));
    assert!(collector.bytes().len() < 20_000);
}
