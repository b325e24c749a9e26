//! The answer that confirms a client's right is not asked for again.

use std::time::Duration;

use http::Method;
use larder::access::AnonymousAccess;
use larder::routes::EventRead;

use super::{ANN, BEN, LATEST, ann, ask, asking, ben, corp, get, put};
use crate::support::registry::basic;
use crate::support::{Fault, Gate, Image, ScriptedRegistry, Setup, TAG_TTL, When};

/// The methods and paths that the registry was asked with, but for tokens and challenges.
fn asked(hub: &ScriptedRegistry) -> Vec<String> {
    let asked = hub.asked();
    let asked = asked.iter().filter(|asked| asked.path() != "/token" && asked.status() != 401);
    asked.map(|asked| format!("{} {}", asked.method, asked.path())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_cold_tag_costs_one_head_and_one_get() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    let by_digest = format!("GET {}", image.manifest.path("team/app"));
    assert_eq!(asked(&hub), [format!("HEAD {LATEST}"), by_digest]);

    for skipped in [TAG_TTL * 2, Duration::from_secs(301)] {
        tokio::time::advance(skipped).await;
        hub.forget();
        get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
        assert_eq!(asked(&hub), [format!("HEAD {LATEST}")], "{skipped:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_of_a_cold_blob_costs_one_head() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    let path = image.layers[0].path("team/app");

    let head = ask(&proxy.client, Method::HEAD, &path, ("ann", ANN)).await;

    head.assert_status(200);
    assert_eq!(head.header("content-length"), Some("200000"));
    assert_eq!(asked(&hub), [format!("HEAD {path}")]);
}

/// The bytes are here, and each client's right to them is asked for: that is all.
#[tokio::test(start_paused = true)]
async fn a_manifest_that_another_repository_brought_costs_one_head() {
    let (hub, image, proxy) = corp(&[ann(&["team/*:pull", "other/*:pull"])]).await;
    hub.put_image("other/app", "latest", &image);
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    hub.forget();

    let path = image.manifest.path("other/app");
    get(&proxy, &path, ("ann", ANN)).await.assert_is(&image.manifest.blob);

    assert_eq!(asked(&hub), [format!("HEAD {path}")]);
}

/// An answer from before a push says nothing about the time after it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_a_push_has_overtaken_is_asked_for_again() {
    let hub = ScriptedRegistry::new();
    let images = [1, 2].map(|seed| Image::random(seed, &[1000]));
    hub.put_image("team/app", "latest", &images[0]);
    hub.put_image("team/app", "next", &images[1]);
    let mut setup = Setup::new();
    let users = [ann(&["team/*:pull"]), ben(&["team/*:pull,push"])];
    put(&mut setup, "corp.test", &hub, &users);
    setup.settings.registries[0].rules.push = true;
    setup.access = asking(AnonymousAccess::None);
    let (proxy, gate) = (setup.start().await, Gate::new());
    hub.breaks(When::asked("manifests/latest").head().nth(1), Fault::HoldHeaders(gate.clone()));

    let own = basic("ann", ANN);
    let pulled = proxy.client.get_with(LATEST, &[("authorization", &own)]);
    let pulled = tokio::spawn(pulled);
    gate.reached().await;
    let manifest = &images[1].manifest;
    let own = basic("ben", BEN);
    let headers = [("authorization", &*own), ("content-type", &*manifest.media_type)];
    let body = manifest.blob.bytes.clone();
    proxy.client.send(Method::PUT, LATEST, &headers, body).await.assert_status(201);
    gate.open();

    pulled.await.unwrap().assert_is(&manifest.blob);
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&manifest.blob);
}

/// A pull with a client's own credential is between it and the registry, and stands in no log of
/// pulls.
#[tokio::test(start_paused = true)]
async fn the_event_of_a_pull_names_no_client_that_the_registry_knows_by_its_own_credential() {
    let (_hub, image, proxy) = corp(&[ann(&["team/*:pull"])]).await;
    let (mut all, _pulls) = (proxy.events(), proxy.pull_events());
    get(&proxy, LATEST, ("ann", ANN)).await.assert_is(&image.manifest.blob);
    let Some(EventRead::Event(event)) = all.next().await else { panic!("no event") };
    let details = &event.details;
    assert!(details.manifest.is_some() && details.client.user.is_none(), "{event:?}");
    assert!(!details.is_pull, "{event:?}");
}
