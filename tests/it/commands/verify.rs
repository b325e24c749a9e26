//! `larder verify`: what the disk has made wrong is found, and put right by a server that runs.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::lab::{ALPINE, Lab};
use crate::support::Blob;

/// Changes a byte as a disk does that rots: it does not tell.
fn rot(lab: &Lab, blob: &Blob) {
    let path = lab.blob_file(blob);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[blob.bytes[0] ^ 1], 0).unwrap();
    file.set_modified(modified).unwrap();
}

fn report(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[tokio::test]
async fn all_contents_are_read_and_right_with_a_server_and_without() {
    let mut lab = Lab::start().await;
    let bytes: u64 = lab.larder.files("blobs").iter().map(|(_, len)| len).sum();
    for is_killed in [false, true] {
        if is_killed {
            lab.kill();
        }
        let all = lab.larder.command(&["verify", "--json"]).await.json();
        assert_eq!((&all["done"], &all["wrong"]), (&true.into(), &serde_json::json!([])), "{all}");
        let counts = ["verified", "of", "verified_bytes", "of_bytes"].map(|key| all[key].as_u64());
        assert_eq!(counts, [Some(10), Some(10), Some(bytes), Some(bytes)], "{all}");
        let some = lab.larder.command(&["verify", "--json", "--subset", "0.0001%"]).await.json();
        assert!(some["of"].as_u64().unwrap() <= 1, "{some}");
        let people = lab.larder.command(&["verify"]).await;
        assert_eq!((people.code, people.err.as_str()), (Some(0), ""), "{people:?}");
        assert!(people.out.ends_with(" in 10 contents: 10 are right\n"), "{people:?}");
    }
}

/// The exit code is what a nightly job looks at: it must not hide a disk that rots.
#[tokio::test]
async fn a_wrong_content_is_1_and_fetched_again_by_the_server() {
    let mut lab = Lab::start().await;
    let wrong = [lab.alpine.layers[0].clone(), lab.alpine.manifest.blob.clone()];
    for is_killed in [false, true] {
        if is_killed {
            lab.kill();
        }
        for blob in &wrong {
            rot(&lab, blob);
        }
        let run = lab.larder.command(&["verify", "--json"]).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        let want = "error: 2 of 10 contents are wrong\nhint: check the disk and the memory";
        assert!(run.err.starts_with(want), "{run:?}");
        let found = report(&run.out);
        let state = if is_killed { "removed" } else { "restored" };
        for blob in &wrong {
            let found = found["wrong"].as_array().unwrap();
            let row = found.iter().find(|row| row["digest"] == blob.digest.as_str()).unwrap();
            assert_eq!(row["state"], state, "{row}");
            let stored = fs::read(lab.blob_file(blob)).ok();
            assert_eq!(stored.is_none(), is_killed);
            assert!(stored.is_none_or(|bytes| bytes == blob.bytes));
        }
        let again = lab.larder.command(&["verify", "--json"]).await.json();
        assert_eq!(again["of"], if is_killed { 8 } else { 10 });
    }
    lab.larder.start_again().await;
    let layer = lab.larder.client().get(&wrong[0].path(ALPINE)).await;
    layer.assert_is(&wrong[0]);
}
