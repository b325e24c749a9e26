//! `larder ls`: every image that a client could be given, and whether it would be whole.

use std::fs::File;
use std::time::Duration;

use larder::clock::{SystemClock, WallClock as _};
use serde_json::Value;

use super::lab::Lab;
use crate::support::Blob;

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

fn row<'r>(rows: &'r [Value], name: &str) -> &'r Value {
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {rows:?}"))
}

/// A list must be the same whether a server runs, was killed, or has stopped.
#[tokio::test]
async fn the_list_has_every_image_with_its_size_and_what_is_missing() {
    let mut lab = Lab::start().await;
    let untagged = format!("docker.io/team/tool@{}", lab.untagged.manifest.digest());
    let live = lab.lines(&["ls", "--json"]).await;
    lab.kill();
    let files = lab.files();
    let dead = lab.lines(&["ls", "--json"]).await;
    assert_eq!(live, dead);
    assert_eq!(lab.files(), files, "a command that reads leaves no trace");

    let all = [
        "docker.io/library/alpine:3.20",
        "docker.io/library/alpine:multi",
        "docker.io/team/tool:v1",
        &untagged,
    ];
    assert_eq!(names(&live), all);
    let bytes = |blobs: &[&Blob]| blobs.iter().map(|blob| blob.len() as u64).sum::<u64>();
    let alpine = bytes(&lab.alpine.blobs().chain([&lab.alpine.manifest.blob]).collect::<Vec<_>>());
    let whole = row(&live, all[0]);
    assert_eq!((&whole["complete"], &whole["platforms"]), (&true.into(), &Value::Null));
    assert_eq!((whole["size"].as_u64(), whole["stored"].as_u64()), (Some(alpine), Some(alpine)));
    assert_eq!(whole["digest"], lab.alpine.manifest.digest().as_str());
    let multi = row(&live, all[1]);
    assert_eq!(multi["platforms"], serde_json::json!({ "pulled": 1, "listed": 2 }));
    assert_eq!(multi["complete"], true, "what clients have pulled is there");
    assert_eq!(multi["stored"], alpine + lab.multi.blob.len() as u64);
    let tool = row(&live, all[2]);
    assert_eq!((&tool["complete"], &tool["tag"]), (&false.into(), &"v1".into()));
    let missing = tool["size"].as_u64().unwrap() - tool["stored"].as_u64().unwrap();
    assert_eq!(missing, 7000, "the layer that was not pulled");
    assert_eq!(row(&live, &untagged)["tag"], Value::Null);

    lab.evict(&lab.alpine.layers[1]);
    let evicted = lab.lines(&["ls", "--json", "alpine"]).await;
    assert!(evicted.iter().all(|row| row["complete"] == false), "{evicted:?}");
}

#[tokio::test]
async fn a_list_is_filtered_and_sorted() {
    let lab = Lab::start().await;
    let untagged = format!("docker.io/team/tool@{}", lab.untagged.manifest.digest());
    let (three, multi) = ("docker.io/library/alpine:3.20", "docker.io/library/alpine:multi");
    let tool = "docker.io/team/tool:v1";
    let long_ago = SystemClock.now() - Duration::from_secs(90 * 86_400);
    for (path, _) in lab.larder.files("registries/docker.io/team") {
        File::open(path)
            .unwrap()
            .set_times(std::fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago))
            .unwrap();
    }
    for (arguments, want) in [
        (&["alpine"][..], &[three, multi][..]),
        (&["alpine:3.*"], &[three]),
        (&["*/alpine:multi"], &[multi]),
        (&["nothing"], &[]),
        (&["team/*"], &[tool, &untagged]),
        (&["--registry", "docker.io", "team"], &[tool, &untagged]),
        (&["--registry", "ghcr.io"], &[]),
        (&["--incomplete"], &[tool]),
        (&["--unused", "60d"], &[tool, &untagged]),
        (&["--unused", "100d"], &[]),
        (&["--sort", "size"], &[&untagged, multi, three, tool]),
        (&["--sort", "size", "--reverse"], &[tool, three, multi, &untagged]),
        (&["--reverse"], &[&untagged, tool, multi, three]),
        (&["--sort", "pull", "--unused", "60d", "--reverse"], &[&untagged, tool]),
    ] {
        let rows = lab.lines(&[&["ls", "--json"], arguments].concat()).await;
        assert_eq!(names(&rows), want, "{arguments:?}");
    }
    let people = lab.larder.command(&["ls", "--unused", "60d"]).await;
    let mut lines = people.out.lines();
    let head = lines.next().unwrap();
    assert!(head.starts_with("IMAGE ") && head.ends_with("LAST PULL"), "{people:?}");
    let line = lines.next().unwrap();
    assert!(line.starts_with(tool) && line.ends_with("90 days ago"), "{people:?}");
    assert!(line.contains(" no "), "{people:?}");
}

#[tokio::test]
async fn a_pattern_that_cannot_be_read_is_2_and_says_how_one_is_written() {
    let lab = Lab::start().await;
    let run = lab.larder.command(&["ls", "alpine["]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.starts_with("error: `alpine[` is not a pattern\nhint: `*` "), "{run:?}");
}
