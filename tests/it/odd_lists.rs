//! Lists as registries really send them: odd links, limits of their own, great lengths, and errors
//! under a 200. A client gets through Larder what it gets directly.

use std::time::Duration;

use crate::support::{Fault, Image, Proxy, Reach, Reply, ScriptedRegistry, TAG_TTL, When};

const LIST: &str = "/v2/library/alpine/tags/list";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const HOST: &str = "registry-1.docker.io";
const FIRST: &str = r#"{"name":"library/alpine","tags":["a","b"]}"#;
const SECOND: &str = r#"{"name":"library/alpine","tags":["c"]}"#;
const UNAUTHORIZED: &str =
    r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;

fn list(body: &'static str, link: Option<&str>) -> Fault {
    Fault::Status(200, link.map(|link| ("Link", link.to_owned())).into_iter().collect(), body)
}

#[track_caller]
fn assert_list(reply: &Reply, body: &str, case: &str) {
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, body), "{case}");
}

/// The path and query of the link to the next page.
fn next_of(reply: &Reply) -> Option<String> {
    let target = reply.header("link")?.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(target.to_owned())
}

/// A client that misses a page does not know: a bot then finds no newer version.
#[tokio::test(start_paused = true)]
async fn every_page_is_reached_however_a_registry_writes_its_links() {
    for (query, link, want) in [
        // GHCR: the registry decides how many.
        ("", "</v2/library/alpine/tags/list?last=b&n=0>; rel=\"next\"", "last=b"),
        ("?n=100", "</v2/library/alpine/tags/list?last=b&n=0>; rel=\"next\"", "last=b"),
        ("?n=2", "</v2/library/alpine/tags/list?last=b>; rel=\"next\"", "last=b"),
        ("?n=2", "</v2/library/alpine/tags/list?n=&last=b>; rel=\"next\"", "last=b"),
        ("?n=2", "</v2/library/alpine/tags/list?n=2&n=2&last=b>; rel=next", "n=2&last=b"),
        // Other hosts and paths, or none.
        ("?n=2", "<http://10.0.0.1:8080/internal?n=2&last=b>; rel=\"next\"", "n=2&last=b"),
        ("?n=2", "<?n=2&last=b>; rel=\"next\"", "n=2&last=b"),
        ("?n=2", "<tags/list?last=b&n=2>;rel=next", "n=2&last=b"),
        // No brackets, no relation.
        ("?n=2", "/v2/library/alpine/tags/list?n=2&last=b; rel=\"next\"", "n=2&last=b"),
        ("?n=2", "https://r.test/v2/library/alpine/tags/list?last=b; rel=next", "last=b"),
        ("?n=2", "</v2/library/alpine/tags/list?n=2&last=b>", "n=2&last=b"),
        ("?n=2", "/v2/library/alpine/tags/list?n=2&last=b", "n=2&last=b"),
        // Keys of the registry's own, without `last`.
        (
            "?n=2",
            "</v2/library/alpine/tags/list?n=2&next_page=g%3D>; rel=next",
            "n=2&next_page=g%3D",
        ),
    ] {
        let hub = ScriptedRegistry::new();
        hub.breaks(When::asked(format!("/tags/list{query}")).first(1), list(FIRST, Some(link)));
        hub.breaks(When::asked("/tags/list"), list(SECOND, None));
        let proxy = Proxy::before(&hub).await;

        let first = proxy.get(&format!("{LIST}{query}")).await;
        assert_list(&first, FIRST, link);
        let next = next_of(&first).unwrap_or_else(|| panic!("no link from {link}"));
        assert_eq!(next, format!("{LIST}?{want}"), "{link}");
        let second = proxy.get(&next).await;

        assert_list(&second, SECOND, link);
        assert_eq!(next_of(&second), None, "{link}");
        assert_eq!(hub.asked()[1].target, format!("{LIST}?{want}"), "{link}");
    }
}

/// Renovate asks for 10,000; distribution and ECR take 1,000, others 100.
#[tokio::test(start_paused = true)]
async fn a_registry_that_refuses_so_many_entries_is_asked_for_fewer() {
    for (asked, refused, questions) in [
        ("10000", &[][..], &["n=10000"][..]),
        ("10000", &["n=10000"], &["n=10000", "n=1000"]),
        ("5000", &["n=5000", "n=1000"], &["n=5000", "n=1000", "n=100"]),
        ("999", &["n=999", "n=100"], &["n=999", "n=100", ""]),
        ("100", &["n=100"], &["n=100", ""]),
    ] {
        let hub = ScriptedRegistry::new();
        let link = "</v2/library/alpine/tags/list?n=9&last=b>; rel=\"next\"";
        for count in refused {
            hub.breaks(When::asked(count).first(1), Fault::status(400));
        }
        hub.breaks(When::asked("/tags/list"), list(FIRST, Some(link)));
        let proxy = Proxy::before(&hub).await;

        let reply = proxy.get(&format!("{LIST}?n={asked}")).await;

        assert_list(&reply, FIRST, asked);
        assert_eq!(next_of(&reply), Some(format!("{LIST}?n=9&last=b")), "{asked}");
        let sent: Vec<_> = hub.asked().iter().map(|it| it.target.clone()).collect();
        let want = questions.iter().map(|query| match *query {
            "" => LIST.to_owned(),
            query => format!("{LIST}?{query}"),
        });
        assert_eq!(sent, want.collect::<Vec<_>>(), "{asked}");
        assert!(proxy.get(&format!("{LIST}?n={asked}")).await.decision().is_hit());
    }
    // Few entries are not what a registry refuses.
    let hub = ScriptedRegistry::new();
    hub.breaks(When::asked("/tags/list"), Fault::status(400));
    let proxy = Proxy::before(&hub).await;
    assert!(proxy.get(&format!("{LIST}?n=50")).await.status.as_u16() >= 400);
    assert_eq!(hub.asked().len(), 1);
}

/// The repositories of a CI have hundreds of thousands of tags, and not every registry has pages.
#[tokio::test(start_paused = true)]
async fn a_list_of_many_megabytes_is_served_and_kept_up_to_a_limit() {
    let tags = |count| {
        let tags: Vec<_> = (0..count).map(|tag| format!("\"build-{tag}-{:040}\"", 0)).collect();
        format!(r#"{{"name":"library/alpine","tags":[{}]}}"#, tags.join(","))
    };
    for (count, fits) in [(70_000, true), (200_000, true), (700_000, false)] {
        let body: &'static str = Box::leak(tags(count).into_boxed_str());
        let hub = ScriptedRegistry::new();
        hub.breaks(When::asked("/tags/list"), list(body, None));
        let proxy = Proxy::before(&hub).await;
        let reply = proxy.get(LIST).await;
        if !fits {
            assert!(reply.error(502).1.contains("longer than"), "{count}");
            continue;
        }
        assert!(reply.status == 200 && reply.body == body, "{count}");
        assert!(proxy.get(LIST).await.decision().is_hit(), "{count}");

        proxy.network.set(HOST, Reach::Down);
        proxy.restart().await;
        tokio::time::advance(TAG_TTL * 2).await;
        let stale = proxy.get(LIST).await;
        assert!(stale.status == 200 && stale.body == body, "{count}");
    }
}

/// Gateways answer so when a login has expired: promise 5.
#[tokio::test(start_paused = true)]
async fn an_error_under_a_200_replaces_neither_a_list_nor_a_manifest() {
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    for (media_type, body) in [
        ("application/json", UNAUTHORIZED),
        (manifest_type, UNAUTHORIZED),
        ("application/json", r#"{"errors":[]}"#),
        (manifest_type, r#"{"error":"quota exceeded"}"#),
        (manifest_type, r#"{"message":"upstream is busy","status":200}"#),
    ] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[10]);
        hub.put_image("library/alpine", "latest", &image);
        hub.breaks(When::asked("/tags/list").first(1), list(FIRST, None));
        let proxy = Proxy::before(&hub).await;
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        assert_list(&proxy.get(LIST).await, FIRST, "at first");

        hub.heal();
        let headers = vec![("Content-Type", media_type.to_owned())];
        hub.breaks(When::asked("/v2/library"), Fault::Status(200, headers, body));
        for round in ["once stale", "in an outage"] {
            tokio::time::advance(TAG_TTL * 2).await;
            let case = format!("{round}: {media_type} {body}");
            let tag = proxy.get(LATEST).await;
            tag.assert_is(&image.manifest.blob);
            assert!(tag.decision().is_stale(), "{case}: {:?}", tag.decision());
            let tags = proxy.get(LIST).await;
            assert_list(&tags, FIRST, &case);
            assert!(tags.decision().is_stale(), "{case}");
            proxy.network.set(HOST, Reach::Down);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // A cold one is a fault, and nothing is kept of it.
        proxy.network.set(HOST, Reach::Up);
        tokio::time::advance(Duration::from_secs(600)).await;
        for path in ["/v2/library/other/tags/list", "/v2/library/other/manifests/1"] {
            assert_eq!(proxy.get(path).await.status, 502, "{path} {body}");
        }
    }
}
