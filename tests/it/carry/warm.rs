//! `larder warm`: a server fetches before a client asks.

use crate::support::{Image, Manifest, Process, ScriptedRegistry};

const APP: &str = "team/app";

/// What was warmed is pulled while the upstream is down.
#[tokio::test]
async fn a_warmed_image_needs_no_upstream_with_the_platforms_that_were_asked_for() {
    let hub = ScriptedRegistry::new();
    let (amd, arm) = (Image::random(1, &[300_000, 5000]), Image::random(2, &[40_000]));
    let entry = |image: &Image, architecture: &str| {
        serde_json::json!({
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest().as_str(),
            "size": image.manifest.blob.len(),
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    let body = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind,
        "manifests": [entry(&amd, "amd64"), entry(&arm, "arm64")],
    });
    let multi = Manifest::raw(kind, body.to_string());
    hub.put_image(APP, "amd", &amd);
    hub.put_image(APP, "arm", &arm);
    hub.put_tagged(APP, "multi", &multi);
    let larder = Process::before(hub.listen().await, "").await;
    larder.client().get("/v2/").await.assert_status(200);

    let one = ["warm", "--platform", "linux/amd64", "team/app:multi"];
    let run = larder.command(&one).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.contains("warm docker.io/team/app:multi: "), "{run:?}");
    assert!(run.out.contains(" in 5 contents\n"), "{run:?}");
    for blob in arm.blobs() {
        assert_eq!(hub.changes("GET", &blob.digest).len(), 0, "{blob:?}");
    }
    let all = larder.command(&["warm", "--all-platforms", "team/app:multi"]).await;
    assert!(all.code == Some(0) && all.out.contains(" in 8 contents\n"), "{all:?}");
    let shown = larder.command(&["show", "team/app:multi", "--json"]).await;
    assert!(shown.out.contains(r#""complete":true"#), "{shown:?}");

    hub.forget();
    for image in [&amd, &arm] {
        for blob in image.blobs() {
            larder.client().get(&blob.path(APP)).await.assert_is(blob);
        }
    }
    hub.assert_not_asked();

    let list = larder.cache_dir().join("list");
    std::fs::write(&list, "# ours\n\nteam/app:amd\nteam/app:nosuch\n").unwrap();
    let run = larder.command(&["warm", "--file", list.to_str().unwrap()]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.out.contains("warm docker.io/team/app:amd"), "{run:?}");
    assert!(run.out.contains("failed docker.io/team/app:nosuch: "), "{run:?}");
    let none = ["warm", "--platform", "windows/amd64", "team/app:multi"];
    let run = larder.command(&none).await;
    assert!(run.code == Some(1) && run.out.contains("none of the platforms"), "{run:?}");
}

#[tokio::test]
async fn nothing_is_warmed_without_a_server_or_from_a_registry_that_is_offline() {
    let hub = ScriptedRegistry::new();
    let mut larder = Process::before(hub.listen().await, "offline = true").await;
    larder.client().get("/v2/").await.assert_status(200);
    let run = larder.command(&["warm", "alpine"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.out.contains("library/alpine:latest is not fetched here"), "{run:?}");
    larder.kill();
    let run = larder.command(&["warm", "alpine"]).await;
    assert!(run.code == Some(1) && run.err.contains("no server uses the cache"), "{run:?}");
}
