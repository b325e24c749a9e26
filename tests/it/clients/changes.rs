//! Changes that the registry refuses to one client: they take nothing from the others.

use bytes::Bytes;
use http::Method;
use larder::access::AnonymousAccess;

use super::{ANN, BEN, LATEST, ann, asking, ben, get, pull, put};
use crate::support::registry::basic;
use crate::support::{Fault, Image, Manifest, Proxy, Reply, ScriptedRegistry, Setup, When};

/// A proxy of corp.test that takes pushes; Ann may do everything in `team/app`, whose image is
/// cached.
async fn cached() -> (ScriptedRegistry, Image, Proxy) {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[2000, 10]);
    hub.put_image("team/app", "latest", &image);
    let mut setup = Setup::new();
    put(&mut setup, "corp.test", &hub, &[ann(&["team/*:pull,push,delete"]), ben(&["ben/*:pull"])]);
    setup.settings.registries[0].rules.push = true;
    setup.access = asking(AnonymousAccess::None);
    let proxy = setup.start().await;
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    get(&proxy, "/v2/team/app/tags/list", ("ann", ANN)).await.assert_status(200);
    (hub, image, proxy)
}

async fn put_manifest(proxy: &Proxy, path: &str, manifest: &Manifest, user: (&str, &str)) -> Reply {
    let header = basic(user.0, user.1);
    let headers = [("authorization", &*header), ("content-type", &*manifest.media_type)];
    proxy.client.send(Method::PUT, path, &headers, manifest.blob.bytes.clone()).await
}

async fn delete(proxy: &Proxy, path: &str, user: (&str, &str)) -> Reply {
    let header = basic(user.0, user.1);
    let headers = [("authorization", &*header)];
    proxy.client.send(Method::DELETE, path, &headers, Bytes::new()).await
}

/// A registry that hides repositories answers a stranger as if there were none, and one that is
/// behind a login page answers 200.
#[tokio::test(start_paused = true)]
async fn a_client_without_a_right_takes_nothing_that_is_cached_from_others() {
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#;
    for (status, body) in [
        (404, unknown),
        (404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        (404, ""),
        (400, "<html>"),
        (403, r#"{"errors":[{"code":"DENIED"}]}"#),
        (401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
        (422, ""),
    ] {
        let (hub, image, proxy) = cached().await;
        for method in ["PUT", "DELETE"] {
            let fault = Fault::Status(status, Vec::new(), body);
            hub.breaks(When::asked("/v2/team/app/").by(method), fault);
        }

        let manifest = image.manifest.path("team/app");
        for path in [LATEST, &manifest, &image.layers[0].path("team/app")] {
            let refused = delete(&proxy, path, ("ben", BEN)).await;
            assert!(refused.status.is_client_error(), "{status} {path}: {}", refused.status);
        }
        for path in [LATEST, &manifest] {
            let refused = put_manifest(&proxy, path, &image.manifest, ("ben", BEN)).await;
            assert!(refused.status.is_client_error(), "{status} {path}: {}", refused.status);
        }

        hub.forget();
        pull(&proxy, "team/app", &image, ("ann", ANN)).await;
        get(&proxy, "/v2/team/app/tags/list", ("ann", ANN)).await.assert_status(200);
        hub.assert_not_asked();
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_page_in_answer_to_a_stranger_takes_no_tag_from_others() {
    let (hub, image, proxy) = cached().await;
    hub.breaks(When::asked("/v2/team/app/").by("PUT"), Fault::Html200);
    hub.breaks(When::asked("/v2/team/app/").head(), Fault::Html200);

    put_manifest(&proxy, LATEST, &image.manifest, ("ben", BEN)).await.error(502);

    hub.forget();
    pull(&proxy, "team/app", &image, ("ann", ANN)).await;
    hub.assert_not_asked();
}

/// Refusals that only a client with the right can get: the registry has read the manifest, or has
/// deleted what was asked for.
#[tokio::test(start_paused = true)]
async fn a_client_with_the_right_still_changes_what_is_held() {
    for (status, code) in [
        (400, r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#),
        (404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
        (422, r#"{"errors":[{"code":"MANIFEST_INVALID"}]}"#),
    ] {
        let (hub, image, proxy) = cached().await;
        let layer = image.layers[0].path("team/app");
        hub.breaks(When::asked("/manifests/").by("PUT"), Fault::Status(status, Vec::new(), code));
        put_manifest(&proxy, LATEST, &image.manifest, ("ann", ANN)).await.assert_status(status);

        hub.collect_garbage("team/app", &image.layers[0].digest);
        get(&proxy, &layer, ("ann", ANN)).await.error(404);
    }

    let (_hub, image, proxy) = cached().await;
    let manifest = image.manifest.path("team/app");
    delete(&proxy, &manifest, ("ann", ANN)).await.assert_status(202);
    for path in [LATEST, &manifest] {
        get(&proxy, path, ("ann", ANN)).await.error(404);
    }
}

/// The registry has lost content in another way: that a client which may read there learns of it
/// changes what is held, and that another client gets a 404 does not.
#[tokio::test(start_paused = true)]
async fn a_deletion_of_what_is_gone_upstream_purges_it_for_a_client_with_the_right_alone() {
    for (user, is_gone, is_purged) in
        [(("ann", ANN), true, true), (("ben", BEN), true, false), (("ann", ANN), false, false)]
    {
        let (hub, image, proxy) = cached().await;
        let manifest = image.manifest.path("team/app");
        let layer = image.layers[0].path("team/app");
        let paths = [LATEST, &*manifest, &*layer];
        let gone = || Fault::Status(404, Vec::new(), r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#);
        for path in paths {
            hub.breaks(When::asked(path).by("DELETE"), gone());
            if is_gone {
                hub.breaks(When::asked(path).head(), gone());
                hub.breaks(When::asked(path).get(), gone());
            }
        }

        for path in paths {
            delete(&proxy, path, user).await.assert_status(404);
        }

        hub.forget();
        for path in paths {
            let reply = get(&proxy, path, ("ann", ANN)).await;
            let want = if is_purged { 404 } else { 200 };
            assert_eq!(reply.status, want, "{} {is_gone} {path}: {}", user.0, reply.text());
        }
        if !is_purged {
            hub.assert_not_asked();
        }
    }
}
