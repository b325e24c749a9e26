//! Every command in every state of the server: running, none, killed and started again.
//!
//! `LARDER_ROUNDS=50 cargo test --test it states` kills it as often during each command.

use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{ALPINE, Lab};
use crate::support::process::CommandRun;
use crate::support::{Version, often};

/// A command, and what of its JSON is the same in every state.
struct Case {
    arguments: &'static [&'static str],
    essence: fn(&[Value]) -> Value,
}

const CASES: &[Case] = &[
    Case {
        arguments: &["ls", "--json"],
        essence: |rows| fields(rows, &["name", "size", "complete"]),
    },
    Case {
        arguments: &["show", "--json", "alpine:multi"],
        essence: |rows| fields(rows, &["name", "digest", "size", "complete", "missing"]),
    },
    Case {
        arguments: &["why", "--json", "alpine:3.20"],
        essence: |rows| fields(rows, &["digest", "missing"]),
    },
    Case {
        arguments: &["rm", "--json", "--dry-run", "team/tool:v1"],
        essence: |rows| fields(rows, &["tags", "manifests", "removed", "kept", "broken"]),
    },
    Case { arguments: &["pulls", "--json"], essence: |rows| fields(rows, &["name", "at"]) },
    // A server that has just started counts anew.
    Case {
        arguments: &["stats", "--json"],
        essence: |rows| json!(rows[0]["blobs"].as_u64().is_some_and(|blobs| blobs <= 10)),
    },
    Case {
        arguments: &["pin", "--json", "alpine:3.20"],
        essence: |rows| fields(rows, &["pinned"]),
    },
    Case {
        arguments: &["unpin", "--json", "alpine:3.20"],
        essence: |rows| fields(rows, &["pinned"]),
    },
    Case {
        arguments: &["verify", "--json"],
        essence: |rows| fields(rows, &["wrong", "verified", "of"]),
    },
];

fn fields(rows: &[Value], names: &[&str]) -> Value {
    let of = |row: &Value| names.iter().map(|name| row[*name].clone()).collect::<Value>();
    rows.iter().map(of).collect()
}

fn rows(run: &CommandRun) -> Vec<Value> {
    let row = |line: &str| serde_json::from_str(line).unwrap_or_else(|it| panic!("{it}: {run:?}"));
    run.out.lines().map(row).collect()
}

/// The command did what it was asked for, and said what is so.
#[track_caller]
fn assert_right(case: &Case, run: &CommandRun, right: &Value, state: &str) {
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{state}: {run:?}");
    assert_eq!((case.essence)(&rows(run)), *right, "{state}: {run:?}");
}

/// The command failed with a reason: the contract's exit code, and no panic.
#[track_caller]
fn assert_explained(run: &CommandRun) {
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.starts_with("error: ") && !run.err.contains("panicked"), "{run:?}");
}

/// Kills the server in the middle of a command, and starts it again: at once, or as soon as the
/// command leaves the directory to it.
async fn killed_during(
    lab: &mut Lab,
    arguments: &[&str],
    random: &mut fastrand::Rng,
) -> CommandRun {
    let running = tokio::spawn(lab.larder.begin_command(arguments));
    tokio::time::sleep(Duration::from_millis(random.u64(..80))).await;
    lab.larder.kill();
    tokio::time::sleep(Duration::from_millis(random.u64(..40))).await;
    start(lab).await;
    running.await.unwrap()
}

/// Starts the server until it serves: a command may have the directory to itself for a while.
async fn start(lab: &mut Lab) {
    for _ in 0..200 {
        let started = lab.larder.try_start_again().await;
        while started.is_ok() && !lab.larder.has_ended() {
            if lab.larder.client().try_get(Version::Http11, "/v2/").await.is_ok() {
                return;
            }
        }
        assert!(lab.larder.log().contains("in use by another larder"), "{}", lab.larder.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a command does not end: {}", lab.larder.log());
}

#[tokio::test]
async fn every_command_is_right_or_says_why_not_whatever_the_server_does() {
    let mut lab = Lab::start().await;
    let mut random = fastrand::Rng::with_seed(5);
    let (mut right_ones, mut failed) = (0, 0);
    for case in CASES {
        let running = lab.larder.command(case.arguments).await;
        let right = (case.essence)(&rows(&running));
        assert!(right != json!([]) && right != json!(false), "{running:?}");
        assert_right(case, &running, &right, "a server runs");
        for _ in 0..often("LARDER_ROUNDS", 4) {
            let run = killed_during(&mut lab, case.arguments, &mut random).await;
            if run.code == Some(0) {
                right_ones += 1;
                assert_right(case, &run, &right, "it is killed");
            } else {
                failed += 1;
                assert_explained(&run);
            }
        }
        lab.kill();
        assert_right(case, &lab.larder.command(case.arguments).await, &right, "none runs");
        start(&mut lab).await;
    }
    assert!(right_ones > failed, "{right_ones} were right, {failed} failed");
    assert_undamaged(&lab).await;
}

/// A removal is done or not; a half is none that a pull notices.
#[tokio::test]
async fn a_removal_in_which_the_server_dies_damages_nothing() {
    let mut lab = Lab::start().await;
    let mut random = fastrand::Rng::with_seed(6);
    let tool = |path: &str| format!("/v2/{}/{path}", super::lab::TOOL);
    for _ in 0..often("LARDER_ROUNDS", 4) {
        let run = killed_during(&mut lab, &["rm", "--json", "team/tool:v1"], &mut random).await;
        let names = fields(&lab.lines(&["ls", "--json"]).await, &["name"]).to_string();
        if run.code == Some(0) {
            assert!(!names.contains("docker.io/team/tool:v1"), "{names}");
        } else {
            assert_explained(&run);
        }
        let manifest = lab.larder.client().get(&tool("manifests/v1")).await;
        manifest.assert_is(&lab.tool.manifest.blob);
        for blob in lab.tool.blobs() {
            lab.larder.client().get(&tool(&format!("blobs/{}", blob.digest))).await.assert_is(blob);
        }
    }
    assert_undamaged(&lab).await;
}

/// Every content is what its name says, and what was pulled is still there.
async fn assert_undamaged(lab: &Lab) {
    let report = lab.larder.command(&["verify", "--json"]).await.json();
    assert_eq!(report["wrong"], json!([]), "{report}");
    lab.hub.forget();
    for blob in lab.alpine.blobs() {
        lab.larder.client().get(&blob.path(ALPINE)).await.assert_is(blob);
    }
    let manifest = lab.alpine.manifest.path(ALPINE);
    lab.larder.client().get(&manifest).await.assert_is(&lab.alpine.manifest.blob);
    lab.hub.assert_not_asked();
}
