//! Archives and directories of other tools.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::archive::{Entry, archive, entries};
use super::two_sides::{APP, TwoSides, pull};
use crate::support::{Blob, Image};

/// Docker before version 25, podman and crane: no manifest, and a link for a layer that two images
/// have.
#[tokio::test]
async fn an_archive_of_docker_save_without_manifests_gets_them() {
    let sides = TwoSides::start().await;
    let layers = [Blob::random(1, 20_000), Blob::random(2, 300)];
    let (base, app) = (docker_config(&layers[..1]), docker_config(&layers));
    let name = |config: &Blob| format!("{}.json", config.digest.hex());
    let index = format!(
        r#"[{{"Config":"{}","RepoTags":["base:1"],"Layers":["b/layer.tar"]}},
            {{"Config":"{}","RepoTags":["team/app:v1","app:2"],
              "Layers":["a/layer.tar","c/layer.tar"]}}]"#,
        name(&base),
        name(&app),
    );
    let all = [
        Entry::file("a/VERSION", b"1.0"),
        Entry::link("a/layer.tar", "../b/layer.tar"),
        Entry::file("b/layer.tar", &layers[0].bytes),
        Entry::file("c/layer.tar", &layers[1].bytes),
        Entry::file(&name(&base), &base.bytes),
        Entry::file(&name(&app), &app.bytes),
        Entry::file("manifest.json", index.as_bytes()),
        Entry::file("repositories", b"{}"),
    ];
    let file = sides.file("saved.tar");
    fs::write(&file, archive(&all)).unwrap();

    let out = sides.run(&sides.far, &["import", file.to_str().unwrap()]).await;

    for image in ["library/base:1", "team/app:v1", "library/app:2"] {
        assert!(out.contains(&format!("imported docker.io/{image}\n")), "{out}");
        let shown = sides.run(&sides.far, &["show", image, "--json"]).await;
        assert!(shown.contains(r#""complete":true"#), "{shown}");
    }
    let client = sides.far.client();
    let manifest = client.get("/v2/team/app/manifests/v1").await;
    let text = String::from_utf8(manifest.body.to_vec()).unwrap();
    for blob in layers.iter().chain([&app]) {
        assert!(text.contains(blob.digest.as_str()), "{text}");
        client.get(&blob.path(APP)).await.assert_is(blob);
    }

    for (at, why) in [(2, "the layer `b/layer.tar` is"), (5, "not what its name says")] {
        let mut wrong = all.clone();
        wrong[at].bytes.push(b' ');
        fs::write(&file, archive(&wrong)).unwrap();
        let run = sides.far.command(&["import", file.to_str().unwrap()]).await;
        assert!(run.code == Some(1) && run.err.contains(why), "{run:?}");
    }
}

fn docker_config(layers: &[Blob]) -> Blob {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let rootfs = serde_json::json!({ "type": "layers", "diff_ids": diff_ids });
    Blob::new(serde_json::json!({ "architecture": "amd64", "rootfs": rootfs }).to_string())
}

/// As other tools write them: with a tag alone, unpacked, and compressed.
#[tokio::test]
async fn a_layout_is_taken_from_a_directory_and_compressed_under_a_given_name() {
    let sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    let bundle = sides.export("bundle.tar", &["team/app:v1"]).await;
    let mut all = entries(&bundle);
    let index = String::from_utf8(all[1].bytes.clone()).unwrap();
    let start = index.find(r#""annotations""#).unwrap();
    let annotations = r#""annotations":{"org.opencontainers.image.ref.name":"v3"}}]}"#;
    all[1].bytes = format!("{}{annotations}", &index[..start]).into_bytes();
    let dir = sides.file("layout");
    unpack(&dir, &all);
    let unnamed = sides.far.command(&["import", dir.to_str().unwrap()]).await;
    assert_eq!(unnamed.code, Some(1), "{unnamed:?}");
    assert!(unnamed.err.contains("hint: give its name: `--name"), "{unnamed:?}");
    let named = ["import", "--name", "team/app", dir.to_str().unwrap()];
    let out = sides.run(&sides.far, &named).await;
    assert!(out.contains("imported docker.io/team/app:v3"), "{out}");
    pull(&sides.far, "v3", &sides.app).await;

    let gz = sides.file("bundle.tar.gz");
    let mut encoder = GzEncoder::new(fs::File::create(&gz).unwrap(), Compression::fast());
    encoder.write_all(&fs::read(&bundle).unwrap()).unwrap();
    encoder.finish().unwrap();
    let named = ["import", "--name", "team/app:v4", gz.to_str().unwrap()];
    let out = sides.run(&sides.far, &named).await;
    assert!(out.contains("imported docker.io/team/app:v4"), "{out}");
    pull(&sides.far, "v4", &sides.app).await;

    std::os::unix::fs::symlink("/etc/passwd", dir.join("blobs/sha256/passwd")).unwrap();
    let refused = sides.far.command(&["import", dir.to_str().unwrap()]).await;
    assert!(refused.code == Some(1) && refused.err.contains("is a link"), "{refused:?}");
}

fn unpack(dir: &Path, entries: &[Entry]) {
    for entry in entries {
        let path = dir.join(&entry.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &entry.bytes).unwrap();
    }
}

/// A mirror of distribution is taken over as it is: what it lacks is told and left out.
#[tokio::test]
async fn the_storage_tree_of_a_registry_is_taken_over_without_what_it_lacks() {
    let sides = TwoSides::start().await;
    let lacking = Image::random(7, &[500, 600]);
    let tree = sides.file("docker/registry/v2");
    let mut files = Vec::new();
    for (tag, image) in [("v1", &sides.app), ("v2", &sides.other), ("v9", &lacking)] {
        let digest = image.manifest.digest();
        let manifests = format!("repositories/{APP}/_manifests");
        let link = |path: &str| Entry::file(path, digest.as_str().as_bytes());
        files.push(link(&format!("{manifests}/tags/{tag}/current/link")));
        files.push(link(&format!("{manifests}/revisions/sha256/{}/link", digest.hex())));
        for blob in image.blobs().chain([&image.manifest.blob]) {
            let hex = blob.digest.hex();
            let path = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
            files.push(Entry::file(&path, &blob.bytes));
        }
    }
    let gone = lacking.layers[1].digest.hex();
    files.retain(|file| !file.name.contains(gone));
    unpack(&tree, &files);
    fs::create_dir_all(tree.join(format!("repositories/{APP}/_uploads/x"))).unwrap();

    let unnamed = sides.far.command(&["import", tree.to_str().unwrap()]).await;
    assert!(unnamed.code == Some(1) && unnamed.err.contains("--registry"), "{unnamed:?}");
    for dir in [sides.file(""), tree] {
        let command = ["import", "--registry", "docker.io", dir.to_str().unwrap()];
        let run = sides.far.command(&command).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.out.contains("imported docker.io/team/app:v1\n"), "{run:?}");
        let left_out = "left out docker.io/team/app:v9: docker.io/team/app:v9 lists sha256:";
        assert!(run.out.contains(left_out), "{run:?}");
    }
    pull(&sides.far, "v1", &sides.app).await;
    pull(&sides.far, "v2", &sides.other).await;
    sides.far.client().get(&format!("/v2/{APP}/manifests/v9")).await.assert_status(404);
}
