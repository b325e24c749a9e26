//! A cache directory that an earlier version wrote serves its content.
//!
//! `fixtures/cache-0.1.0` was written by Larder at commit 6149612: an index and a manifest by tag,
//! the latter under a client's own `Accept` set, a layer with checksums of its blocks, one named by
//! SHA-512, a blob that no manifest names, both lists, and a tag that does not exist. Its database
//! and its session key are left out, since both are made anew where they are missing.

use std::fs;
use std::path::Path;

use larder::oci::Digest;

use crate::support::{Proxy, ScriptedRegistry, Setup};

const REPOSITORY: &str = "/v2/library/fixture";
const INDEX: &str = "sha256:8ff7354aea37ef65a64b24cbefe3c88ebabf23f0ac5cd246cd71187d1f7a21ab";
const MANIFEST: &str = "sha256:df62849384b1d7ce266b9b135aa5451a1375ce3a056d300968926b859dba1ded";
const BLOBS: [&str; 4] = [
    "sha256:519bbf4427ce65cd05f107f39ad9b781e44ef756339f8343303f898f41e110d0",
    "sha256:25c5db051e55d469f66e7863724332055a1de347caf6600c491cf746a4df8e31",
    "sha512:dabb8b83bf464c64c88e39b910630aaa0dbacdd796093523ab1913a44f4770c74ef5fb5e8732833bafb01871c434f5c44703e0c2c07ea7d374f1af7f807fb15a",
    "sha256:9fe71095276f24e6dbc6b98a74013b1f263dd847a3a7930bee3352f3f18f3280",
];
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A mirror that may not ask its upstream, on a copy of the directory.
async fn offline_on_the_old_directory() -> (ScriptedRegistry, Proxy) {
    let hub = ScriptedRegistry::new();
    let mut setup = Setup::new();
    setup.registry("docker.io", &hub).rules.offline = true;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/cache-0.1.0");
    copy(&fixture, &setup.settings.store.dir);
    (hub, setup.start().await)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// An upgrade of a mirror in an air gap must not cost it what it holds.
#[tokio::test(start_paused = true)]
async fn a_directory_of_version_0_1_0_is_served_without_one_upstream_request() {
    let (hub, proxy) = offline_on_the_old_directory().await;
    let get = async |path: &str, accept: &str| {
        let reply = proxy.get_with(&format!("{REPOSITORY}/{path}"), &[("accept", accept)]).await;
        reply.assert_status(200);
        reply
    };
    let is = |bytes: &[u8], digest: &str| {
        let digest: Digest = digest.parse().unwrap();
        assert_eq!(Digest::of(digest.algorithm(), bytes), digest);
    };

    let index = get("manifests/latest", &format!("{INDEX_TYPE}, {MANIFEST_TYPE}")).await;
    is(&index.body, INDEX);
    let manifest = get("manifests/latest", MANIFEST_TYPE).await;
    is(&manifest.body, MANIFEST);
    assert_eq!(manifest.header("content-type"), Some(MANIFEST_TYPE));
    is(&get(&format!("manifests/{INDEX}"), INDEX_TYPE).await.body, INDEX);
    for digest in BLOBS {
        is(&get(&format!("blobs/{digest}"), "*/*").await.body, digest);
    }
    assert!(get("tags/list", "*/*").await.text().contains("latest"));
    get(&format!("referrers/{MANIFEST}"), "*/*").await;
    let missing = proxy.get(&format!("{REPOSITORY}/manifests/missing")).await;
    missing.error(404);

    hub.assert_not_asked();
    assert_eq!(proxy.verification().1, 0, "no stored content is wrong");
}
