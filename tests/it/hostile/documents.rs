//! Documents that are made to be large: they are passed on, and cost little.

use http::Method;

use crate::support::{Blob, Manifest, ScriptedRegistry, Setup};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest whose only layer of use comes after as many others as fit.
fn crowded(layer: &Blob) -> Manifest {
    let named = |digest: &str| format!(r#"{{"digest":"{digest}","size":1000}}"#);
    let digest = |number: usize| format!("sha256:{number:064x}");
    let layers: Vec<_> = (0..30_000).map(|number| named(&digest(number))).collect();
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
