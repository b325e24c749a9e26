//! Manifests that clients pull directly though they are odd: without a type, or with annotations
//! that a strict reader of JSON refuses.

use crate::support::image::{OCI_IMAGE, OCI_INDEX};
use crate::support::{Blob, Manifest, Proxy, ScriptedRegistry};

const REPOSITORY: &str = "library/alpine";
const LATEST: &str = "/v2/library/alpine/manifests/latest";

#[tokio::test(start_paused = true)]
async fn a_manifest_is_served_verbatim_and_by_its_kind_however_odd_it_is() {
    let config = Blob::random(1, 20);
    let head = format!(
        r#""schemaVersion":2,"config":{{"digest":"{}","size":20}},"layers":[]"#,
        config.digest
    );
    let typed = format!(r#"{head},"mediaType":"{OCI_IMAGE}""#);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let with = |member: &[u8]| {
        [b"{", typed.as_bytes(), b",\"annotations\":{\"a\":", member, b"}}"].concat()
    };
    for (case, media_type, bytes, want) in [
        ("image, generic", "application/json", format!("{{{head}}}").into_bytes(), OCI_IMAGE),
        ("image, text", "text/plain", format!("{{{head}}}").into_bytes(), OCI_IMAGE),
        ("index", "application/json", br#"{"manifests":[]}"#.to_vec(), OCI_INDEX),
        ("body's type", "application/octet-stream", with(b"1"), OCI_IMAGE),
        ("latin-1", OCI_IMAGE, with(b"\"J\xfcrgen\""), OCI_IMAGE),
        ("lone surrogate", OCI_IMAGE, with(br#""J\udcfcrgen""#), OCI_IMAGE),
        ("deep", OCI_IMAGE, with(deep.as_bytes()), OCI_IMAGE),
        ("exponent", OCI_IMAGE, with(b"1e400"), OCI_IMAGE),
    ] {
        let manifest = Manifest::raw(media_type, bytes);
        let hub = ScriptedRegistry::new();
        hub.put_tagged(REPOSITORY, "latest", &manifest);
        hub.put_blob(REPOSITORY, &config);
        let proxy = Proxy::before(&hub).await;
        for round in ["cold", "warm", "after a restart"] {
            for path in [LATEST, &manifest.path(REPOSITORY)] {
                let reply = proxy.get(path).await;
                reply.assert_is(&manifest.blob);
                assert_eq!(reply.header("content-type"), Some(want), "{case}, {round}");
            }
            proxy.restart().await;
        }
    }
}
