//! Archives as `docker save` writes them from version 25 on: a layout and a `manifest.json` in one.

use std::fs;

use serde_json::{Value, json};
use tar::EntryType;

use super::archive::{Entry, archive};
use super::offline::referrer;
use super::two_sides::{APP, TwoSides, pull};
use crate::support::{Blob, Image, Manifest, Process};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

fn dir(name: &str) -> Entry {
    Entry::of(EntryType::Directory, name, b"")
}

fn blob(blob: &Blob) -> Entry {
    Entry::file(&path(blob), &blob.bytes)
}

fn path(blob: &Blob) -> String {
    format!("blobs/sha256/{}", blob.digest.hex())
}

/// A manifest in `index.json`.
fn entry(manifest: &Manifest, annotations: &Value) -> Value {
    json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest().as_str(),
        "size": manifest.blob.len(),
        "annotations": annotations,
    })
}

fn named(manifest: &Manifest, name: &str) -> Value {
    let tag = name.rsplit(':').next().unwrap();
    let annotations =
        json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
    entry(manifest, &annotations)
}

fn index(manifests: &[Value]) -> Entry {
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    Entry::file("index.json", index.to_string().as_bytes())
}

async fn import(sides: &TwoSides, all: &[Entry]) -> String {
    let file = sides.file("saved.tar");
    fs::write(&file, archive(all)).unwrap();
    sides.run(&sides.far, &["import", file.to_str().unwrap()]).await
}

async fn assert_complete(far: &Process, image: &str) {
    let shown = far.command(&["show", image, "--json"]).await;
    assert!(shown.out.contains(r#""complete":true"#), "{shown:?}");
}

/// From its own store of images: layers are not compressed, and the configuration of each layer
/// that Docker 1.9 wanted lies among the contents.
#[tokio::test]
async fn an_archive_of_a_docker_that_keeps_images_itself_is_imported_by_its_layout() {
    let sides = TwoSides::start().await;
    let layers = [Blob::random(1, 20_000), Blob::random(2, 300)];
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = Blob::new(json!({ "architecture": "amd64", "rootfs": rootfs }).to_string());
    let legacy = [Blob::new(r#"{"id":"a"}"#), Blob::new(r#"{"id":"b","parent":"a"}"#)];
    let descriptor = |blob: &Blob, kind: &str| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": blob.digest.as_str(), "size": blob.len() })
    };
    let sources: Vec<_> = layers.iter().map(|layer| descriptor(layer, "layer.v1.tar")).collect();
    let body = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(&config, "config.v1+json"),
        "layers": sources,
    });
    let manifest = Manifest::raw(MANIFEST, body.to_string());
    let docker = json!([{
        "Config": path(&config),
        "RepoTags": ["base:1", "team/app:v1"],
        "Layers": layers.iter().map(path).collect::<Vec<_>>(),
        "LayerSources": { layers[0].digest.as_str(): sources[0], layers[1].digest.as_str(): sources[1] },
    }]);
    let contents = layers.iter().chain(&legacy).chain([&config, &manifest.blob]);
    let mut all = vec![dir("blobs/"), dir("blobs/sha256/")];
    all.extend(contents.map(blob));
    let names = ["docker.io/library/base:1", "docker.io/team/app:v1"];
    all.push(index(&names.map(|name| named(&manifest, name))));
    all.push(Entry::file("manifest.json", docker.to_string().as_bytes()));
    all.push(Entry::file("oci-layout", LAYOUT));
    all.push(Entry::file("repositories", br#"{"base":{"1":"a"},"team/app":{"v1":"a"}}"#));

    let out = import(&sides, &all).await;

    for name in names {
        assert!(out.contains(&format!("imported {name}\n")), "{out}");
        assert_complete(&sides.far, name).await;
    }
    let client = sides.far.client();
    client.get(&format!("/v2/{APP}/manifests/v1")).await.assert_is(&manifest.blob);
    for blob in layers.iter().chain([&config]) {
        client.get(&blob.path(APP)).await.assert_is(blob);
    }
    sides.unreachable.assert_not_asked();
}

/// From containerd's store: an index of platforms that were not pulled, one of them with its
/// manifest alone, and signatures without a name of their own.
#[tokio::test]
async fn an_archive_of_a_docker_that_keeps_images_in_containerd_has_what_was_pulled() {
    let sides = TwoSides::start().await;
    let (pulled, bare) = (&sides.app, &sides.other);
    let absent = Image::random(7, &[10]);
    let all_platforms =
        Manifest::of_platforms(&[(pulled, "amd64"), (bare, "arm64"), (&absent, "riscv64")]);
    let (sbom, sbom_blobs) = referrer(pulled);
    let (bare_sbom, _) = referrer(bare);
    let attached = |manifest: &Manifest, to: &Image| {
        let subject = to.manifest.digest().as_str();
        entry(manifest, &json!({ "io.containerd.manifest.subject": subject }))
    };
    let manifests = [&all_platforms, &pulled.manifest, &bare.manifest, &sbom];
    let mut contents: Vec<_> = manifests.iter().map(|manifest| &manifest.blob).collect();
    contents.extend(pulled.blobs().chain(&sbom_blobs));
    let docker = json!([{
        "Config": path(&pulled.config),
        "RepoTags": ["team/app:multi"],
        "Layers": pulled.layers.iter().map(path).collect::<Vec<_>>(),
    }]);
    let listed = [named(&all_platforms, "docker.io/team/app:multi"), attached(&sbom, pulled)];
    let whole = |listed: &[Value], contents: &[&Blob]| {
        let mut all = vec![dir("blobs/"), dir("blobs/sha256/")];
        all.extend(contents.iter().copied().map(blob));
        all.push(index(listed));
        all.push(Entry::file("manifest.json", docker.to_string().as_bytes()));
        all.push(Entry::file("oci-layout", LAYOUT));
        all
    };

    let out = import(&sides, &whole(&listed, &contents)).await;

    assert!(out.contains("imported docker.io/team/app:multi\n"), "{out}");
    assert!(out.contains(&format!("imported docker.io/team/app@{}\n", sbom.digest())), "{out}");
    let client = sides.far.client();
    client.get(&format!("/v2/{APP}/manifests/multi")).await.assert_is(&all_platforms.blob);
    pull(&sides.far, pulled.manifest.digest().as_str(), pulled).await;
    let found = client.get(&format!("/v2/{APP}/referrers/{}", pulled.manifest.digest())).await;
    assert!(found.text().contains(sbom.digest().as_str()), "{}", found.text());
    for blob in &sbom_blobs {
        client.get(&blob.path(APP)).await.assert_is(blob);
    }
    client.get(&bare.layers[0].path(APP)).await.error(404);
    client.get(&absent.manifest.path(APP)).await.error(404);

    // One name is enough for all, and what signs a platform that is not there is left out.
    contents.push(&bare_sbom.blob);
    let listed = [listed[0].clone(), listed[1].clone(), attached(&bare_sbom, bare)];
    let file = sides.file("given.tar");
    fs::write(&file, archive(&whole(&listed, &contents))).unwrap();
    let given = ["import", "--name", "team/given:v1", file.to_str().unwrap()];
    let out = sides.run(&sides.far, &given).await;
    assert!(out.contains("imported docker.io/team/given:v1\n"), "{out}");
    assert!(out.contains(&format!("imported docker.io/team/given@{}\n", sbom.digest())), "{out}");
    assert!(!out.contains(bare_sbom.digest().as_str()), "{out}");
    sides.unreachable.assert_not_asked();
}

/// A manifest without a name is not put anywhere by guess.
#[tokio::test]
async fn a_manifest_without_a_name_that_refers_to_no_image_of_its_archive_is_refused() {
    let sides = TwoSides::start().await;
    let (sbom, sbom_blobs) = referrer(&sides.other);
    let (app, name) = (&sides.app, "docker.io/team/app:v1");
    let mut all = vec![index(&[named(&app.manifest, name), entry(&sbom, &json!({}))])];
    let contents = [&app.manifest.blob, &sbom.blob];
    all.extend(contents.into_iter().chain(app.blobs()).chain(&sbom_blobs).map(blob));
    let file = sides.file("saved.tar");
    fs::write(&file, archive(&all)).unwrap();
    let refused = sides.far.command(&["import", file.to_str().unwrap()]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
    let message = format!("does not say the name of its image {}", sbom.digest());
    assert!(refused.err.contains(&message), "{refused:?}");
    sides.far.client().get(&format!("/v2/{APP}/manifests/v1")).await.error(404);
}
