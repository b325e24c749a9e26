//! Faults that pass: a status that means "try again", and storage that refuses one signed URL.

use crate::support::{Auth, Blob, Fault, Image, Proxy, ScriptedRegistry, Setup, TAG_TTL, When};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

/// Statuses after which the same request may succeed: the registry's own, its load balancer's
/// (RFC 9110 15.5.9 and 15.5.20, RFC 8470, nginx's 499), and Cloudflare's for 502 and 504.
const PASSING: [u16; 17] =
    [408, 421, 425, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530];

fn page(status: u16) -> Fault {
    let headers = vec![("Content-Type", "text/html".to_owned())];
    Fault::Status(status, headers, "<html>error</html>")
}

/// Each question of a pull is answered with the status once; no client notices.
#[tokio::test(start_paused = true)]
async fn a_pull_does_not_notice_one_status_that_means_try_again() {
    for status in PASSING {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[100_000, 10]);
        hub.put_image(REPOSITORY, "latest", &image);
        hub.requires(Auth::tokens("http://auth.docker.io/token"));
        let mut setup = Setup::new();
        setup.network.put("auth.docker.io", 80, hub.clone());
        setup.registry("docker.io", &hub);
        hub.breaks(When::asked("/manifests/latest").nth(1), page(status));
        hub.breaks(When::asked("/token").nth(1), page(status));
        for digest in image.blobs().map(|blob| &blob.digest).chain([image.manifest.digest()]) {
            hub.breaks(When::asked(digest).nth(1), page(status));
        }
        let proxy = setup.start().await;

        proxy.pull(REPOSITORY, "latest", &image).await;

        for layer in &image.layers {
            assert_eq!(hub.gets(&layer.digest).len(), 2, "{status}");
        }
    }
}

/// A registry with one layer, which it redirects to storage.
async fn with_storage(layer: &Blob) -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    hub.put_blob(REPOSITORY, layer);
    hub.redirect_blobs_to("http://cdn.example");
    let mut setup = Setup::new();
    setup.network.put("cdn.example", 80, hub.clone());
    setup.registry("docker.io", &hub);
    (hub.clone(), setup.start().await)
}

/// Signed URLs expire, and storage refuses them in many ways (S3: 400 `ExpiredToken`, 403 `Request
/// has expired`; Azure: 404; Google: 410). A new one from the registry works.
#[tokio::test(start_paused = true)]
async fn a_signed_url_that_is_refused_once_is_replaced_by_a_new_one() {
    for status in [400, 401, 403, 404, 405, 408, 410, 412, 500, 503, 520, 522] {
        for is_in_the_middle in [false, true] {
            let layer = Blob::random(1, 500_000);
            let (hub, proxy) = with_storage(&layer).await;
            let refused = if is_in_the_middle {
                hub.breaks(When::asked("/cdn/").nth(1), Fault::CutAt(250_000));
                2
            } else {
                1
            };
            hub.breaks(When::asked("/cdn/").nth(refused), Fault::status(status));

            proxy.get(&layer.path(REPOSITORY)).await.assert_is(&layer);

            let at_storage = hub.gets("/cdn/").len();
            assert_eq!(at_storage, refused + 1, "{status} in the middle: {is_in_the_middle}");
            let at_registry = hub.gets("/v2/").len();
            assert_eq!(at_registry, at_storage, "{status}: each with a URL of its own");
        }
    }
}

/// The registry says that the layer is there, so its storage's 404 is a fault and no absence.
#[tokio::test(start_paused = true)]
async fn storage_that_refuses_for_ever_is_a_fault_and_is_not_hammered() {
    for status in [400, 401, 403, 404, 410] {
        let layer = Blob::random(1, 1000);
        let (hub, proxy) = with_storage(&layer).await;
        hub.breaks(When::asked("/cdn/"), Fault::status(status));

        let (_, message) = proxy.get(&layer.path(REPOSITORY)).await.error(502);

        assert!(message.contains(&format!("cdn.example answered {status}")), "{message}");
        assert_eq!(hub.gets("/cdn/").len(), 2, "{status}");
        hub.heal();
        proxy.get(&layer.path(REPOSITORY)).await.assert_is(&layer);
    }
}

/// Neither the tag nor what it names depends on what passes.
#[tokio::test(start_paused = true)]
async fn a_tag_is_stale_while_the_status_does_not_pass() {
    for status in PASSING {
        let hub = ScriptedRegistry::new();
        let image = Image::random(1, &[]);
        hub.put_image(REPOSITORY, "latest", &image);
        let proxy = Proxy::before(&hub).await;
        proxy.get(LATEST).await.assert_is(&image.manifest.blob);
        tokio::time::advance(TAG_TTL * 2).await;
        hub.breaks(When::asked("/v2/"), page(status));

        let stale = proxy.get(LATEST).await;

        stale.assert_is(&image.manifest.blob);
        assert!(stale.decision().is_stale(), "{status}: {:?}", stale.decision());
    }
}
