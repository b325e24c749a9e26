//! How often the upstream is asked: no question is repeated whose answer has just been given.

use std::time::Duration;

use crate::support::{
    Blob, Fault, Gate, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL, When, settle,
};

const REPOSITORY: &str = "library/alpine";

async fn pushable() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    (hub, image, setup.start().await)
}

/// The methods and paths that the upstream was asked with, in short.
fn asked(hub: &ScriptedRegistry) -> Vec<String> {
    hub.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path())).collect()
}

/// A client that may push is told of existence on the registry's word alone; a GET has that too.
#[tokio::test(start_paused = true)]
async fn a_cold_manifest_by_digest_costs_one_question_where_clients_push() {
    let (hub, image, proxy) = pushable().await;
    let path = image.manifest.path(REPOSITORY);

    proxy.head(&path).await.assert_status(200);
    proxy.get(&path).await.assert_is(&image.manifest.blob);
    proxy.head(&path).await.assert_status(200);

    assert_eq!(asked(&hub), [format!("GET {path}")]);
    tokio::time::advance(Duration::from_secs(61)).await;
    proxy.head(&path).await.assert_status(200);
    assert_eq!(asked(&hub)[1..], [format!("HEAD {path}")], "the claim has expired");
}

/// The same image at two registries: the second one says by its tag that it has it.
#[tokio::test(start_paused = true)]
async fn a_manifest_from_another_registry_costs_the_question_for_its_tag() {
    let (hub, quay) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let image = Image::random(1, &[1000]);
    hub.put_image(REPOSITORY, "latest", &image);
    quay.put_image("team/alpine", "v1", &image);
    for push in [false, true] {
        let mut setup = Setup::new();
        setup.registry("docker.io", &hub);
        setup.registry("quay.io", &quay).rules.push = push;
        let proxy = setup.start().await;
        proxy.pull(REPOSITORY, "latest", &image).await;
        quay.forget();

        for _ in 0..2 {
            let reply = proxy.get("/v2/quay.io/team/alpine/manifests/v1").await;
            reply.assert_is(&image.manifest.blob);
            let by_digest =
                format!("/v2/quay.io/team/alpine/manifests/{}", image.manifest.digest());
            proxy.get(&by_digest).await.assert_is(&image.manifest.blob);
        }

        assert_eq!(asked(&quay), ["HEAD /v2/team/alpine/manifests/v1"], "push={push}");
    }
}

/// A fetch in flight: its answer says that the blob is there, and how long it is.
#[tokio::test(start_paused = true)]
async fn a_head_of_a_blob_whose_fetch_runs_asks_nothing() {
    let headers: fn(Gate) -> Fault = Fault::HoldHeaders;
    let body: fn(Gate) -> Fault = |gate| Fault::HoldAt(1000, gate);
    for (case, hold) in [("headers", headers), ("body", body)] {
        let hub = ScriptedRegistry::new();
        let blob = Blob::random(1, 300_000);
        hub.put_blob(REPOSITORY, &blob);
        let (proxy, gate) = (Proxy::before(&hub).await, Gate::new());
        hub.breaks(When::asked(&blob.digest).get(), hold(gate.clone()));
        let path = blob.path(REPOSITORY);
        let whole = proxy.get_often(&path, 1);
        gate.reached().await;
        settle().await;

        let head = tokio::spawn(proxy.client.head(&path));
        let other = proxy.head(&blob.path("library/other")).await;
        settle().await;
        gate.open();
        let head = head.await.unwrap();

        head.assert_status(200);
        assert_eq!(head.header("content-length"), Some("300000"), "{case}");
        assert!(head.decision().is_collapsed(), "{case}: {:?}", head.decision());
        other.assert_status(404);
        whole.join_all().await[0].assert_is(&blob);
        let elsewhere = format!("HEAD {}", blob.path("library/other"));
        assert_eq!(asked(&hub), [format!("GET {path}"), elsewhere], "{case}");
    }
}

/// The refusal of a fetch is an answer as well, but the client may ask for itself.
#[tokio::test(start_paused = true)]
async fn a_head_of_a_blob_whose_fetch_fails_asks_the_upstream() {
    let hub = ScriptedRegistry::new();
    let (blob, gate) = (Blob::random(1, 1000), Gate::new());
    hub.put_blob(REPOSITORY, &blob);
    let proxy = Proxy::before(&hub).await;
    hub.breaks(When::asked(&blob.digest).get(), Fault::status(404));
    hub.breaks(When::asked(&blob.digest).get(), Fault::HoldHeaders(gate.clone()));
    let path = blob.path(REPOSITORY);
    let whole = proxy.get_often(&path, 1);
    gate.reached().await;
    let head = tokio::spawn(proxy.client.head(&path));
    settle().await;
    gate.open();

    head.await.unwrap().assert_status(200);
    whole.join_all().await[0].assert_status(404);
    assert_eq!(hub.heads(&blob.digest).len(), 1);
}

/// Docker 29 asks so with each pull: for the referrers, and then for the tag in their place.
#[tokio::test(start_paused = true)]
async fn a_registry_without_referrers_is_asked_for_them_once_in_five_ttls() {
    for (said, is_absent) in [
        (Some("MANIFEST_UNKNOWN"), true),
        (Some("UNSUPPORTED"), true),
        (None, true),
        (Some("NAME_UNKNOWN"), false),
    ] {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[1000]);
        hub.put_image(REPOSITORY, "latest", &image);
        let body = said.map_or(String::new(), |code| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"none"}}]}}"#)
        });
        hub.breaks(When::asked("/referrers/"), Fault::Status(404, vec![], body.leak()));
        let proxy = Proxy::before(&hub).await;
        let digest = image.manifest.digest();
        let referrers = format!("/v2/{REPOSITORY}/referrers/{digest}");
        let tag = format!("/v2/{REPOSITORY}/manifests/sha256-{}", digest.hex());
        let ask_both = async || {
            proxy.get(&referrers).await.assert_status(404);
            proxy.get(&tag).await.error(404);
        };

        for _ in 0..4 {
            ask_both().await;
            tokio::time::advance(TAG_TTL + Duration::from_secs(1)).await;
        }
        let count = hub.gets("/referrers/").len();
        assert_eq!(count, if is_absent { 1 } else { 4 }, "{said:?}");
        assert_eq!(hub.heads("/manifests/sha256-").len(), 1, "{said:?}");

        tokio::time::advance(TAG_TTL * 5).await;
        hub.put_tagged(REPOSITORY, &format!("sha256-{}", digest.hex()), &image.manifest);
        proxy.get(&tag).await.assert_is(&image.manifest.blob);
        assert_eq!(hub.heads("/manifests/sha256-").len(), 2, "{said:?}");
    }
}

/// Signatures are tags with an ending, and must be seen soon after they were pushed.
#[tokio::test(start_paused = true)]
async fn an_absent_signature_is_asked_for_after_each_ttl() {
    let hub = ScriptedRegistry::new();
    hub.put_image(REPOSITORY, "latest", &Image::random(1, &[1000]));
    let proxy = Proxy::before(&hub).await;
    for ending in [".sig", ".att", "x"] {
        let tag = format!("/v2/{REPOSITORY}/manifests/sha256-{}{ending}", "0a".repeat(32));
        for _ in 0..3 {
            proxy.get(&tag).await.error(404);
            tokio::time::advance(TAG_TTL + Duration::from_secs(1)).await;
        }
        assert_eq!(hub.heads(&tag).len(), 3, "{ending}");
    }
}
