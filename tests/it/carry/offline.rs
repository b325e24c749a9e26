//! Lists behind the gap: an import brings none, and clients ask for them.

use serde_json::{Value, json};

use super::two_sides::{APP, TwoSides, pull};
use crate::support::{Blob, Image, Manifest};

const SBOM: &str = "application/vnd.example.sbom";

/// An artifact that refers to an image.
pub(super) fn referrer(of: &Image) -> (Manifest, [Blob; 2]) {
    let blobs = [Blob::new("{}"), Blob::new("the parts of it")];
    let descriptor = |blob: &Blob, kind: &str| json!({ "mediaType": kind, "digest": blob.digest.as_str(), "size": blob.len() });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let body = json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "artifactType": SBOM,
        "config": descriptor(&blobs[0], "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(&blobs[1], "text/plain")],
        "subject": descriptor(&of.manifest.blob, kind),
        "annotations": { "of": "app" },
    });
    (Manifest::raw(kind, body.to_string()), blobs)
}

async fn json(sides: &TwoSides, path: &str) -> Value {
    let reply = sides.far.client().get(path).await;
    reply.assert_status(200);
    serde_json::from_slice(&reply.body).unwrap()
}

/// Renovate reads tags, oras and cosign read referrers; none of them may need an upstream.
#[tokio::test]
async fn tags_and_referrers_of_imported_images_are_listed_behind_the_gap() {
    let sides = TwoSides::start().await;
    let (sbom, blobs) = referrer(&sides.app);
    sides.hub.put_manifest(APP, &sbom);
    for blob in &blobs {
        sides.hub.put_blob(APP, blob);
    }
    sides.pull("v1", &sides.app).await;
    sides.pull("other", &sides.other).await;
    sides.near.client().get(&sbom.path(APP)).await.assert_is(&sbom.blob);
    for blob in &blobs {
        sides.near.client().get(&blob.path(APP)).await.assert_is(blob);
    }
    let is_stored = |larder: &crate::support::Process| {
        larder.files("blobs").iter().any(|(path, _)| path.ends_with(blobs[1].digest.hex()))
    };
    sides.near.until(is_stored, "the referrer is stored").await;
    let bundle = sides.export("bundle.tar", &["team/app:v1", "team/app:other"]).await;
    let tags = format!("/v2/{APP}/tags/list");
    sides.far.client().get(&tags).await.error(404);
    sides.run(&sides.far, &["import", bundle.to_str().unwrap()]).await;

    assert_eq!(json(&sides, &tags).await, json!({ "name": APP, "tags": ["other", "v1"] }));
    let first = sides.far.client().get(&format!("{tags}?n=1")).await;
    assert!(first.text().contains(r#"["other"]"#), "{}", first.text());
    assert!(first.header("link").unwrap().contains("last=other"), "{:?}", first.header("link"));
    let rest = json(&sides, &format!("{tags}?n=1&last=other")).await;
    assert_eq!(rest["tags"], json!(["v1"]));

    let referrers = format!("/v2/{APP}/referrers/{}", sides.app.manifest.digest());
    let found = json(&sides, &referrers).await;
    let want = json!([{
        "mediaType": sbom.media_type,
        "digest": sbom.digest().as_str(),
        "size": sbom.blob.len(),
        "artifactType": SBOM,
        "annotations": { "of": "app" },
    }]);
    assert_eq!(found["manifests"], want);
    sides.far.client().get(&sbom.path(APP)).await.assert_is(&sbom.blob);
    for blob in &blobs {
        sides.far.client().get(&blob.path(APP)).await.assert_is(blob);
    }
    let none = format!("/v2/{APP}/referrers/{}", sides.other.manifest.digest());
    assert_eq!(json(&sides, &none).await["manifests"], json!([]));
    let none = format!("/v2/{APP}/referrers/{}", sides.multi.digest());
    let (_, message) = sides.far.client().get(&none).await.error(404);
    assert!(message.contains("offline") && message.contains("larder import"), "{message}");
    pull(&sides.far, "v1", &sides.app).await;
    sides.unreachable.assert_not_asked();
}
