//! Absences are cached too: podman asks for `sha256-….sig` with each pull.

use std::time::Duration;

use crate::support::{Fault, Image, Proxy, Reach, Reply, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";
const SIGNATURE: &str = "/v2/library/alpine/manifests/sha256-0123abcd.sig";
const HOST: &str = "registry-1.docker.io";

/// A mirror that was asked for an image and for its signature, which does not exist.
async fn asked() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let proxy = Proxy::before(&hub).await;
    proxy.pull(REPOSITORY, "latest", &image).await;
    proxy.get(SIGNATURE).await.error(404);
    (hub, image, proxy)
}

#[track_caller]
fn assert_unknown(reply: &Reply) {
    reply.error(404);
    assert!(reply.text().contains("MANIFEST_UNKNOWN"), "{}", reply.text());
}

/// Each pull of a signed-images policy would cost the upstream a request otherwise.
#[tokio::test(start_paused = true)]
async fn a_tag_that_does_not_exist_is_asked_for_once_in_its_ttl() {
    let (hub, _image, proxy) = asked().await;
    hub.forget();

    let again = proxy.get(SIGNATURE).await;
    let head = proxy.head(SIGNATURE).await;

    assert_unknown(&again);
    assert_eq!(head.status, 404);
    assert!(again.decision().is_hit(), "{:?}", again.decision());
    assert!(again.headers.contains_key("age"));
    hub.assert_not_asked();
}

/// The new tag of a release must be seen as soon as a moved one would be.
#[tokio::test(start_paused = true)]
async fn a_tag_that_has_come_to_exist_is_found_after_the_ttl() {
    let (hub, _image, proxy) = asked().await;
    let signature = Image::random(2, &[10]);
    hub.put_image(REPOSITORY, "sha256-0123abcd.sig", &signature);
    assert_unknown(&proxy.get(SIGNATURE).await);

    tokio::time::advance(TAG_TTL * 2).await;
    proxy.get(SIGNATURE).await.assert_is(&signature.manifest.blob);

    proxy.network.set(HOST, Reach::Down);
    proxy.restart().await;
    proxy.get(SIGNATURE).await.assert_is(&signature.manifest.blob);
}

/// podman fails the whole pull on anything but a 404 here.
#[tokio::test(start_paused = true)]
async fn the_same_404_is_given_in_an_outage_and_after_a_restart() {
    let (_hub, image, proxy) = asked().await;
    tokio::time::advance(TAG_TTL * 2).await;
    proxy.network.set(HOST, Reach::Down);

    for round in ["before", "after"] {
        let stale = proxy.get(SIGNATURE).await;
        assert_unknown(&stale);
        assert!(stale.decision().is_stale(), "{round}: {:?}", stale.decision());
        assert!(stale.header("warning").is_some_and(|text| text.starts_with("299 ")), "{round}");
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        proxy.restart().await;
    }
    let unknown = proxy.get("/v2/library/alpine/manifests/never-asked").await;
    assert_eq!(unknown.status, 502, "what was never asked is not known to be absent");
}

/// In a repository of which nothing is held, too.
#[tokio::test(start_paused = true)]
async fn a_404_survives_a_restart_where_nothing_else_is_known() {
    let hub = ScriptedRegistry::new();
    let proxy = Proxy::before(&hub).await;
    proxy.get(LATEST).await.error(404);
    proxy.stop().await;
    proxy.network.set(HOST, Reach::Down);
    proxy.start_again().await;

    assert_unknown(&proxy.get(LATEST).await);
    assert!(!proxy.cache_dir().join("registries/docker.io/library").exists());
}

/// No answer is better than one that is too old, also when it is no.
#[tokio::test(start_paused = true)]
async fn a_404_is_not_served_beyond_max_stale() {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).tags.max_stale = Duration::from_secs(60);
    let proxy = setup.start().await;
    proxy.get(LATEST).await.error(404);
    proxy.network.set(HOST, Reach::Down);

    tokio::time::advance(TAG_TTL + Duration::from_secs(61)).await;

    assert_eq!(proxy.get(LATEST).await.status, 502);
}

/// A tag that was deleted upstream is gone, and stays gone in an outage.
#[tokio::test(start_paused = true)]
async fn a_404_replaces_the_tag_record() {
    let (hub, _image, proxy) = asked().await;
    hub.delete(REPOSITORY);
    tokio::time::advance(TAG_TTL * 2).await;
    assert_unknown(&proxy.get(LATEST).await);
    proxy.network.set(HOST, Reach::Down);

    assert_unknown(&proxy.get(LATEST).await);
    proxy.restart().await;
    assert_unknown(&proxy.get(LATEST).await);
}

/// A refusal may be lifted at any moment, and says nothing of what exists.
#[tokio::test(start_paused = true)]
async fn a_401_or_403_is_not_cached() {
    for status in [401, 403] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[10]);
        hub.put_image(REPOSITORY, "latest", &image);
        hub.refuse(REPOSITORY, Some(status));
        let proxy = Proxy::before(&hub).await;
        assert_ne!(proxy.get(LATEST).await.status, 200);
        hub.refuse(REPOSITORY, None);

        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
    }
}

/// A fault of the upstream is no answer, so it must not become one.
#[tokio::test(start_paused = true)]
async fn an_upstream_fault_is_not_cached() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[10]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.breaks(When::asked("/manifests/"), Fault::status(500));
    let proxy = Proxy::before(&hub).await;
    assert_eq!(proxy.get(LATEST).await.status, 502);
    hub.heal();

    proxy.get(LATEST).await.assert_is(&image.manifest.blob);
}
