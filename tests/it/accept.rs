//! The `Accept` of a client decides what a tag means to it, and to no other client.

use crate::support::image::{DOCKER_IMAGE, OCI_IMAGE, OCI_INDEX, SCHEMA_1};
use crate::support::{Image, Manifest, Proxy, ScriptedRegistry, TAG_TTL};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

/// A tag that means an index to those who take one, and an image to the others.
async fn multi() -> (ScriptedRegistry, Manifest, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::of_type(DOCKER_IMAGE, 1, &[]);
    let index = Manifest::index(&[&image.manifest]);
    hub.put_image(REPOSITORY, "latest", &image);
    hub.put_manifest(REPOSITORY, &index);
    hub.tag(REPOSITORY, "latest", &[&index, &image.manifest]);
    let proxy = Proxy::before(&hub).await;
    (hub, index, image, proxy)
}

/// The upstream is asked for everything that exists, or a tag would mean less than it does.
#[tokio::test(start_paused = true)]
async fn the_upstream_is_asked_with_the_full_list() {
    let (hub, index, _image, proxy) = multi().await;

    proxy.get_with(LATEST, &[("accept", OCI_INDEX)]).await.assert_is(&index.blob);

    for asked in hub.asked() {
        let accept = asked.header("accept").expect("an Accept");
        for media_type in [OCI_INDEX, OCI_IMAGE, DOCKER_IMAGE] {
            assert!(accept.contains(media_type), "{} {}: {accept}", asked.method, asked.target);
        }
        assert_eq!(asked.header("accept-encoding"), Some("identity"));
    }
}

/// Old clients take only an image; they get theirs, the others keep the index, and both are
/// warm afterwards.
#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_take_the_index_gets_its_own_resolution() {
    for is_narrow_first in [true, false] {
        let (hub, index, image, proxy) = multi().await;
        let narrow = [("accept", DOCKER_IMAGE)];
        if !is_narrow_first {
            proxy.get(LATEST).await.assert_is(&index.blob);
        }

        let reply = proxy.get_with(LATEST, &narrow).await;

        reply.assert_is(&image.manifest.blob);
        assert_eq!(reply.header("content-type"), Some(DOCKER_IMAGE));
        proxy.get(LATEST).await.assert_is(&index.blob);
        hub.forget();
        let again = proxy.get_with(LATEST, &narrow).await;
        again.assert_is(&image.manifest.blob);
        assert!(again.decision().is_hit(), "its own record is warm: {:?}", again.decision());
        let others = proxy.get(LATEST).await;
        others.assert_is(&index.blob);
        assert!(others.decision().is_hit(), "and so is the others'");
        hub.assert_not_asked();
    }
}

/// Each record ages and is revalidated on its own, with its own Accept.
#[tokio::test(start_paused = true)]
async fn each_resolution_is_revalidated_under_its_own_accept() {
    let (hub, index, image, proxy) = multi().await;
    let narrow = [("accept", DOCKER_IMAGE)];
    proxy.get(LATEST).await.assert_is(&index.blob);
    proxy.get_with(LATEST, &narrow).await.assert_is(&image.manifest.blob);
    tokio::time::advance(TAG_TTL * 2).await;
    hub.forget();

    proxy.get_with(LATEST, &narrow).await.assert_is(&image.manifest.blob);
    proxy.get(LATEST).await.assert_is(&index.blob);

    assert_eq!(hub.gets("/manifests/").len(), 0);
    let accepts: Vec<_> =
        hub.heads(LATEST).iter().map(|asked| asked.header("accept").unwrap().to_owned()).collect();
    assert!(accepts.iter().any(|accept| accept == DOCKER_IMAGE), "{accepts:?}");
    assert!(accepts.iter().any(|accept| accept.contains(OCI_INDEX)), "{accepts:?}");
    assert!(accepts.len() <= 3, "{accepts:?}");
}

/// However a client spells that it takes an index, it is one record and one question.
#[tokio::test(start_paused = true)]
async fn every_spelling_of_a_wide_accept_shares_one_record() {
    let (hub, index, _image, proxy) = multi().await;
    let containerd = format!("{DOCKER_IMAGE}, {OCI_IMAGE}, {OCI_INDEX}, */*");
    let shouting = format!("{};q=0.5", OCI_INDEX.to_uppercase());
    let spellings: [&[(&str, &str)]; 7] = [
        &[],
        &[("accept", "*/*")],
        &[("accept", "application/*")],
        &[("accept", &containerd)],
        &[("accept", &shouting)],
        &[("accept", SCHEMA_1), ("accept", OCI_INDEX), ("accept", DOCKER_IMAGE)],
        &[("accept", "text/html, */*;q=0.1")],
    ];

    for spelling in spellings {
        proxy.get_with(LATEST, spelling).await.assert_is(&index.blob);
    }

    assert_eq!(hub.heads(LATEST).len(), 1, "{:?}", hub.asked());
    assert_eq!(hub.gets("/manifests/").len(), 1);
}

/// One client's 404 is no reason for another's.
#[tokio::test(start_paused = true)]
async fn an_accept_that_no_manifest_fits_does_not_change_what_others_get() {
    let (hub, index, _image, proxy) = multi().await;
    let narrow = [("accept", "application/vnd.cncf.helm.config.v1+json")];

    let nothing = proxy.get_with(LATEST, &narrow).await;

    assert_ne!(nothing.status, 200);
    proxy.get(LATEST).await.assert_is(&index.blob);
    hub.forget();
    proxy.get(LATEST).await.assert_is(&index.blob);
    hub.assert_not_asked();
}

/// By digest there is one thing to give, whatever the client says that it takes; and a registry
/// that minds is not told.
#[tokio::test(start_paused = true)]
async fn a_manifest_by_digest_is_served_under_any_accept() {
    for accept in [OCI_INDEX, "text/html", "*/*;q=0", SCHEMA_1] {
        let (hub, _index, image, proxy) = multi().await;
        hub.be_strict_about_accept();
        let path = image.manifest.path(REPOSITORY);

        for _ in ["cold", "warm"] {
            let reply = proxy.get_with(&path, &[("accept", accept)]).await;

            reply.assert_is(&image.manifest.blob);
            assert_eq!(reply.header("content-type"), Some(DOCKER_IMAGE), "{accept}");
        }
    }
}
