//! Blobs that the registry has elsewhere: a mount is done only when it says so, and never tells or
//! gives what the client could not read.

use http::Method;

use super::{location, open, post, push_blob, put};
use crate::support::{Blob, Image, Proxy, ScriptedRegistry, Setup};

fn mount(repository: &str, blob: &Blob, from: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/?mount={}&from={from}", blob.digest)
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_mounted_from_where_the_client_says() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    hub.put_blob("o/a", &blob);
    let proxy = open(&hub).await;

    let reply = post(&proxy, &mount("o/b", &blob, "o%2Fa")).await;

    reply.assert_status(201);
    assert_eq!(location(&reply), blob.path("o/b"));
    assert_eq!(reply.header("docker-content-digest"), Some(blob.digest.as_str()));
    assert!(hub.blob("o/b", &blob.digest).is_some());
    proxy.head(&blob.path("o/b")).await.assert_status(200);
    proxy.get(&blob.path("o/b")).await.assert_is(&blob);
}

/// The client's name for a repository is not the registry's.
#[tokio::test(start_paused = true)]
async fn a_source_is_named_by_the_clients_door() {
    let (hub, other) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    setup.registry("ghcr.io", &other).rules.push = true;
    let proxy = setup.start().await;
    for (number, (target, from)) in [
        ("/v2/docker.io/o/b", "docker.io/o/a"),
        ("/v2/ghcr.io/o/b", "ghcr.io/o/a"),
        ("/ghcr.io/v2/o/b", "o/a"),
        ("/v2/alpine", "debian"),
    ]
    .into_iter()
    .enumerate()
    {
        let blob = Blob::random(number as u64, 1000);
        for registry in [&hub, &other] {
            registry.put_blob("o/a", &blob);
            registry.put_blob("library/debian", &blob);
        }
        let path = format!("{target}/blobs/uploads/?mount={}&from={from}", blob.digest);
        let reply = post(&proxy, &path).await;
        reply.assert_status(201);
        assert_eq!(location(&reply), format!("{target}/blobs/{}", blob.digest));
    }
}

/// Another registry's blobs are nothing to this one; nor is a name that is none.
#[tokio::test(start_paused = true)]
async fn a_source_elsewhere_is_a_plain_upload() {
    let (hub, other) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    setup.registry("ghcr.io", &other).rules.push = true;
    let proxy = setup.start().await;
    let blob = Blob::random(1, 1000);
    other.put_blob("o/a", &blob);
    hub.put_blob("ghcr.io/o/a", &blob);
    hub.put_blob("nosuch.io/o/a", &blob);
    proxy.get(&format!("/v2/ghcr.io/o/a/blobs/{}", blob.digest)).await.assert_is(&blob);
    hub.forget();
    other.forget();

    for from in ["ghcr.io/o/a", "nosuch.io/o/a", "../../x", "", "%00", "O/A"] {
        let reply = post(&proxy, &mount("o/b", &blob, from)).await;
        reply.assert_status(202);
        put(&proxy, &location(&reply), &blob, &blob.bytes).await.assert_status(201);
    }
    other.assert_not_asked();
    assert!(hub.changes("POST", "mount").is_empty(), "nothing may be mounted by that name");

    let path = "/v2/o/b/blobs/uploads/?mount=garbage&from=o/a";
    assert_eq!(post(&proxy, path).await.error(400).0, "DIGEST_INVALID");
}

/// A 202 is an upload that was opened, not a mount (harbor PR#22863).
#[tokio::test(start_paused = true)]
async fn a_blob_that_is_not_there_is_uploaded() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    let proxy = open(&hub).await;

    let reply = post(&proxy, &mount("o/b", &blob, "o/a")).await;

    reply.assert_status(202);
    assert!(hub.blob("o/b", &blob.digest).is_none());
    put(&proxy, &location(&reply), &blob, &blob.bytes).await.assert_status(201);
    assert_eq!(hub.uploads(), 0);
}

/// A blob that Larder knows to be elsewhere in the registry is not sent a second time.
#[tokio::test(start_paused = true)]
async fn a_blob_known_elsewhere_in_the_registry_is_mounted_whatever_the_client_knows() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000, 2000]);
    hub.put_image("o/a", "v1", &image);
    let pushed = Blob::random(7, 500);
    let proxy = open(&hub).await;
    proxy.pull("o/a", "v1", &image).await;
    push_blob(&proxy, "o/c", &pushed).await.assert_status(201);
    hub.forget();

    for (blob, query) in [
        (&image.layers[0], String::new()),
        (&image.layers[1], "&from=o/nowhere".to_owned()),
        (&pushed, "&from=ghcr.io/x".to_owned()),
    ] {
        let path = format!("/v2/o/b/blobs/uploads/?mount={}{query}", blob.digest);
        post(&proxy, &path).await.assert_status(201);
        assert!(hub.blob("o/b", &blob.digest).is_some());
    }
    assert_eq!(hub.received(), 0);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.value("larder_mounted_blobs_total", &[]), 3);
    assert_eq!(metrics.value("larder_mounted_bytes_total", &[]), 3500);
    assert_eq!(hub.uploads(), 0, "an upload that a mount made needless is cancelled");
}

/// A HEAD must not be answered by making it true, and a plain POST is what it is.
#[tokio::test(start_paused = true)]
async fn an_upload_without_mount_in_its_query_mounts_nothing() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(1, &[1000]);
    hub.put_image("o/a", "v1", &image);
    let proxy = open(&hub).await;
    proxy.pull("o/a", "v1", &image).await;

    proxy.head(&image.layers[0].path("o/b")).await.assert_status(404);
    post(&proxy, "/v2/o/b/blobs/uploads/").await.assert_status(202);

    assert!(hub.blob("o/b", &image.layers[0].digest).is_none());
    assert!(hub.changes("POST", "mount").is_empty());
}

/// A repository that the rules hide is no source either, by name or by knowledge.
#[tokio::test(start_paused = true)]
async fn a_repository_that_is_hidden_is_no_source() {
    let hub = ScriptedRegistry::new();
    let blob = Blob::random(1, 1000);
    hub.put_blob("secret/a", &blob);
    let mut setup = Setup::new();
    let options = setup.registry("docker.io", &hub);
    options.rules.push = true;
    options.rules.deny = vec!["secret/**".parse().unwrap()];
    let proxy: Proxy = setup.start().await;

    let reply = post(&proxy, &mount("o/b", &blob, "secret/a")).await;

    reply.assert_status(202);
    assert!(hub.changes("POST", "secret").is_empty());
    assert!(hub.blob("o/b", &blob.digest).is_none());
    let reply = proxy.client.send(Method::POST, "/v2/secret/a/blobs/uploads/", &[], "".into());
    reply.await.error(404);
}
