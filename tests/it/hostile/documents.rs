//! Documents that are made to be large, or name other hosts: they are passed on, cost little, and
//! lead nowhere.

use std::time::Duration;

use http::Method;
use larder::oci::{MANIFEST_BYTES_MAX, ManifestFacts};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use crate::support::{Blob, Fault, Image, Manifest, Process, ScriptedRegistry, Setup, When};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest whose only layer of use comes after as many others as fit.
fn crowded(layer: &Blob) -> Manifest {
    crowded_from(0, layer)
}

/// The same with others from this number on.
fn crowded_from(first: usize, layer: &Blob) -> Manifest {
    let named = |digest: &str| format!(r#"{{"digest":"{digest}","size":1000}}"#);
    let digest = |number: usize| format!("sha256:{number:064x}");
    let layers: Vec<_> = (first..first + 30_000).map(|number| named(&digest(number))).collect();
    let layers = format!("{},{}", layers.join(","), named(layer.digest.as_str()));
    Manifest::raw(IMAGE, format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[{layers}]}}"#))
}

/// The upstream is asked for content that the manifest names behind the bound.
#[tokio::test(start_paused = true)]
async fn a_manifest_with_more_descriptors_than_are_read_is_served_with_all_that_it_names() {
    let hub = ScriptedRegistry::new();
    let layer = Blob::random(1, 1000);
    let manifest = crowded(&layer);
    hub.put_tagged("o/a", "latest", &manifest);
    hub.put_blob("o/a", &layer);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    let proxy = setup.start().await;

    for path in ["/v2/o/a/manifests/latest", &manifest.path("o/a")] {
        proxy.get(path).await.assert_is(&manifest.blob);
        assert!(proxy.get(path).await.decision().is_hit());
    }
    for _ in 0..2 {
        proxy.get(&layer.path("o/a")).await.assert_is(&layer);
    }
    assert_eq!(hub.gets(&layer.digest).len(), 1);

    let media_type = [("content-type", IMAGE)];
    let bytes = manifest.blob.bytes.clone();
    let refused =
        proxy.client.send(Method::PUT, "/v2/o/b/manifests/latest", &media_type, bytes).await;
    assert_eq!(refused.error(400).0, "MANIFEST_BLOB_UNKNOWN");
    proxy.get(&manifest.path("o/a")).await.assert_is(&manifest.blob);
}

/// Each of them would add megabytes to a log that is read before the first answer after a start.
#[tokio::test(start_paused = true)]
async fn refused_manifests_that_name_made_up_content_write_nothing() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(2, &[1000]);
    hub.put_image("o/a", "latest", &image);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    let proxy = setup.start().await;
    proxy.pull("o/a", "latest", &image).await;
    let log = proxy.cache_dir().join("registries/docker.io/o/a/_blobs");
    let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
    let before = length();

    let media_type = [("content-type", IMAGE)];
    for number in 0..5 {
        let manifest = crowded_from(number * 100_000, &Blob::random(3, 1000));
        let (path, bytes) = ("/v2/o/a/manifests/made-up", manifest.blob.bytes);
        proxy.client.send(Method::PUT, path, &media_type, bytes).await.error(400);
    }

    assert_eq!(length(), before);
    hub.forget();
    proxy.pull("o/a", "latest", &image).await;
    hub.assert_not_asked();
}

/// A manifest of nearly 4 MiB, in as many pieces as fit.
fn whole(number: usize) -> Manifest {
    let pair = format!(r#""{number}":"{}","#, "x".repeat(8)).repeat(MANIFEST_BYTES_MAX / 64);
    let layers = crowded_from(number * 100_000, &Blob::random(3, 10)).blob.bytes;
    let layers = std::str::from_utf8(&layers).unwrap();
    Manifest::raw(IMAGE, format!(r#"{{"annotations":{{{pair}"x":"x"}},{}"#, &layers[1..]))
}

/// The processor time of this thread so far, which serves all clients of the test.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// The thread that serves clients moves the bytes of a large document, and does nothing else with
/// them: another client's cached pull takes less of its time than to read one such document would.
#[tokio::test]
async fn a_cached_pull_does_not_wait_for_large_documents_of_others() {
    let hub = ScriptedRegistry::new();
    let image = Image::random(2, &[1000]);
    hub.put_image("o/a", "latest", &image);
    let documents: Vec<_> = (0..12).map(whole).collect();
    let tags: Vec<_> = (0..300_000).map(|number| format!("\"tag-{number}\"")).collect();
    let tags = format!(r#"{{"name":"o/a","tags":[{}]}}"#, tags.join(","));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", tags.len());
    hub.breaks(When::asked("tags/list"), Fault::raw(&head, tags.as_bytes()));
    let refusal = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"no"}]}"#;
    hub.breaks(When::asked("manifests/put").by("PUT"), Fault::Status(400, Vec::new(), refusal));
    for document in &documents[..4] {
        hub.put_manifest("o/a", document);
    }
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.push = true;
    let proxy = setup.start().await;
    proxy.pull("o/a", "latest", &image).await;
    let before = spent();
    assert!(documents.iter().all(|it| ManifestFacts::read(&it.blob.bytes).is_ok()));
    let to_read_one = spent().saturating_sub(before) / 12;

    let mut asking = JoinSet::new();
    for (number, document) in documents.into_iter().enumerate() {
        let (client, path) = (proxy.client.clone(), document.path("o/a"));
        asking.spawn(async move {
            match number / 4 {
                0 => client.get(&path).await.assert_is(&document.blob),
                1 => {
                    let (path, bytes) =
                        (format!("/v2/o/a/manifests/put{number}"), document.blob.bytes);
                    let media_type = [("content-type", IMAGE)];
                    client.send(Method::PUT, &path, &media_type, bytes).await.error(400);
                }
                _ => {
                    let path = format!("/v2/o/a/tags/list?n={number}");
                    assert_eq!(client.get(&path).await.status, 200);
                }
            }
        });
    }
    let (mut pulls, mut longest) = (0, Duration::ZERO);
    while !asking.is_empty() {
        let before = spent();
        proxy.get("/v2/o/a/manifests/latest").await.assert_is(&image.manifest.blob);
        longest = longest.max(spent().saturating_sub(before));
        pulls += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Some(asked) = asking.try_join_next() {
            asked.unwrap();
        }
    }
    assert!(pulls > 2 && longest < to_read_one, "{pulls} pulls, {longest:?} > {to_read_one:?}");
}

/// The bytes of the largest manifests are held while they come and go; no more is made of them.
#[tokio::test]
async fn large_documents_at_once_take_little_memory_beside_their_bytes() {
    const DOCUMENTS: usize = 12;
    let hub = ScriptedRegistry::new();
    let image = Image::random(2, &[1000]);
    hub.put_image("o/a", "latest", &image);
    let documents: Vec<_> = (0..DOCUMENTS).map(whole).collect();
    for document in &documents {
        hub.put_manifest("o/a", document);
    }
    let larder = Process::before(hub.listen().await, "").await;
    let latest = "/v2/o/a/manifests/latest";
    larder.client().get(latest).await.assert_is(&image.manifest.blob);
    let before = larder.peak_resident_bytes();

    let mut asking = JoinSet::new();
    for document in documents.iter().cloned() {
        let (client, path) = (larder.client(), document.path("o/a"));
        asking.spawn(async move { client.get(&path).await.assert_is(&document.blob) });
    }
    asking.join_all().await;

    let grown = larder.peak_resident_bytes() - before;
    let bytes = (DOCUMENTS * MANIFEST_BYTES_MAX) as u64;
    assert!(grown < 6 * bytes, "{grown} bytes for documents of {bytes}");
    hub.forget();
    larder.client().get(latest).await.assert_is(&image.manifest.blob);
    hub.assert_not_asked();
}

/// A layer that is to be fetched from elsewhere is the client's to fetch: no URL in a document is
/// called, whatever the registry says of the layer.
#[tokio::test(start_paused = true)]
async fn the_urls_of_a_foreign_layer_are_not_called() {
    let (hub, evil) = (ScriptedRegistry::new(), ScriptedRegistry::new());
    let layer = Blob::random(1, 1000);
    evil.put_blob("o/a", &layer);
    let urls = [
        format!("http://evil.example{}", layer.path("o/a")),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://127.0.0.1:5001/metrics".to_owned(),
    ];
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{}},"layers":[{{"size":1000,"digest":"{}",
        "mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","urls":{}}}]}}"#,
        layer.digest,
        serde_json::json!(urls)
    );
    let manifest = Manifest::raw(IMAGE, text);
    hub.put_tagged("o/a", "latest", &manifest);
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub);
    setup.network.put("evil.example", 80, evil.clone());
    let proxy = setup.start().await;

    proxy.get("/v2/o/a/manifests/latest").await.assert_is(&manifest.blob);
    proxy.get(&layer.path("o/a")).await.error(404);
    evil.assert_not_asked();
    proxy.network.assert_untripped();
    assert!(!hub.gets(&layer.digest).is_empty(), "the registry is asked");
    hub.put_blob("o/a", &layer);
    tokio::time::advance(Duration::from_secs(60)).await;
    proxy.get(&layer.path("o/a")).await.assert_is(&layer);
}
