//! Deletions: the registry carries them out, and at once the content is not served here.

use std::time::Duration;

use http::Method;
use larder::access::{AccessRule, Action, CertificateUser};
use larder::http::ClientPeer;

use super::{begin, location, push_blob, push_image, put_manifest};
use crate::support::{
    Blob, Client, Fault, Gate, Image, Proxy, Reach, ScriptedRegistry, Setup, When, settle,
};

/// A proxy that takes pushes from everybody, and deletions from `admin`; and a client that is.
async fn open(hub: &ScriptedRegistry) -> (Proxy, Client) {
    let mut setup = Setup::new();
    setup.registry("docker.io", hub).rules.push = true;
    let user = |name: &str| CertificateUser { name: name.parse().unwrap(), user: name.to_owned() };
    setup.access.certificates = vec![user("admin"), user("other")];
    setup.access.policy.rules = vec![AccessRule {
        users: vec!["admin".parse().unwrap()],
        registries: Vec::new(),
        repositories: vec!["**".parse().unwrap()],
        actions: Action::ALL.to_vec(),
    }];
    let proxy = setup.start().await;
    let admin = named(&proxy, "admin");
    (proxy, admin)
}

fn named(proxy: &Proxy, name: &str) -> Client {
    proxy.client_of(ClientPeer { names: vec![name.to_owned()], ..ClientPeer::default() })
}

#[tokio::test(start_paused = true)]
async fn deleted_content_is_gone_at_once_by_tag_and_by_digest() {
    let hub = ScriptedRegistry::new();
    let (proxy, admin) = open(&hub).await;
    let (image, other) = (Image::random(1, &[1000]), Image::random(2, &[1000]));
    for tag in ["v1", "latest"] {
        push_image(&proxy, "o/a", tag, &image).await;
    }
    push_image(&proxy, "o/a", "other", &other).await;
    push_image(&proxy, "o/b", "v1", &image).await;
    let manifest = image.manifest.path("o/a");

    admin.call(Method::DELETE, &manifest, &[]).await.assert_status(202);

    for path in [&*manifest, "/v2/o/a/manifests/v1", "/v2/docker.io/o/a/manifests/latest"] {
        proxy.get(path).await.error(404);
        proxy.head(path).await.assert_status(404);
    }
    proxy.pull("o/a", "other", &other).await;
    proxy.pull("o/b", "v1", &image).await;
    proxy.restart().await;
    proxy.get(&manifest).await.error(404);
}

/// A pull that is on its way when the manifest is deleted may get it, and no later one.
#[tokio::test(start_paused = true)]
async fn a_manifest_that_arrives_after_its_deletion_is_not_kept() {
    for reference in ["by digest", "by tag"] {
        let hub = ScriptedRegistry::new();
        let (proxy, admin) = open(&hub).await;
        let image = Image::random(1, &[1000]);
        hub.put_image("o/a", "v1", &image);
        let by_digest = image.manifest.path("o/a");
        let path = if reference == "by tag" { "/v2/o/a/manifests/v1" } else { &by_digest };
        let gate = Gate::new();
        let last = image.manifest.blob.len() - 1;
        hub.breaks(When::asked("/manifests/").get(), Fault::HoldAt(last, gate.clone()));
        let early = tokio::spawn(proxy.client.get(path));
        gate.reached().await;

        admin.call(Method::DELETE, &by_digest, &[]).await.assert_status(202);
        let during = tokio::spawn(proxy.client.get(&by_digest));
        settle().await;
        gate.open();
        let early = early.await.unwrap();
        assert!(early.status == 404 || early.body == image.manifest.blob.bytes, "{reference}");

        during.await.unwrap().error(404);
        for path in [&*by_digest, "/v2/o/a/manifests/v1"] {
            assert_eq!(proxy.get(path).await.status, 404, "{reference}: {path}");
        }
        proxy.restart().await;
        assert_eq!(proxy.get(&by_digest).await.status, 404, "{reference}");
    }
}

/// The registry took a push, then a deletion, and answered to them the other way round.
#[tokio::test(start_paused = true)]
async fn content_that_is_deleted_while_its_push_is_answered_is_gone() {
    let hub = ScriptedRegistry::new();
    let (proxy, admin) = open(&hub).await;
    let (image, blob) = (Image::random(1, &[1000]), Blob::random(2, 1000));
    push_image(&proxy, "o/a", "v0", &image).await;
    let begun = begin(&proxy, "o/a").await;
    let gate = Gate::new();
    hub.breaks(When::asked("").by("PUT"), Fault::HoldHeaders(gate.clone()));
    let manifest = image.manifest.path("o/a");
    let types = [("content-type", image.manifest.media_type.as_str())];
    let put = |path: &str, headers: &[(&str, &str)], body: &Blob| {
        let sent = proxy.client.send(Method::PUT, path, headers, body.bytes.clone());
        tokio::spawn(sent)
    };
    let early = [
        put(&super::with_digest(&begun, &blob), &[], &blob),
        put(&manifest, &types, &image.manifest.blob),
    ];
    while hub.changes("PUT", "").len() < 2 + 3 {
        tokio::task::yield_now().await;
    }
    settle().await;

    for path in [&blob.path("o/a"), &manifest] {
        admin.call(Method::DELETE, path, &[]).await.assert_status(202);
    }
    gate.open();
    for early in early {
        early.await.unwrap().assert_status(201);
    }

    for path in [&blob.path("o/a"), &manifest] {
        proxy.get(path).await.error(404);
        proxy.head(path).await.assert_status(404);
    }
}

/// A busy repository must not cost all others what the registry has just said of them.
#[tokio::test(start_paused = true)]
async fn a_delete_voids_confirmations_in_flight_in_its_own_repository_only() {
    for (repository, heads) in [("o/a", 2), ("o/b", 1)] {
        let hub = ScriptedRegistry::new();
        let (proxy, admin) = open(&hub).await;
        let (deleted, asked) = (Blob::random(1, 1000), Blob::random(2, 1000));
        push_blob(&proxy, "o/a", &deleted).await.assert_status(201);
        hub.put_blob(repository, &asked);
        let gate = Gate::new();
        let head = When::asked(asked.digest.hex()).by("HEAD");
        hub.breaks(head, Fault::HoldHeaders(gate.clone()));
        let early = tokio::spawn(proxy.client.head(&asked.path(repository)));
        gate.reached().await;

        admin.call(Method::DELETE, &deleted.path("o/a"), &[]).await.assert_status(202);
        gate.open();

        early.await.unwrap().assert_status(200);
        // A hit needs the bytes here, too; that the blob exists is answered by a hit or a question.
        push_blob(&proxy, "o/c", &asked).await.assert_status(201);
        proxy.head(&asked.path(repository)).await.assert_status(200);
        assert_eq!(hub.heads(asked.digest.hex()).len(), heads, "{repository}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_deleted_is_gone_though_a_manifest_names_it() {
    let hub = ScriptedRegistry::new();
    let (proxy, admin) = open(&hub).await;
    let image = Image::random(1, &[1000]);
    push_image(&proxy, "o/a", "v1", &image).await;
    push_image(&proxy, "o/b", "v1", &image).await;
    let layer = &image.layers[0];

    admin.call(Method::DELETE, &layer.path("o/a"), &[]).await.assert_status(202);

    for _ in ["now", "after a restart"] {
        proxy.head(&layer.path("o/a")).await.assert_status(404);
        proxy.get(&layer.path("o/a")).await.error(404);
        proxy.get(&layer.path("o/b")).await.assert_is(layer);
        proxy.restart().await;
    }
    push_blob(&proxy, "o/a", layer).await.assert_status(201);
    proxy.get(&layer.path("o/a")).await.assert_is(layer);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_tag_leaves_its_manifest_in_place() {
    let hub = ScriptedRegistry::new();
    let (proxy, admin) = open(&hub).await;
    let image = Image::random(1, &[1000]);
    push_image(&proxy, "o/a", "v1", &image).await;

    admin.call(Method::DELETE, "/v2/o/a/manifests/v1", &[]).await.assert_status(202);

    proxy.get("/v2/o/a/manifests/v1").await.error(404);
    proxy.get(&image.manifest.path("o/a")).await.assert_is(&image.manifest.blob);
}

/// A registry that deletes nothing says so, and what it has stays what it is.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_refused_changes_nothing() {
    let hub = ScriptedRegistry::new();
    let (proxy, admin) = open(&hub).await;
    let image = Image::random(1, &[1000]);
    push_image(&proxy, "o/a", "v1", &image).await;
    hub.breaks(When::asked("").by("DELETE"), Fault::status(405));

    let manifest = image.manifest.path("o/a");
    for path in [&*manifest, &*image.layers[0].path("o/a"), "/v2/o/a/manifests/v1"] {
        assert_eq!(admin.call(Method::DELETE, path, &[]).await.error(405).0, "SCRIPTED");
    }

    proxy.network.set("registry-1.docker.io", Reach::Down);
    proxy.pull("o/a", "v1", &image).await;
    admin.call(Method::DELETE, &manifest, &[]).await.error(502);
    proxy.pull("o/a", "v1", &image).await;
}

/// A right to push is no right to delete.
#[tokio::test(start_paused = true)]
async fn only_users_that_a_rule_names_can_delete() {
    let hub = ScriptedRegistry::new();
    let (proxy, _) = open(&hub).await;
    let image = Image::random(1, &[10]);
    push_image(&proxy, "o/a", "v1", &image).await;
    hub.forget();

    for client in [&proxy.client, &named(&proxy, "other")] {
        for path in [&*image.manifest.path("o/a"), "/v2/o/a/manifests/v1"] {
            let reply = client.call(Method::DELETE, path, &[]).await;
            assert!(matches!(reply.status.as_u16(), 403 | 404), "{}", reply.status);
        }
    }
    assert!(hub.changes("DELETE", "").is_empty());
}

/// Quay-32589: an upload is its user's alone, even if others learn its id.
#[tokio::test(start_paused = true)]
async fn an_upload_of_another_user_is_unknown() {
    let hub = ScriptedRegistry::new();
    let (proxy, admin) = open(&hub).await;
    let other = named(&proxy, "other");
    let begun = begin(&proxy, "o/a").await;
    let own = location(&admin.call(Method::POST, "/v2/o/a/blobs/uploads/", &[]).await);
    hub.forget();

    for (client, path) in [(&other, &own), (&proxy.client, &own), (&admin, &begun)] {
        for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE] {
            let path = format!("{path}?digest=sha256:{}", "0".repeat(64));
            let reply = client.send(method.clone(), &path, &[], "x".into()).await;
            assert_eq!(reply.error(404).0, "BLOB_UPLOAD_UNKNOWN", "{method}");
        }
    }
    hub.assert_not_asked();
    admin.call(Method::GET, &own, &[]).await.assert_status(204);
}

/// A client that may only read gets cached answers, in an outage as well: it skips no upload.
#[tokio::test(start_paused = true)]
async fn a_user_that_may_not_push_gets_cached_answers_without_a_question_upstream() {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    setup.access.policy = larder::access::AccessPolicy::open_for_pull();
    let user = CertificateUser { name: "ci".parse().unwrap(), user: "ci".to_owned() };
    setup.access.certificates = vec![user];
    let proxy = setup.start().await;
    let image = Image::random(1, &[10]);
    hub.put_image("o/a", "v1", &image);
    proxy.pull("o/a", "v1", &image).await;
    // A blob that the registry has just sent counts as confirmed.
    tokio::time::advance(Duration::from_secs(61)).await;
    proxy.network.set("registry-1.docker.io", Reach::Down);

    for path in [&*image.layers[0].path("o/a"), &*image.manifest.path("o/a")] {
        proxy.head(path).await.assert_status(200);
        named(&proxy, "ci").head(path).await.assert_status(502);
    }
    let refused = put_manifest(&proxy, "o/a", "v1", &image.manifest).await;
    assert!(matches!(refused.status.as_u16(), 403 | 404), "{}", refused.status);
}
