//! `larder pulls`: who pulled what, as far as the log goes.

use std::fs;

use serde_json::Value;

use super::lab::{ALPINE, Lab};
use crate::support::registry::basic;

fn names(pulls: &[Value]) -> Vec<&str> {
    pulls.iter().map(|pull| pull["name"].as_str().unwrap()).collect()
}

/// The log goes on where a killed server ended it, and needs no server to be read.
#[tokio::test]
async fn pulls_are_listed_beside_a_server_after_its_death_and_after_a_restart() {
    let mut lab = Lab::start().await;
    let untagged = format!("docker.io/team/tool@{}", lab.untagged.manifest.digest());
    let pulled = lab.lines(&["pulls", "--json"]).await;
    let (three, multi) = ("docker.io/library/alpine:3.20", "docker.io/library/alpine:multi");
    // The child of `multi` is no pull of its own, and the untagged image was pulled right behind
    // the tag of the same repository.
    assert_eq!(names(&pulled), ["docker.io/team/tool:v1", multi, three]);
    for pull in &pulled {
        assert_eq!((&pull["address"], &pull["user"]), (&"127.0.0.1".into(), &Value::Null));
        assert_eq!(pull["decision"], "miss");
    }
    lab.kill();
    assert_eq!(lab.lines(&["pulls", "--json"]).await, pulled);

    lab.larder.start_again().await;
    lab.get(&format!("/v2/{ALPINE}/manifests/3.20")).await;
    lab.get(&lab.untagged.manifest.path("team/tool")).await;
    lab.until_logged(5).await;
    let pulled = lab.lines(&["pulls", "--json"]).await;
    assert_eq!(names(&pulled)[..2], [&untagged, three]);
    assert_eq!(pulled[1]["decision"], "hit");
    let rows = lab.lines(&["ls", "--json", "--sort", "pulls"]).await;
    let counts: Vec<_> = rows.iter().map(|row| row["pulls"].as_u64().unwrap()).collect();
    assert_eq!((names(&rows)[0], counts), (three, vec![2, 1, 1, 1]));
    assert_eq!(lab.larder.command(&["show", "--json", three]).await.json()["pulls"], 2);
    for (arguments, want) in [
        (&["alpine:3.*"][..], 2),
        (&["docker.io/**"], 5),
        (&["team/*"], 2),
        (&["tool"], 2),
        (&["nothing"], 0),
        (&["--since", "1h"], 5),
        (&["--user", "ann"], 0),
    ] {
        let listed = lab.lines(&[&["pulls", "--json"], arguments].concat()).await;
        assert_eq!(listed.len(), want, "{arguments:?}");
    }
    let people = lab.larder.command(&["pulls", "alpine:multi"]).await;
    let lines: Vec<&str> = people.out.lines().collect();
    assert!(lines[0].starts_with("PULLED ") && lines[1].contains(multi), "{people:?}");
}

#[tokio::test]
async fn the_user_of_a_pull_is_listed_and_none_for_an_anonymous_client() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = bcrypt::hash_with_result("secret-of-ann", 4).unwrap();
    fs::write(file.path(), format!("ann:{hash}\n")).unwrap();
    let lab = Lab::with_keys(&format!(
        "[access]\nchallenge = 'basic'\nhtpasswd = '{}'",
        file.path().display()
    ))
    .await;
    let login = basic("ann", "secret-of-ann");
    let path = format!("/v2/{ALPINE}/manifests/3.20");
    let headers = [("authorization", login.as_str())];
    lab.larder.client().get_with(&path, &headers).await.assert_status(200);
    lab.until_logged(4).await;

    let of_ann = lab.lines(&["pulls", "--json", "--user", "ann"]).await;
    assert_eq!(names(&of_ann), ["docker.io/library/alpine:3.20"]);
    assert_eq!(lab.lines(&["pulls", "--json"]).await.len(), 4);
    let log = lab.larder.command(&["pulls"]).await.out;
    assert!(!log.contains("secret-of-ann") && log.contains(" ann "), "{log}");
}

/// The log has a bound, whatever clients pull, and its newest pulls are those that stay.
#[tokio::test]
async fn a_log_that_is_too_long_loses_its_oldest_pulls() {
    let lab = Lab::start().await;
    let path = lab.larder.cache_dir().join("registries/_pulls");
    let first = fs::read_to_string(&path).unwrap();
    fs::write(&path, first.repeat((1 << 20) / first.len() + 1)).unwrap();
    lab.hub.put_image("team/other", "new", &lab.alpine);
    lab.get("/v2/team/other/manifests/new").await;

    let is_short = |larder: &crate::support::Process| {
        larder.files("registries").iter().any(|(file, len)| *file == path && *len <= 600 << 10)
    };
    lab.larder.until(is_short, "the log is shortened").await;
    let pulled = lab.lines(&["pulls", "--json"]).await;
    assert_eq!(names(&pulled)[0], "docker.io/team/other:new");
    assert!((1000..8000).contains(&pulled.len()), "{}", pulled.len());
}
