//! Archives that are damaged, or made to do harm: refused, with a message, and nothing applied.

use std::fs;

use tar::EntryType;

use super::archive::{Entry, archive, entries};
use super::two_sides::{APP, TwoSides, pull};

/// Changes the entries of a good bundle. `layer` and `manifest` are the paths of two of them.
type Change = fn(&mut Vec<Entry>, layer: usize, manifest: usize);

/// Each way to be refused, with words of its message.
const HOSTILE: &[(&str, Change, &str)] = &[
    ("a flipped byte", |all, layer, _| all[layer].bytes[7] ^= 1, "is damaged: expected sha256:"),
    ("a blob less", |all, layer, _| drop(all.remove(layer)), "neither in the archive nor in the"),
    ("a manifest less", |all, _, at| drop(all.remove(at)), "neither in the archive nor in the"),
    (
        "a manifest of another name",
        |all, _, manifest| all[manifest].bytes = br#"{"schemaVersion":2,"layers":[]}"#.to_vec(),
        "is damaged: expected sha256:",
    ),
    (
        "a path that climbs out",
        |all, _, _| all.insert(2, Entry::file("blobs/../../../evil", b"x")),
        "no path in the archive",
    ),
    (
        "an absolute path",
        |all, _, _| all.insert(2, Entry::file("/tmp/evil", b"x")),
        "no path in the archive",
    ),
    (
        "a link in the place of a blob",
        |all, layer, _| all[layer] = Entry::link(&all[layer].name, "/etc/passwd"),
        "a link that leads elsewhere",
    ),
    (
        "a hard link",
        |all, _, _| all.push(Entry::of(EntryType::Link, "hard", b"")),
        "is a hard link",
    ),
    ("a device", |all, _, _| all.push(Entry::of(EntryType::Char, "null", b"")), "is a device"),
    ("a pipe", |all, _, _| all.push(Entry::of(EntryType::Fifo, "pipe", b"")), "is a pipe"),
    (
        "a sparse file",
        |all, layer, _| all[layer].kind = EntryType::GNUSparse,
        "cannot read the archive",
    ),
    ("ten terabytes", |all, layer, _| all[layer].claims = Some(10 << 40), "the cache has no room"),
    ("a blob twice", |all, layer, _| all.push(all[layer].clone()), "is in the archive twice"),
    ("an index twice", |all, _, _| all.push(all[1].clone()), "is in the archive twice"),
    (
        "a blob by another digest",
        |all, layer, _| all[layer].name = format!("blobs/sha256/{}", "0".repeat(64)),
        "is damaged: expected sha256:000",
    ),
    (
        "a blob by no digest",
        |all, layer, _| all[layer].name = "blobs/sha256/latest".into(),
        "is named by no digest",
    ),
    ("no index", |all, _, _| drop(all.remove(1)), "it is no archive of images"),
    ("an index that is none", |all, _, _| all[1].bytes = b"<html>".to_vec(), "cannot be read"),
    ("no image", |all, _, _| all[1].bytes = b"{}".to_vec(), "there is no image"),
    (
        "another size in the index",
        |all, _, _| replace(&mut all[1], r#""size":"#, r#""size":1"#),
        "bytes, and 1",
    ),
    (
        "another type in the index",
        |all, _, _| replace(&mut all[1], "oci.image.manifest.v1", "oci.image.index.v1"),
        "is listed as application/vnd.oci.image.index.v1+json",
    ),
    (
        "a name that climbs out",
        |all, _, _| replace(&mut all[1], "docker.io/team/app:v1", "../../team/app:v1"),
        "does not say the name",
    ),
];

fn replace(entry: &mut Entry, before: &str, after: &str) {
    let text = String::from_utf8(entry.bytes.clone()).unwrap();
    assert!(text.contains(before), "{text}");
    entry.bytes = text.replace(before, after).into_bytes();
}

async fn assert_refused(sides: &TwoSides, what: &str, message: &str, is_served: bool) {
    let file = sides.file("hostile.tar");
    let run = sides.far.command(&["import", file.to_str().unwrap()]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{what}: {run:?}");
    assert!(run.err.starts_with("error: ") && run.err.contains(message), "{what}: {run:?}");
    let listed = sides.run(&sides.far, &["ls", "--json"]).await;
    assert_eq!(listed, "", "{what}");
    assert!(sides.far.files("uploads").is_empty(), "{what}");
    if is_served {
        let client = sides.far.client();
        client.get(&format!("/v2/{APP}/manifests/v1")).await.assert_status(404);
        for blob in sides.app.blobs().chain([&sides.app.manifest.blob]) {
            client.get(&blob.path(APP)).await.assert_status(404);
        }
    }
}

#[tokio::test]
async fn an_archive_that_is_damaged_or_hostile_is_refused_and_nothing_of_it_is_applied() {
    let mut sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    let bundle = sides.export("bundle.tar", &["team/app:v1"]).await;
    let good = entries(&bundle);
    let at = |digest: &str| good.iter().position(|entry| entry.name.ends_with(digest)).unwrap();
    let layer = at(sides.app.layers[0].digest.hex());
    let manifest = at(sides.app.manifest.digest().hex());
    for is_killed in [false, true] {
        if is_killed {
            sides.far.kill();
        }
        for (what, change, message) in HOSTILE {
            // Contents of archives that were refused are kept, and found by the next one.
            if what.ends_with("less") || *what == "ten terabytes" {
                for blob in sides.app.blobs().chain([&sides.app.manifest.blob]) {
                    sides.far.command(&["rm", blob.digest.as_str()]).await;
                }
            }
            let mut all = good.clone();
            change(&mut all, layer, manifest);
            fs::write(sides.file("hostile.tar"), archive(&all)).unwrap();
            assert_refused(&sides, what, message, !is_killed).await;
        }
        let whole = fs::read(&bundle).unwrap();
        for len in [0, 100, 700, whole.len() / 2] {
            fs::write(sides.file("hostile.tar"), &whole[..len]).unwrap();
            assert_refused(&sides, &format!("cut at {len}"), "", !is_killed).await;
        }
        for (bytes, message) in [
            (vec![b'x'; 4096], "cannot read the archive"),
            ([&b"\x1f\x8b"[..], &[0; 4096]].concat(), "cannot read the archive"),
        ] {
            fs::write(sides.file("hostile.tar"), bytes).unwrap();
            assert_refused(&sides, "no archive", message, !is_killed).await;
        }
    }
    sides.far.start_again().await;
    sides.far.client().get("/v2/").await.assert_status(200);
    sides.run(&sides.far, &["import", bundle.to_str().unwrap()]).await;
    pull(&sides.far, "v1", &sides.app).await;
}
