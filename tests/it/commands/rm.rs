//! `larder rm`: an image goes, layers of others stay, and the next pull fetches what is missing.

use serde_json::Value;

use super::lab::{ALPINE, Lab, TOOL};
use crate::support::Blob;

fn texts(report: &Value, key: &str) -> Vec<String> {
    let list = report[key].as_array().unwrap().iter();
    list.map(|item| item["digest"].as_str().or(item.as_str()).unwrap().to_owned()).collect()
}

fn sorted(blobs: &[&Blob]) -> Vec<String> {
    let mut digests: Vec<_> = blobs.iter().map(|blob| blob.digest.to_string()).collect();
    digests.sort();
    digests
}

async fn names(lab: &Lab) -> Vec<String> {
    let rows = lab.lines(&["ls", "--json"]).await;
    rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// An operator removes an image to have it gone, not to break those that share its layers.
#[tokio::test]
async fn an_image_is_removed_without_the_layers_that_others_have() {
    for is_killed in [false, true] {
        let mut lab = Lab::start().await;
        if is_killed {
            lab.kill();
        }
        let files = lab.files();
        let plan = lab.larder.command(&["rm", "--json", "--dry-run", "team/tool:v1"]).await.json();
        assert_eq!(plan["dry_run"], true);
        assert_eq!(lab.files(), files, "a dry run leaves everything");
        let done = lab.larder.command(&["rm", "--json", "team/tool:v1"]).await.json();
        assert_eq!(done["dry_run"], false);
        for key in ["tags", "manifests", "removed", "removed_bytes", "kept", "broken"] {
            assert_eq!(plan[key], done[key], "{key}");
        }
        assert_eq!(texts(&done, "tags"), ["docker.io/team/tool:v1"]);
        let removed = sorted(&[&lab.tool.manifest.blob, &lab.tool.config]);
        assert_eq!(texts(&done, "removed"), removed);
        assert_eq!(texts(&done, "kept"), sorted(&[&lab.tool.layers[1]]));
        assert!(!names(&lab).await.contains(&"docker.io/team/tool:v1".to_owned()));

        if is_killed {
            lab.larder.start_again().await;
        }
        lab.hub.forget();
        lab.get(&lab.alpine.layers[0].path(ALPINE)).await;
        lab.get(&lab.alpine.manifest.path(ALPINE)).await;
        lab.hub.assert_not_asked();
        let pulled = lab.larder.client().get(&format!("/v2/{TOOL}/manifests/v1")).await;
        pulled.assert_is(&lab.tool.manifest.blob);
        assert_eq!(lab.hub.gets(lab.tool.manifest.digest()).len(), 1, "fetched again");
    }
}

#[tokio::test]
async fn a_tag_goes_alone_while_an_index_has_its_manifest() {
    let lab = Lab::start().await;
    let done = lab.larder.command(&["rm", "--json", "alpine:3.20"]).await.json();
    assert_eq!(texts(&done, "tags"), ["docker.io/library/alpine:3.20"]);
    assert_eq!((texts(&done, "manifests").len(), &done["removed_bytes"]), (0, &0.into()));
    let left = lab.larder.command(&["show", "--json", "alpine:multi"]).await.json();
    assert_eq!(left["complete"], true);

    let done = lab.larder.command(&["rm", "--json", "alpine:multi"]).await.json();
    assert_eq!(texts(&done, "manifests").len(), 2, "the index and its child");
    assert_eq!(texts(&done, "kept"), sorted(&[&lab.alpine.layers[0]]));
}

/// A wrong layer, or one that must not be on this disk, goes at once, and the report says which
/// images lack it then.
#[tokio::test]
async fn a_content_is_removed_from_every_image_and_read_to_its_end_by_clients() {
    let lab = Lab::start().await;
    let large = Blob::large(9, 32 << 20);
    lab.hub.put_blob(ALPINE, &large);
    lab.get(&large.path(ALPINE)).await;
    let mut client = lab.larder.raw().get("1.1", &large.path(ALPINE), &[]).await.unwrap();
    client.read_until(64 << 10, 64 << 10).await.unwrap();
    let digest = large.digest.to_string();
    let done = lab.larder.command(&["rm", "--json", &digest]).await.json();
    assert_eq!(texts(&done, "removed"), [digest.as_str()]);
    assert!(client.finish().await.is_complete());
    let again = lab.larder.command(&["rm", &digest]).await;
    assert_eq!((again.code, again.out.as_str()), (Some(1), ""), "{again:?}");

    let shared = lab.alpine.layers[0].digest.to_string();
    let done = lab.larder.command(&["rm", "--json", &shared]).await.json();
    let users = [
        "docker.io/library/alpine:3.20",
        "docker.io/library/alpine:multi",
        "docker.io/team/tool:v1",
    ];
    assert_eq!(texts(&done, "broken"), users);
    let manifest = lab.alpine.manifest.digest().to_string();
    let done = lab.larder.command(&["rm", &manifest]).await;
    assert!(done.out.contains("removed the tag docker.io/library/alpine:3.20\n"), "{done:?}");
    assert!(done.out.contains("incomplete from then on: docker.io/library/alpine:multi\n"));
    assert!(lab.larder.log().contains("removed from the cache by an operator"));
}

#[tokio::test]
async fn what_is_not_there_is_1_and_a_name_that_is_none_is_2_and_nothing_goes() {
    let lab = Lab::start().await;
    let all = names(&lab).await;
    let hex = "ab".repeat(32);
    for (target, code, error) in [
        ("alpine:3.19", 1, "docker.io/library/alpine:3.19 is not in the cache"),
        (&format!("sha256:{hex}"), 1, "is not in the cache"),
        ("sha256:12", 2, "`sha256:12` is not the name of an image"),
        ("*", 2, "`*` is not the name of an image"),
    ] {
        let run = lab.larder.command(&["rm", target]).await;
        assert_eq!((run.code, run.out.as_str()), (Some(code), ""), "{run:?}");
        assert!(run.err.contains(error), "{run:?}");
    }
    assert_eq!(names(&lab).await, all);
}
