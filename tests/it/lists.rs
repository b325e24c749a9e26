//! `tags/list`: whole and in pages, cached, and linked to by the door that the client came in by.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    Fault, Image, Proxy, Reach, Reply, STALE_WAIT, ScriptedRegistry, Setup, TAG_TTL,
};
use crate::support::{Gate, When, settle};

const LIST: &str = "/v2/library/alpine/tags/list";
const HOST: &str = "registry-1.docker.io";
/// Bytes that no serialiser would choose.
const TAGS: &str = "{ \"name\":\"library/alpine\",\n \"tags\":[\"3.20\",\"latest\"] }\n";

/// Answers every list with `TAGS` and a `Link`.
fn lists(hub: &ScriptedRegistry, needle: &str, link: Option<&str>) {
    let headers = link.map(|link| ("Link", link.to_owned())).into_iter().collect();
    hub.breaks(When::asked(needle), Fault::Status(200, headers, TAGS));
}

async fn mirror(link: Option<&str>) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    lists(&hub, "/tags/list", link);
    let proxy = Proxy::before(&hub).await;
    (hub, proxy)
}

#[track_caller]
fn assert_tags(reply: &Reply) {
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, TAGS));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// The path and query of the link to the next page.
fn next_of(reply: &Reply) -> Option<String> {
    let link = reply.header("link")?;
    let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
    Some(target.unwrap_or_else(|| panic!("{link}")).to_owned())
}

/// Renovate asks for the same lists from many jobs.
#[tokio::test(start_paused = true)]
async fn a_list_is_asked_for_once_in_its_ttl_and_then_again() {
    let (hub, proxy) = mirror(None).await;
    for (wait, asked) in [(0, 1), (1, 1), (TAG_TTL.as_secs() + 1, 2)] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        let reply = proxy.get(LIST).await;
        assert_tags(&reply);
        assert!(reply.headers.contains_key("age") && next_of(&reply).is_none());
        assert_eq!(hub.gets("/tags/list").len(), asked, "after {wait} s");
    }
    assert!(proxy.get(LIST).await.decision().is_hit());
    assert!(hub.heads("").is_empty(), "a list has no HEAD");
}

/// A hundred jobs that start together are one question.
#[tokio::test(start_paused = true)]
async fn clients_of_one_list_share_one_upstream_request() {
    let (hub, proxy) = mirror(None).await;
    let gate = Gate::new();
    hub.breaks(When::asked("/tags/list"), Fault::HoldHeaders(gate.clone()));
    let clients = proxy.get_often(LIST, 20);
    gate.reached().await;
    settle().await;
    gate.open();

    for reply in clients.join_all().await {
        assert_tags(&reply);
    }
    assert_eq!(hub.asked().len(), 1);
}

/// A list that is gone in an outage stops every bot that reads it.
#[tokio::test(start_paused = true)]
async fn a_list_is_served_stale_in_an_outage_and_after_a_restart() {
    let (_hub, proxy) = mirror(Some("</v2/library/alpine/tags/list?last=b>; rel=next")).await;
    assert_tags(&proxy.get(LIST).await);
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.network.set(HOST, Reach::Down);

    for round in ["before", "after"] {
        let reply = proxy.get(LIST).await;
        assert_tags(&reply);
        assert!(reply.decision().is_stale(), "{round}: {:?}", reply.decision());
        assert!(reply.header("warning").is_some_and(|text| text.starts_with("299 ")), "{round}");
        assert!(reply.header("age").unwrap().parse::<u64>().unwrap() >= TAG_TTL.as_secs() * 2);
        assert_eq!(next_of(&reply).as_deref(), Some("/v2/library/alpine/tags/list?last=b"));
        proxy.restart().await;
    }
    assert_eq!(proxy.get(&format!("{LIST}?n=7")).await.status, 502, "another page is not known");
}

/// As for tags: a hanging upstream costs the stale wait, and a list too old is none.
#[tokio::test(start_paused = true)]
async fn a_silent_upstream_costs_the_stale_wait_and_max_stale_ends_it() {
    let (_hub, proxy) = mirror(None).await;
    assert_tags(&proxy.get(LIST).await);
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.network.set(HOST, Reach::Dark);

    let begin = Instant::now();
    let reply = proxy.get(LIST).await;
    assert_tags(&reply);
    assert!(reply.decision().is_stale(), "{:?}", reply.decision());
    let waited = begin.elapsed();
    assert!((STALE_WAIT..=STALE_WAIT + Duration::from_millis(50)).contains(&waited), "{waited:?}");

    proxy.network.set(HOST, Reach::Down);
    tokio::time::advance(Duration::from_secs(31 * 24 * 60 * 60)).await;
    assert_eq!(proxy.get(LIST).await.status, 502);
}

/// An upstream that was heard of again is waited for again, whatever it was asked.
#[tokio::test(start_paused = true)]
async fn a_list_that_arrives_in_time_ends_the_short_wait_for_tags() {
    let (hub, proxy) = mirror(None).await;
    let image = Image::random(1, &[10]);
    hub.put_tagged("library/alpine", "latest", &image.manifest);
    let tag = "/v2/library/alpine/manifests/latest";
    assert_tags(&proxy.get(LIST).await);
    proxy.get(tag).await.assert_is(&image.manifest.blob);
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.network.set(HOST, Reach::Dark);
    assert!(proxy.get(LIST).await.decision().is_stale());
    proxy.network.set(HOST, Reach::Up);
    settle().await;

    let decision = proxy.get(tag).await.decision();

    assert!(!decision.is_stale() && !decision.is_hit(), "{decision:?}");
}

/// An upstream's refusal is an answer, and what it refuses is not kept.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_obeyed() {
    for status in [401, 403, 404] {
        let (hub, proxy) = mirror(None).await;
        assert_tags(&proxy.get(LIST).await);
        tokio::time::advance(TAG_TTL * 2).await;
        hub.heal();
        hub.refuse("library/alpine", Some(status));
        hub.breaks(When::asked("/tags/list"), Fault::status(status));
        proxy.get(LIST).await.error(if status == 403 { 403 } else { 404 });
        proxy.network.set(HOST, Reach::Down);
        proxy.restart().await;

        assert_ne!(proxy.get(LIST).await.status, 200, "{status}");
    }
}

/// A client that follows a link must come back to the same repository, by the same door.
#[tokio::test(start_paused = true)]
async fn a_link_leads_in_by_the_door_that_the_client_used() {
    let (hub, ghcr) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    for registry in [&hub, &ghcr] {
        lists(
            registry,
            "/tags/list",
            Some("<https://evil.test/v2/x/tags/list?n=2&last=b>; rel=\"next\""),
        );
    }
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.registry("ghcr.io", &ghcr);
    let proxy = setup.start().await;

    for (asked, want) in [
        ("/v2/alpine/tags/list?n=2", "/v2/alpine/tags/list?n=2&last=b"),
        ("/v2/docker.io/alpine/tags/list?n=2", "/v2/docker.io/alpine/tags/list?n=2&last=b"),
        ("/v2/ghcr.io/o/a/tags/list?n=2", "/v2/ghcr.io/o/a/tags/list?n=2&last=b"),
        ("/ghcr.io/v2/o/a/tags/list?n=2", "/ghcr.io/v2/o/a/tags/list?n=2&last=b"),
        ("/v2/o/a/tags/list?ns=ghcr.io&n=2", "/v2/o/a/tags/list?n=2&last=b&ns=ghcr.io"),
        ("/v2/ghcr.io/a/tags/list?n=2&ns=ghcr.io", "/v2/ghcr.io/a/tags/list?n=2&last=b&ns=ghcr.io"),
    ] {
        let reply = proxy.get(asked).await;
        assert_tags(&reply);
        assert_eq!(next_of(&reply).as_deref(), Some(want), "{asked}");
    }
    let sent: Vec<_> = ghcr.asked().iter().map(|asked| asked.target.clone()).collect();
    assert_eq!(sent, ["/v2/o/a/tags/list?n=2", "/v2/a/tags/list?n=2"], "each once, without ns");
}

/// A tool that reads a shortened list as the whole one deletes, or updates, the wrong thing.
#[tokio::test(start_paused = true)]
async fn every_page_of_tags_is_reached_though_page_keys_are_opaque() {
    let hub = ScriptedRegistry::new();
    lists(&hub, "n=2&last=b&next_page=t%2F2", None);
    lists(&hub, "/tags/list", Some("<?next_page=t%2F2&n=2&last=b>; rel=next"));
    let proxy = Proxy::before(&hub).await;

    let first = proxy.get(&format!("{LIST}?n=2")).await;
    let next = next_of(&first).unwrap();
    assert_eq!(next, format!("{LIST}?n=2&last=b&next_page=t%2F2"));
    let second = proxy.get(&next).await;

    assert_tags(&second);
    assert_eq!(next_of(&second), None, "the second page is the last");
    proxy.network.set(HOST, Reach::Down);
    proxy.restart().await;
    for path in [format!("{LIST}?n=2"), next] {
        assert_tags(&proxy.get(&path).await);
    }
}

/// A link that no client can follow would make the list look whole, or a client walk in circles.
#[tokio::test(start_paused = true)]
async fn a_link_that_leads_nowhere_is_a_fault() {
    let long = format!("<?last={}>; rel=next", "a".repeat(40 << 10));
    for hostile in [
        "<>; rel=next",
        "</v2/library/alpine/tags/list>; rel=next",
        "<javascript:alert(1)>; rel=next",
        "<//evil.test>; rel=\"next\"",
        "<?n=-1>; rel=next",
        "<?n=2&last=b>; rel=next",
        long.as_str(),
    ] {
        let (_hub, proxy) = mirror(Some(hostile)).await;
        let reply = proxy.get(&format!("{LIST}?n=2&last=b")).await;
        reply.error(502);
        assert!(!reply.headers.contains_key("link"), "{hostile:.60}");
    }
}

/// The text of a link is data: it adds no header and closes no bracket.
#[tokio::test(start_paused = true)]
async fn a_link_header_carries_the_upstreams_query_escaped() {
    for (hostile, want) in [
        ("<?last=%0d%0aSet-Cookie:%20a>; rel=next", "last=%0D%0ASet-Cookie%3A+a"),
        ("<?last=\"x>; rel=next", "last=%22x"),
        ("<?last=%3E%3B%20rel%3Dprev>; rel=next", "last=%3E%3B+rel%3Dprev"),
        ("<http://169.254.169.254/?ns=evil.test&last=b>; rel=next", "last=b"),
        ("<file:///etc/passwd?last=b#last=c>; rel=next", "last=b"),
    ] {
        let (_hub, proxy) = mirror(Some(hostile)).await;
        let reply = proxy.get(LIST).await;
        assert_tags(&reply);
        assert_eq!(next_of(&reply), Some(format!("{LIST}?{want}")), "{hostile}");
        assert!(!reply.headers.contains_key("set-cookie"));
    }
}

/// A body that is no list must not be kept as one for a minute, or for a month of outage.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_tag_list_is_a_fault_and_is_not_cached() {
    let huge: &'static str = Box::leak(format!("{{\"a\":\"{}\"}}", "x".repeat(32 << 20)).into());
    for body in ["", "[]", "null", "<html>", "{\"tags\":[", huge] {
        let hub = ScriptedRegistry::new();
        hub.breaks(When::asked("/tags/list").first(1), Fault::Status(200, Vec::new(), body));
        lists(&hub, "/tags/list", None);
        let proxy = Proxy::before(&hub).await;
        proxy.get(LIST).await.error(502);

        assert_tags(&proxy.get(LIST).await);
    }
}

/// distribution-spec, "Listing Tags"; CVE-2023-2253.
#[tokio::test(start_paused = true)]
async fn a_count_is_checked_before_anybody_is_asked() {
    let (hub, proxy) = mirror(None).await;
    for bad in ["-1", "0x10", "%D9%A3", "1e9", "", "1&n=2"] {
        proxy.get(&format!("{LIST}?n={bad}")).await.error(400);
    }
    let none = proxy.get("/v2/alpine/tags/list?n=0").await;
    assert_eq!(none.text(), r#"{"name":"library/alpine","tags":[]}"#);
    assert!(none.status == 200 && next_of(&none).is_none());
    hub.assert_not_asked();

    assert_tags(&proxy.get(&format!("{LIST}?n=9223372036854775807")).await);
    assert_eq!(hub.asked()[0].query("n"), ["10000"]);
}

/// Queries are the clients', so nothing in them is an error, reaches the upstream or makes a page.
#[tokio::test(start_paused = true)]
async fn unknown_query_parameters_of_a_tag_list_are_ignored() {
    let (hub, proxy) = mirror(None).await;
    for query in ["", "?", "?x=1", "?last=&y", "?next_page=made-up", "?ns=docker.io&artifactType=z"]
    {
        assert_tags(&proxy.get(&format!("{LIST}{query}")).await);
    }
    let many = "k=v&".repeat(2000);
    assert_tags(&proxy.get(&format!("{LIST}?{many}")).await);
    let sent: Vec<_> = hub.asked().iter().map(|asked| asked.target.clone()).collect();
    assert_eq!(sent, [LIST], "they all mean the same page");

    proxy.get(&format!("{LIST}?last=../../&x=1")).await.header("age").unwrap();
    assert_eq!(hub.asked()[1].target, format!("{LIST}?last=..%2F..%2F"));
    let status = proxy.get(&format!("{LIST}?last={}", "a".repeat(40 << 10))).await.status;
    assert!(matches!(status.as_u16(), 414 | 431), "{status}");
}

/// The air gap: what was listed once is listed for ever, and nothing else.
#[tokio::test(start_paused = true)]
async fn an_offline_registry_lists_what_it_listed_before() {
    let (hub, proxy) = mirror(None).await;
    assert_tags(&proxy.get(LIST).await);
    proxy.stop().await;
    let mut setup = proxy.outlive();
    setup.settings.registries[0].rules.offline = true;
    let proxy = setup.start().await;
    proxy.clock.skip(Duration::from_secs(365 * 24 * 60 * 60));
    hub.forget();

    assert_tags(&proxy.get(LIST).await);
    let cold = proxy.get("/v2/library/other/tags/list").await;
    cold.error(404);
    assert!(cold.text().contains("NAME_UNKNOWN") && cold.text().contains("offline"));
    hub.assert_not_asked();
}

/// Even a client that may pull everything is not told what there is.
#[tokio::test(start_paused = true)]
async fn the_catalogue_is_not_served() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    for path in
        ["/v2/_catalog", "/v2/_catalog?n=5", "/docker.io/v2/_catalog", "/v2/docker.io/_catalog"]
    {
        let reply = proxy.get(path).await;
        reply.error(404);
        let text = reply.text();
        assert!(text.contains("UNSUPPORTED") && text.contains("catalogue is not served"), "{text}");
    }
    hub.assert_not_asked();
}
