//! `referrers/<digest>`: what a registry says of it, remembered, and that it says nothing.

use std::fmt::Write as _;

use crate::support::image::OCI_INDEX;
use crate::support::proxy::files_under;
use crate::support::{
    Blob, Fault, Image, Proxy, Reach, Reply, ScriptedRegistry, Setup, TAG_TTL, When,
};

const HOST: &str = "registry-1.docker.io";
const INDEX: &str = "{\"schemaVersion\":2,  \"manifests\":[]}\n";

fn path() -> String {
    format!("/v2/library/alpine/referrers/{}", Blob::random(1, 10).digest)
}

/// A mirror of a registry that answers referrers with this.
async fn mirror(
    status: u16,
    headers: &[(&'static str, &str)],
    body: &'static str,
) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    hub.breaks(When::asked("/referrers/"), Fault::Status(status, headers, body));
    let proxy = Proxy::before(&hub).await;
    (hub, proxy)
}

#[track_caller]
fn assert_index(reply: &Reply) {
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, INDEX));
    assert_eq!(reply.header("content-type"), Some(OCI_INDEX));
}

/// A signature is found where it was found before, also in an outage.
#[tokio::test(start_paused = true)]
async fn an_index_is_passed_on_as_it_is_and_kept() {
    let (hub, proxy) = mirror(200, &[("Content-Type", OCI_INDEX)], INDEX).await;
    for _ in 0..3 {
        let reply = proxy.get(&path()).await;
        assert_index(&reply);
        assert_eq!(reply.header("oci-filters-applied"), None, "nobody filtered");
    }
    assert_eq!(hub.asked().len(), 1);
    assert_eq!(hub.asked()[0].header("accept"), Some(OCI_INDEX));

    tokio::time::advance(TAG_TTL * 2).await;
    proxy.network.set(HOST, Reach::Down);
    proxy.restart().await;
    let stale = proxy.get(&path()).await;
    assert_index(&stale);
    assert!(stale.decision().is_stale() && stale.headers.contains_key("warning"));
}

/// A filtered index is not the whole one, and only the upstream knows whether it filtered.
#[tokio::test(start_paused = true)]
async fn each_filter_is_an_index_of_its_own() {
    let applied = [("Content-Type", OCI_INDEX), ("OCI-Filters-Applied", "artifactType")];
    let (hub, proxy) = mirror(200, &applied, INDEX).await;
    let filters = ["", "?artifactType=a/b", "?artifactType=a/c", "?artifactType=a/b&x=1"];
    for filter in filters.iter().chain(&filters) {
        let reply = proxy.get(&format!("{}{filter}", path())).await;
        assert_index(&reply);
        assert_eq!(reply.header("oci-filters-applied"), Some("artifactType"));
    }
    let sent: Vec<_> = hub.asked().iter().map(|asked| asked.query("artifactType")).collect();
    assert_eq!(sent, [vec![], vec!["a/b".to_owned()], vec!["a/c".to_owned()]]);
    proxy.restart().await;
    let kept = proxy.get(&format!("{}{}", path(), filters[1])).await;
    assert_eq!(kept.header("oci-filters-applied"), Some("artifactType"));

    let script = format!("<script>{}</script>", "x".repeat(8 << 10));
    let mut encoded = String::new();
    script.bytes().for_each(|byte| write!(encoded, "%{byte:02x}").unwrap());
    assert_index(&proxy.get(&format!("{}?artifactType={encoded}", path())).await);
    assert_eq!(hub.asked().last().unwrap().query("artifactType"), [script]);
}

/// The rest of the signatures is on the next page.
#[tokio::test(start_paused = true)]
async fn a_link_is_led_through_us() {
    let link = "</evil?artifactType=a%2Fb&token=t%2F2>; rel=\"next\"";
    let (hub, proxy) = mirror(200, &[("Content-Type", OCI_INDEX), ("Link", link)], INDEX).await;

    let first = proxy.get(&format!("{}?artifactType=a/b", path())).await;
    let next = format!("{}?artifactType=a%2Fb&token=t%2F2", path());
    assert_eq!(first.header("link"), Some(format!("<{next}>; rel=\"next\"").as_str()));

    // The same link again: this registry walks in circles.
    proxy.get(&next).await.error(502);
    assert_eq!(hub.asked()[1].target, next);
}

/// oras takes `NAME_UNKNOWN` for a repository that is not there, and any other 404 for a registry
/// without referrers; both must reach it, again and again, and without asking each time.
#[tokio::test(start_paused = true)]
async fn a_404_is_passed_on_in_the_words_of_the_registry_and_kept() {
    let words = r#"{ "errors":[{"code":"NAME_UNKNOWN","message":"no such thing","detail":{}}] }"#;
    let (hub, proxy) = mirror(404, &[], words).await;
    for round in 0..2 {
        for _ in 0..2 {
            let reply = proxy.get(&path()).await;
            assert_eq!(reply.error(404).0, "NAME_UNKNOWN");
            assert_eq!(reply.text(), words);
        }
        assert_eq!(hub.asked().len(), 1, "round {round}");
        proxy.restart().await;
    }
    assert!(proxy.get(&path()).await.decision().is_hit());
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.network.set(HOST, Reach::Down);
    let stale = proxy.get(&path()).await;
    assert_eq!(stale.text(), words);
    assert!(stale.decision().is_stale());
}

/// A page, or a novel, is no error that a client could read.
#[tokio::test(start_paused = true)]
async fn a_404_without_an_error_of_the_specification_is_ours() {
    let long = format!(r#"{{"errors":[{{"code":"X","message":"{}"}}]}}"#, "x".repeat(64 << 10));
    let long: &'static str = Box::leak(long.into());
    for body in ["<html>not found", "", "{}", r#"{"errors":[]}"#, r#"{"errors":[{}]}"#, long] {
        let (hub, proxy) = mirror(404, &[("Content-Type", "text/html")], body).await;
        for _ in 0..2 {
            let reply = proxy.get(&path()).await;
            assert_eq!(reply.error(404).0, "UNSUPPORTED", "{body:.40}");
        }
        assert_eq!(hub.gets("/referrers/").len(), 1, "{body:.40}");
    }
}

/// ghcr.io leads to a page of github.com, which is limited, and means that it has none.
#[tokio::test(start_paused = true)]
async fn a_redirect_to_another_host_is_a_404() {
    let hub = ScriptedRegistry::new();
    hub.breaks(When::asked("/referrers/"), Fault::RedirectTo("http://other.test/x".to_owned()));
    let proxy = Proxy::before(&hub).await;

    proxy.get(&path()).await.error(404);
    proxy.get(&path()).await.error(404);

    assert_eq!(hub.gets("/referrers/").len(), 1);
}

/// No manifest of the repository put there what an index of signatures names.
#[tokio::test(start_paused = true)]
async fn referrers_that_an_index_lists_do_not_become_members_of_the_repository() {
    let secret = Blob::random(7, 1000);
    let body = format!(
        r#"{{"manifests":[{{"mediaType":"a/b","digest":"{}","size":1000}}]}}"#,
        secret.digest
    );
    let body: &'static str = Box::leak(body.into());
    let (hub, proxy) = mirror(200, &[], body).await;
    hub.put_blob("library/secret", &secret);
    proxy.get(&secret.path("library/secret")).await.assert_is(&secret);
    proxy.until_stored(&secret.digest).await;
    proxy.get(&path()).await.assert_status(200);

    proxy.get(&secret.path("library/alpine")).await.error(404);
}

/// A fault is none of the answers that mean something.
#[tokio::test(start_paused = true)]
async fn a_referrers_answer_that_is_no_index_is_a_fault() {
    for (status, body) in [(200, "<html>"), (200, "[]"), (500, "{}"), (505, "{}")] {
        let (_hub, proxy) = mirror(status, &[("Content-Type", OCI_INDEX)], body).await;
        proxy.get(&path()).await.error(502);
    }
    let (hub, proxy) = mirror(200, &[], INDEX).await;
    proxy.get("/v2/library/alpine/referrers/sha256:abc").await.error(400);
    assert_eq!(proxy.head(&path()).await.status, 405);
    hub.assert_not_asked();
}

/// Registries of the OCI answer 200 for a repository that nobody has made, and clients can name any
/// number of them, with as many components as fit.
#[tokio::test(start_paused = true)]
async fn an_index_of_a_repository_of_which_nothing_is_held_takes_one_file_and_no_directory() {
    let (hub, proxy) = mirror(200, &[("Content-Type", OCI_INDEX)], INDEX).await;
    let digest = Blob::random(1, 10).digest;
    let deep = |number: usize| {
        let name = format!("r{number}/{}", "a/".repeat(110));
        format!("/v2/{name}a/referrers/{digest}")
    };
    for number in 0..20 {
        assert_index(&proxy.get(&deep(number)).await);
    }

    let records = proxy.cache_dir().join("registries/docker.io");
    let files = files_under(&records).len();
    assert_eq!(files, 20);
    let dirs = std::fs::read_dir(&records).unwrap().count();
    assert_eq!(dirs, 1, "one for all of them");
    proxy.restart().await;
    hub.forget();
    assert_index(&proxy.get(&deep(7)).await);
    hub.assert_not_asked();
}

/// Nor are they kept longer than those that belong to something.
#[tokio::test(start_paused = true)]
async fn an_index_of_a_repository_of_which_nothing_is_held_is_forgotten_by_a_push() {
    let hub = ScriptedRegistry::new();
    hub.knows_lists();
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    let proxy = setup.start().await;
    let list = "/v2/library/alpine/tags/list";
    let image = Image::random(1, &[10]);
    hub.put_image("library/alpine", "v1", &image);
    assert!(proxy.get(list).await.text().contains("v1"));
    let path = "/v2/library/alpine/manifests/v2";
    let media_type = [("content-type", &*image.manifest.media_type)];
    let bytes = image.manifest.blob.bytes.clone();
    let pushed = proxy.client.send(http::Method::PUT, path, &media_type, bytes).await;
    pushed.assert_status(201);

    proxy.restart().await;
    assert!(proxy.get(list).await.text().contains("v2"));
}
