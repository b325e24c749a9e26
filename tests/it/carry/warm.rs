//! `larder warm`: a server fetches before a client asks.

use super::offline::referrer;
use crate::support::{Fault, Gate, Image, Manifest, Process, ScriptedRegistry, When};

const APP: &str = "team/app";

/// What was warmed is pulled while the upstream is down.
#[tokio::test]
async fn a_warmed_image_needs_no_upstream_with_the_platforms_that_were_asked_for() {
    let hub = ScriptedRegistry::new();
    let (amd, arm) = (Image::random(1, &[300_000, 5000]), Image::random(2, &[40_000]));
    let multi = Manifest::of_platforms(&[(&amd, "amd64"), (&arm, "arm64")]);
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

/// Signatures and SBOMs cost requests and room, so they are asked for.
#[tokio::test]
async fn referrers_are_warmed_only_when_they_are_asked_for() {
    let hub = ScriptedRegistry::new();
    let app = Image::random(1, &[5000]);
    let (sbom, sbom_blobs) = referrer(&app);
    hub.put_image(APP, "v1", &app);
    hub.put_manifest(APP, &sbom);
    for blob in &sbom_blobs {
        hub.put_blob(APP, blob);
    }
    let list = Manifest::index(&[&sbom]);
    let (kind, len) = (&list.media_type, list.blob.len());
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len}");
    let listing = format!("/referrers/{}", app.manifest.digest());
    hub.breaks(When::asked(&listing), Fault::raw(&head, &list.blob.bytes));
    let larder = Process::before(hub.listen().await, "").await;
    larder.client().get("/v2/").await.assert_status(200);

    let run = larder.command(&["warm", "team/app:v1"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(hub.gets(&listing).is_empty() && hub.gets(sbom.digest()).is_empty());

    let run = larder.command(&["warm", "--referrers", "team/app:v1"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    hub.forget();
    larder.client().get(&sbom.path(APP)).await.assert_is(&sbom.blob);
    for blob in &sbom_blobs {
        larder.client().get(&blob.path(APP)).await.assert_is(blob);
    }
    hub.assert_not_asked();
}

/// A list of a thousand images is not begun anew because of a restart.
#[tokio::test]
async fn a_warm_that_was_killed_with_its_server_goes_on_with_the_bytes_that_it_has() {
    let hub = ScriptedRegistry::new();
    let app = Image::random(1, &[8 << 20]);
    hub.put_image(APP, "v1", &app);
    let (layer, gate, half) = (&app.layers[0], Gate::new(), 4 << 20);
    hub.breaks(When::asked(&layer.digest).nth(1), Fault::HoldAt(half, gate.clone()));
    let mut larder = Process::before(hub.listen().await, "").await;
    larder.client().get("/v2/").await.assert_status(200);
    let begun = larder.begin_command(&["warm", "team/app:v1"]);
    let begun = tokio::spawn(begun);
    gate.reached().await;
    let is_half =
        |larder: &Process| larder.files("fills").iter().any(|(_, len)| *len == half as u64);
    larder.until(is_half, "half of the layer is on disk").await;
    larder.kill();
    let broken = begun.await.unwrap();
    assert_eq!(broken.code, Some(1), "{broken:?}");
    hub.heal();
    hub.forget();
    larder.start_again().await;
    larder.client().get("/v2/").await.assert_status(200);

    let run = larder.command(&["warm", "team/app:v1"]).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    let gets = hub.gets(&layer.digest);
    assert_eq!((gets.len(), gets[0].header("range")), (1, Some("bytes=4194304-")));
    hub.forget();
    larder.client().get(&layer.path(APP)).await.assert_is(layer);
    hub.assert_not_asked();
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

/// The names are where they are used, not in a list that is kept beside it.
#[tokio::test]
async fn images_are_warmed_from_compose_and_from_manifests_and_mistakes_are_told_with_their_place()
{
    let hub = ScriptedRegistry::new();
    for (number, tag) in ["v1", "v2", "v3"].into_iter().enumerate() {
        hub.put_image(APP, tag, &Image::random(number as u64, &[5000]));
    }
    let larder = Process::before(hub.listen().await, "").await;
    larder.client().get("/v2/").await.assert_status(200);
    let write = |name: &str, text: &str| {
        let path = larder.cache_dir().with_file_name(name);
        std::fs::write(&path, text).unwrap();
        path
    };

    let compose = write(
        "compose.yaml",
        "services:\n  a:\n    image: team/app:${TAG:-v1}\n  b: {build: ., image: team/own}\n",
    );
    let rendered = write(
        "rendered",
        "---\n# Source: a\nkind: Pod\nmetadata: {annotations: {image: A picture}}\nspec:\n  \
         containers:\n  - image: team/app:v2\n  - image: docker.io/team/app:v1\n---\nkind: X\n\
         spec: {image: {repository: team/app, tag: v3}}\n",
    );
    let both = ["warm", "--file", compose.to_str().unwrap(), "--file", "-"];
    let run = larder.command_from(&rendered, &both).await;

    assert_eq!(run.code, Some(0), "{run:?}");
    let warmed: Vec<&str> =
        run.out.lines().filter_map(|line| line.split(": ").next()?.strip_prefix("warm ")).collect();
    let names = ["v1", "v2", "v3"].map(|tag| format!("docker.io/team/app:{tag}"));
    assert_eq!(warmed, names, "{run:?}");
    let left_out = "left out stdin:4:33: `A picture` is not the name of an image\n";
    assert!(run.err.contains(left_out), "{run:?}");

    hub.forget();
    for (text, message) in [
        ("services: {a: {image: team/app:v1}, b: {image: 'team/app:${V}'}}", "1:48: the variable"),
        ("kind: Pod\ncontainers:\n- image: team/app v1\n", "3:10: `team/app v1` is not the name"),
        ("a: b: c\n", "1:5: mapping values are not allowed"),
        ("kind: ConfigMap\n", "images from stdin: it names no image"),
        ("team/app:v1\nteam app\n", "stdin:2:1: `team app` is not the name"),
    ] {
        let run = larder.command_from(&write("bad", text), &["warm", "--file", "-"]).await;
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{text}: {run:?}");
        assert!(run.err.contains(message), "{text}: {run:?}");
    }
    let run = larder.command(&["warm", "--file", "/nowhere"]).await;
    assert!(run.code == Some(2) && run.err.contains("from /nowhere: No such file"), "{run:?}");
    hub.assert_not_asked();
}
