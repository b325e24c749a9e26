//! Signatures of bundles: made by an export, asked for by an import.

use std::fs;
use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustix::process::Signal;

use super::archive::{Entry, archive, entries};
use super::two_sides::{TwoSides, pull};
use crate::support::Process;

/// A pair of keys as files, `NAME.key` and `NAME.pub`.
fn write_pair(dir: &Path, name: &str) {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    fs::write(dir.join(format!("{name}.key")), pair.serialize_pem()).unwrap();
    fs::write(dir.join(format!("{name}.pub")), pair.public_key_pem()).unwrap();
}

/// Has the far side take what these have signed, and nothing else, from now on.
async fn trust(far: &Process, before: &str, keys: &[&Path]) {
    let keys = keys.iter().map(|key| format!("'{}'", key.display())).collect::<Vec<_>>();
    let reads = far.log().matches("was read again").count();
    far.change_config(before, &format!("[import]\nkeys = [{}]\n[cache]\n", keys.join(", ")));
    far.signal(Signal::HUP);
    let is_read = |far: &Process| far.log().matches("was read again").count() > reads;
    far.until(is_read, "the configuration was not read again").await;
}

async fn assert_refused(sides: &TwoSides, what: &str, all: &[Entry], message: &str) {
    let file = sides.file("refused.tar");
    fs::write(&file, archive(all)).unwrap();
    let run = sides.far.command(&["import", file.to_str().unwrap()]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{what}: {run:?}");
    assert!(run.err.contains(message), "{what}: {run:?}");
    assert_eq!(sides.run(&sides.far, &["ls", "--json"]).await, "", "{what}");
    for part in ["blobs", "uploads"] {
        assert!(sides.far.files(part).is_empty(), "{what}: something was stored");
    }
}

#[tokio::test]
async fn with_keys_only_a_bundle_is_imported_that_one_of_them_has_signed_and_that_is_as_it_was() {
    let mut sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    let (dir, file) = (sides.carried.path().to_owned(), |name: &str| sides.file(name));
    write_pair(&dir, "near");
    write_pair(&dir, "other");
    let [near, other] = ["near.pub", "other.pub"].map(file);
    let (key, bundle) = (sides.file("near.key"), sides.file("bundle.tar"));
    let arguments = ["team/app:v1", "--sign", key.to_str().unwrap()];
    sides.export("bundle.tar", &arguments).await;
    let plain = entries(&sides.export("plain.tar", &["team/app:v1"]).await);
    let good = entries(&bundle);
    assert_eq!(good[2].name, "index.json.sig");
    trust(&sides.far, "[cache]\n", &[&other, &near]).await;

    let mut renamed = good.clone();
    let index = String::from_utf8(renamed[1].bytes.clone()).unwrap();
    renamed[1].bytes = index.replace("team/app:v1", "team/app:v2").into_bytes();
    let late = [&good[..2], &good[3..], &good[2..3]].concat();
    let alone = vec![renamed[1].clone()];
    let loose = vec![Entry::file("manifest.json", b"[]"), Entry::file("layer.tar", b"layer")];
    for is_killed in [false, true] {
        if is_killed {
            sides.far.kill();
        }
        for (what, all, message) in [
            ("unsigned", &plain, "the archive is not signed"),
            ("with another name", &renamed, "no key of `[import]` has signed"),
            ("signed behind its contents", &late, "the archive is not signed"),
            ("an index alone", &alone, "the archive is not signed"),
            ("of docker save", &loose, "the archive is not signed"),
        ] {
            assert_refused(&sides, what, all, message).await;
        }
    }
    sides.far.start_again().await;
    sides.far.client().get("/v2/").await.assert_status(200);

    let before = fs::read_to_string(sides.far.cache_dir().with_file_name("config.toml")).unwrap();
    let table = before.split("[import]").nth(1).unwrap().split("[cache]\n").next().unwrap();
    let table = format!("[import]{table}[cache]\n");
    trust(&sides.far, &table, &[&other]).await;
    assert_refused(&sides, "by a key that went", &good, "no key of `[import]` has signed").await;
    trust(&sides.far, &table.replace(&format!(", '{}'", near.display()), ""), &[&near]).await;
    sides.run(&sides.far, &["import", bundle.to_str().unwrap()]).await;
    pull(&sides.far, "v1", &sides.app).await;
}

/// A bundle that was unpacked to be looked at, or signed by another program.
#[tokio::test]
async fn a_directory_is_verified_before_its_contents_are_read() {
    let mut sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    write_pair(sides.carried.path(), "near");
    let (key, public) = (sides.file("near.key"), sides.file("near.pub"));
    let arguments = ["team/app:v1", "--sign", key.to_str().unwrap()];
    let bundle = sides.export("bundle.tar", &arguments).await;
    let dir = sides.file("unpacked");
    for entry in entries(&bundle) {
        fs::create_dir_all(dir.join(&entry.name).parent().unwrap()).unwrap();
        fs::write(dir.join(&entry.name), &entry.bytes).unwrap();
    }
    trust(&sides.far, "[cache]\n", &[&public]).await;
    sides.far.kill();
    sides.run(&sides.far, &["import", dir.to_str().unwrap()]).await;
    sides.far.start_again().await;
    pull(&sides.far, "v1", &sides.app).await;
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_told_before_anything_is_written() {
    let sides = TwoSides::start().await;
    sides.pull("v1", &sides.app).await;
    write_pair(sides.carried.path(), "near");
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    fs::write(sides.file("sealed.key"), sealed).unwrap();
    let out = sides.file("bundle.tar");
    for (key, message) in [
        ("near.pub", "it has no private key in PEM"),
        ("sealed.key", "its key is encrypted"),
        ("nowhere.key", "No such file"),
    ] {
        let key = sides.file(key);
        let arguments = ["export", "-o", out.to_str().unwrap(), "--sign", key.to_str().unwrap()];
        let run = sides.near.command(&[&arguments[..], &["team/app:v1"]].concat()).await;
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.err.contains("cannot sign with ") && run.err.contains(message), "{run:?}");
        assert!(!out.exists());
    }
}
